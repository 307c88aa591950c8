//! What is served: the directory, told of the flags.

use std::io;
use std::sync::Arc;

use lendfile::ServeDir;
use lendfile::service::{CacheLimits, Coding, Disposition, Root, Symlinks};

use super::cors::Cors;
use crate::args::Serve;
use crate::args::serve::{Responses, SymlinkRule};
use crate::failure::Failure;

/// Files kept open, if the process may have many more: opening one again costs 3 µs.
const MOST_FILES: u64 = 4096;

/// The service of every connection, which may keep this many files open.
pub(super) fn site(args: &Serve, descriptors: u64) -> Result<ServeDir, Failure> {
    let asked = &args.responses;
    let mut site = ServeDir::new(&args.dir)
        .map_err(|error| Failure::directory("serve", &args.dir, &error))?
        .cache(CacheLimits::default().descriptors(descriptors.min(MOST_FILES)))
        .index_files(
            asked
                .index
                .iter()
                .filter(|name| !name.as_os_str().is_empty()),
        )
        .symlinks(symlinks(asked));
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
            Some(glob) => site.cache_control_for_glob(glob, value).map_err(|_| {
                Failure::usage(format_args!(
                    "--cache-control: {glob:?} is no pattern for names; write *.css, assets/**/*.js or image/*"
                ))
            })?,
        };
    }
    for (name, value) in &asked.header {
        site = site.header(name.clone(), value.clone());
    }
    Ok(site)
}

/// What `--cors` adds.
pub(super) fn cors(args: &Serve) -> Result<Option<Arc<Cors>>, Failure> {
    let asked = &args.responses;
    let cors = asked.cors.then(|| Cors::beside(&asked.header));
    Ok(cors.transpose()?.map(Arc::new))
}

fn symlinks(asked: &Responses) -> Symlinks {
    match asked.symlinks {
        SymlinkRule::Inside => Symlinks::Inside,
        SymlinkRule::Refuse => Symlinks::Refuse,
    }
}

/// Warns if the page for what is not found is itself not to be found. It may come later, so that is
/// no failure. Nobody waits for it: what a hung mount holds is never found nor missing.
pub(super) async fn look_for_fallback(args: Serve) {
    let asked = &args.responses;
    let (flag, page) = match (&asked.spa, &asked.not_found) {
        (Some(page), _) => ("--spa", page),
        (None, Some(page)) => ("--not-found", page),
        (None, None) => return,
    };
    let opened = match Root::open(&args.dir) {
        Ok(root) => root.symlinks(symlinks(asked)).open_file(page).await,
        Err(error) => Err(error),
    };
    let Err(error) = opened else { return };
    let reason = match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::CrossesDevices => "it is not below the directory".to_owned(),
        _ => error.to_string(),
    };
    tracing::warn!(
        "{flag}={} cannot be sent from {}: {reason}; until it can, what is not found is a bare error",
        page.display(),
        args.dir.display(),
    );
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
