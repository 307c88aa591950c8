//! What is served: the directory, told of the flags.

use std::io;

use http::HeaderValue;
use http::header::ACCESS_CONTROL_ALLOW_ORIGIN;
use lendfile::ServeDir;
use lendfile::service::{CacheLimits, Coding, Disposition, Symlinks};

use crate::args::Serve;
use crate::args::serve::SymlinkRule;

/// Files kept open, if the process may have many more: opening one again costs 3 µs.
const MOST_FILES: u64 = 4096;

/// The service of every connection, which may keep this many files open.
pub(super) fn site(args: &Serve, descriptors: u64) -> io::Result<ServeDir> {
    let asked = &args.responses;
    let mut site = ServeDir::new(&args.dir)?
        .cache(CacheLimits::default().descriptors(descriptors.min(MOST_FILES)))
        .index_files(
            asked
                .index
                .iter()
                .filter(|name| !name.as_os_str().is_empty()),
        )
        .symlinks(match asked.symlinks {
            SymlinkRule::Inside => Symlinks::Inside,
            SymlinkRule::Refuse => Symlinks::Refuse,
        });
    if let Some(page) = &asked.not_found {
        site = site.not_found(page);
    }
    if let Some(page) = &asked.spa {
        site = site.single_page(page);
    }
    if asked.listing {
        site = site.listing();
    }
    if asked.dotfiles {
        site = site.dotfiles();
    }
    if asked.precompressed {
        site = site.precompressed(Coding::ALL);
    }
    if asked.immutable_hashed {
        site = site.immutable_hashed();
    }
    if asked.download {
        site = site.disposition(Disposition::Attachment);
    }
    if asked.stable {
        site = site.stable();
    }
    if let Some(limit) = args.limits.rate() {
        site = site.rate_limit(limit);
    }
    for rule in &asked.cache_control {
        let value = rule.value.clone();
        site = match &rule.pattern {
            None => site.cache_control(value),
            Some(pattern) if is_media_range(pattern) => site.cache_control_for_type(pattern, value),
            Some(glob) => site.cache_control_for_glob(glob, value)?,
        };
    }
    if asked.cors {
        let any = HeaderValue::from_static("*");
        site = site.header(ACCESS_CONTROL_ALLOW_ORIGIN, any);
    }
    for (name, value) in &asked.header {
        site = site.header(name.clone(), value.clone());
    }
    Ok(site)
}

/// `text/html` or `image/*`; a path's glob has a dot, a double star or no slash.
fn is_media_range(pattern: &str) -> bool {
    const TYPES: [&str; 9] = [
        "application",
        "audio",
        "font",
        "image",
        "message",
        "model",
        "multipart",
        "text",
        "video",
    ];
    let top = pattern.split_once('/').map(|(top, _)| top);
    top.is_some_and(|top| TYPES.contains(&top)) && !pattern.contains("**")
}
