//! A listing as a page: no script, readable on a phone and on a desktop, light and dark.

use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use html_escape::encode_quoted_attribute;
use http::HeaderValue;

use super::Written;
use super::entries::{Entries, Entry, Kind};
use super::name::{shown, write_reference};
use super::wanted::{Order, Sort, Wanted};

const STYLE: &str = include_str!("page.css");

/// The page's style is the only thing that it may have; names are escaped, and should one not be, it
/// can do nothing. The digest is the style's (a test compares them).
const POLICY: &str = "default-src 'none'; \
    style-src 'sha256-8jjgGcnfi6+KSuKjJjoMAGwgWPxRNkfSRvd6F94Nl5A='; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'self'";

const COLUMNS: [(Sort, &str); 3] = [
    (Sort::Name, "Name"),
    (Sort::Size, "Size"),
    (Sort::Modified, "Modified (UTC)"),
];

pub(super) fn policy() -> HeaderValue {
    HeaderValue::from_static(POLICY)
}

pub(super) struct Page {
    breadcrumbs: Vec<Breadcrumb>,
    wanted: Wanted,
    entries: Entries,
    written: usize,
    state: State,
}

enum State {
    Ended,
    Head,
    Rows,
}

/// A directory on the way from the root to here.
#[derive(Debug, PartialEq, Eq)]
struct Breadcrumb {
    /// Empty for the root.
    name: String,
    /// How many directories up it is.
    up: usize,
}

impl Page {
    /// A page for the directory at `path` below the root, which was asked for as `target`.
    pub(super) fn new(target: &str, path: &Path, wanted: Wanted, entries: Entries) -> Self {
        Self {
            breadcrumbs: breadcrumbs(target, path),
            wanted,
            entries,
            written: 0,
            state: State::Head,
        }
    }

    fn write_head(&self, to: &mut String) {
        let title = match self.breadcrumbs.last() {
            Some(here) if !here.name.is_empty() => &here.name,
            _ => "Index",
        };
        to.push_str(
            "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n\
             <meta name=viewport content=\"width=device-width,initial-scale=1\">\n\
             <meta name=color-scheme content=\"light dark\">\n<title>",
        );
        escape(to, title);
        _ = write!(to, "</title>\n<style>{STYLE}</style>\n</head>\n<body>\n");
        self.write_breadcrumbs(to);
        self.write_totals(to);
        if self.entries.get(0).is_none() {
            return;
        }
        to.push_str("<table>\n<thead><tr>");
        for (sort, title) in COLUMNS {
            self.write_column(to, sort, title);
        }
        to.push_str("</thead>\n<tbody>\n");
    }

    /// The references are relative, so that they hold wherever the service is mounted.
    fn write_breadcrumbs(&self, to: &mut String) {
        to.push_str("<nav aria-label=Path><ol>");
        for (place, Breadcrumb { name, up }) in self.breadcrumbs.iter().enumerate() {
            to.push_str("<li><a ");
            if place + 1 == self.breadcrumbs.len() {
                to.push_str("aria-current=page ");
            }
            if name.is_empty() {
                to.push_str("class=top aria-label=Top ");
            }
            _ = write!(to, "href=\"./{}", "../".repeat(*up));
            self.write_query(to, self.wanted);
            to.push_str("\"><bdi>");
            escape(to, name);
            to.push_str("</bdi></a>");
        }
        to.push_str("</ol></nav>\n");
    }

    fn write_totals(&self, to: &mut String) {
        let (directories, files, bytes) = self.entries.totals();
        let plural = |n| if n == 1 { "" } else { "s" };
        to.push_str("<p>");
        if directories > 0 {
            _ = write!(to, "{directories} folder{}", plural(directories));
        }
        if files > 0 {
            let comma = if directories > 0 { ", " } else { "" };
            _ = write!(to, "{comma}{files} file{}, ", plural(files));
            write_size(to, bytes);
        }
        if directories + files == 0 {
            to.push_str("Nothing here");
        }
        if self.entries.is_cut() {
            to.push_str(". <strong>There is more than can be listed.</strong>");
        }
        to.push_str("</p>\n");
    }

    fn write_column(&self, to: &mut String, sort: Sort, title: &str) {
        to.push_str("<th scope=col");
        if self.wanted.sort == sort {
            to.push_str(match self.wanted.order {
                Order::Ascending => " aria-sort=ascending",
                Order::Descending => " aria-sort=descending",
            });
        }
        to.push_str("><a href=\"./");
        self.write_query(to, self.wanted.after_click_on(sort));
        _ = write!(to, "\">{title}</a>");
    }

    fn write_row(&self, to: &mut String, name: &[u8], entry: &Entry) {
        let (class, slash) = match entry.kind {
            Kind::Directory => (" class=d", "/"),
            Kind::File => ("", ""),
        };
        _ = write!(to, "<tr{class}><td><a href=\"");
        write_reference(to, name);
        to.push_str(slash);
        if entry.kind == Kind::Directory {
            self.write_query(to, self.wanted);
        }
        to.push_str("\"><bdi>");
        escape(to, &shown(name));
        to.push_str("</bdi></a><td>");
        if entry.kind == Kind::File {
            write_size(to, entry.len);
        }
        to.push_str("<td>");
        // To the minute.
        if let Some(time) = entry.modified_text()
            && let (Some(date), Some(minute)) = (time.get(..10), time.get(11..16))
        {
            _ = write!(to, "{date} {minute}");
        }
        to.push('\n');
    }

    fn write_query(&self, to: &mut String, wanted: Wanted) {
        for part in wanted.to_string().split_inclusive('&') {
            to.push_str(part);
            if part.ends_with('&') {
                to.push_str("amp;");
            }
        }
    }
}

impl Written for Page {
    fn write_next(&mut self, to: &mut String) -> bool {
        match self.state {
            State::Ended => return false,
            State::Head => {
                self.write_head(to);
                self.state = State::Rows;
            }
            State::Rows => match self.entries.get(self.written) {
                Some((name, entry)) => {
                    self.write_row(to, name, entry);
                    self.written += 1;
                }
                None => {
                    if self.written > 0 {
                        to.push_str("</table>\n");
                    }
                    to.push_str("</body>\n</html>\n");
                    self.state = State::Ended;
                }
            },
        }
        true
    }
}

/// From the root to `path`. A browser counts the empty segments of a target such as `//a//b/` when
/// it goes up; the path has none.
fn breadcrumbs(target: &str, path: &Path) -> Vec<Breadcrumb> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(shown(name.as_bytes()).into_owned()),
        _ => None,
    });
    let mut found: Vec<_> = [String::new()]
        .into_iter()
        .chain(names)
        .map(|name| Breadcrumb { name, up: 0 })
        .collect();
    // Between the first slash and the last.
    let segments: Vec<&str> = target.split('/').skip(1).collect();
    let segments = segments.split_last().map_or(&[][..], |(_, before)| before);
    let named = segments
        .iter()
        .filter(|segment| !segment.is_empty())
        .count();
    let count = found.len();
    let mut up = 0;
    for (k, breadcrumb) in found.iter_mut().rev().enumerate() {
        if named + 1 != count {
            // Dots were normalised: a browser would have done so before it asked.
            breadcrumb.up = k;
            continue;
        }
        // The root is above all segments; a directory below the empty ones behind its name.
        let empty = |segment: &&&str| segment.is_empty();
        let behind = segments[..segments.len() - up].iter().rev();
        up += behind.take_while(empty).count();
        breadcrumb.up = up;
        up = (up + 1).min(segments.len());
    }
    found
}

/// For attributes and for text alike, which needs less.
fn escape(to: &mut String, text: &str) {
    to.push_str(&encode_quoted_attribute(text));
}

/// A length for people: two digits at least, and a unit.
fn write_size(to: &mut String, bytes: u64) {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let power = (bytes.checked_ilog2().unwrap_or(0) / 10) as usize;
    let Some(unit) = power.checked_sub(1) else {
        _ = write!(to, "{bytes} B");
        return;
    };
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let number = (bytes >> (10 * unit)) as f64 / 1024.0;
    let decimals = usize::from(number < 9.95);
    _ = write!(to, "{number:.decimals$} {}", UNITS[unit]);
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, Engine};
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn the_policy_names_the_style() {
        let digest = BASE64_STANDARD.encode(Sha256::digest(STYLE));
        assert!(POLICY.contains(&format!("'sha256-{digest}'")), "{digest}");
    }

    #[test]
    fn sizes_have_two_digits_and_a_unit() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (10_188, "9.9 KiB"),
            (10_189, "10 KiB"),
            (102_400, "100 KiB"),
            (5 << 20, "5.0 MiB"),
            (3 << 40, "3.0 TiB"),
            (u64::MAX, "16 EiB"),
        ] {
            let mut found = String::new();
            write_size(&mut found, bytes);
            assert_eq!(found, text);
        }
    }

    #[test]
    fn breadcrumbs_count_the_segments_a_browser_counts() {
        let ups = |target: &str, path: &str| -> Vec<usize> {
            let found = breadcrumbs(target, Path::new(path));
            found.iter().map(|breadcrumb| breadcrumb.up).collect()
        };
        for (target, path, expected) in [
            ("/", "", &[0][..]),
            ("", "", &[0]),
            ("/a/", "a", &[1, 0]),
            ("/a/b/", "a/b", &[2, 1, 0]),
            ("//", "", &[1]),
            ("//a//b/", "a/b", &[4, 2, 0]),
            ("/a/b//", "a/b", &[3, 2, 1]),
            ("/a/../b/", "b", &[1, 0]),
            ("/a/.", "a", &[1, 0]),
        ] {
            assert_eq!(ups(target, path), expected, "{target}");
        }
    }
}
