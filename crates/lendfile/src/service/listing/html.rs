//! A listing as a page: no script, readable on a phone and on a desktop, light and dark.

use std::fmt::Write;
use std::path::{Component, PathBuf};
use std::vec::IntoIter;

use html_escape::{encode_double_quoted_attribute as attribute, encode_text};

use super::{Entry, Kind, Listing, MOST_NAMES, Order, Sort, Wanted, Written, shown};

const STYLE: &str = include_str!("page.css");

/// One sheet of paper and one folder, drawn once.
const SYMBOLS: &str = r#"<svg hidden><symbol id="d" viewBox="0 0 16 16"><path d="M1.5 3.5a1 1 0 0 1 1-1h3.6l1.6 1.8h5.8a1 1 0 0 1 1 1v7.2a1 1 0 0 1-1 1h-11a1 1 0 0 1-1-1z"/></symbol><symbol id="f" viewBox="0 0 16 16"><path d="M3.5 1.5h5.6l3.4 3.4v8.6a1 1 0 0 1-1 1h-8a1 1 0 0 1-1-1v-11a1 1 0 0 1 1-1z M9 1.7v3.4h3.4"/></symbol></svg>"#;

pub(super) struct Page {
    path: PathBuf,
    directories: usize,
    files: usize,
    cut: bool,
    wanted: Wanted,
    entries: IntoIter<Entry>,
    state: State,
}

enum State {
    Ended,
    Head,
    Rows,
}

impl Page {
    pub(super) fn new(listing: Listing, wanted: Wanted) -> Self {
        let is_directory = |entry: &&Entry| entry.kind == Kind::Directory;
        let directories = listing.entries.iter().filter(is_directory).count();
        Self {
            path: listing.path,
            directories,
            files: listing.entries.len() - directories,
            cut: listing.cut,
            wanted,
            entries: listing.entries.into_iter(),
            state: State::Head,
        }
    }

    fn write_head(&self, to: &mut String) {
        let name = self
            .path
            .file_name()
            .map_or_else(|| "/".to_owned(), |name| format!("{}/", shown(name)));
        _ = write!(
            to,
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{SYMBOLS}\n<main>\n",
            encode_text(&name)
        );
        self.write_breadcrumbs(to);
        let counted = |n, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
        _ = write!(
            to,
            "<p>{}, {}{}</p>\n<table>\n<thead><tr>",
            counted(self.directories, "folder", "folders"),
            counted(self.files, "file", "files"),
            if self.cut {
                format!("; only the first {MOST_NAMES} names that were read")
            } else {
                String::new()
            },
        );
        for (sort, class, query, title) in [
            (Sort::Name, "n", "name", "Name"),
            (Sort::Size, "s", "size", "Size"),
            (Sort::Time, "t", "time", "Modified (UTC)"),
        ] {
            self.write_column(to, sort, [class, query, title]);
        }
        to.push_str("</tr></thead>\n<tbody>\n");
    }

    fn write_column(&self, to: &mut String, sort: Sort, [class, query, title]: [&str; 3]) {
        let (aria, next) = match self.wanted.order {
            _ if self.wanted.sort != sort => ("none", "asc"),
            Order::Ascending => ("ascending", "desc"),
            Order::Descending => ("descending", "asc"),
        };
        _ = write!(
            to,
            "<th class=\"{class}\" scope=\"col\" aria-sort=\"{aria}\">\
             <a href=\"?sort={query}&amp;order={next}\">{title}</a></th>",
        );
    }

    /// From the root to here. The references are relative, so they hold wherever the service is.
    fn write_breadcrumbs(&self, to: &mut String) {
        let names: Vec<_> = self
            .path
            .components()
            .filter_map(|component| match component {
                Component::Normal(name) => Some(name),
                _ => None,
            })
            .collect();
        to.push_str("<nav aria-label=\"Path\"><ol>");
        let up = |levels| {
            if levels == 0 {
                "./".to_owned()
            } else {
                "../".repeat(levels)
            }
        };
        let all = [None].into_iter().chain(names.iter().map(Some));
        for (depth, name) in all.enumerate() {
            let name = name.map_or_else(|| "Home".to_owned(), |name| shown(name));
            let levels = names.len() - depth;
            let here = if levels == 0 {
                " aria-current=\"page\""
            } else {
                ""
            };
            _ = write!(
                to,
                "<li><a href=\"{}\"{here}><bdi>{}</bdi></a></li>",
                up(levels),
                encode_text(&name)
            );
        }
        to.push_str("</ol></nav>\n");
    }
}

fn write_row(to: &mut String, entry: &Entry) {
    let (icon, slash, size) = match entry.kind {
        Kind::Directory => ("d", "/", "–".to_owned()),
        Kind::File { len } => ("f", "", human(len)),
    };
    let modified = entry.modified();
    let minute = modified.get(..16).unwrap_or(&modified).replace('T', " ");
    _ = writeln!(
        to,
        "<tr><td class=\"n\"><a href=\"{href}\"><svg class=\"{icon}\" aria-hidden=\"true\">\
         <use href=\"#{icon}\"/></svg><bdi>{name}{slash}</bdi></a></td>\
         <td class=\"s\">{size}</td><td class=\"t\"><time datetime=\"{modified}\">{minute}</time></td></tr>",
        href = attribute(&entry.href()),
        name = encode_text(&shown(&entry.name)),
    );
}

/// A length for people: three digits and a unit.
fn human(len: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let unit = len.checked_ilog2().unwrap_or(0) / 10;
    if unit == 0 {
        return format!("{len} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let number = (len >> (10 * (unit - 1))) as f64 / 1024.0;
    let decimals = usize::from(number < 99.95);
    format!("{number:.decimals$} {}", UNITS[unit as usize])
}

impl Written for Page {
    fn write_next(&mut self, to: &mut String) -> bool {
        match self.state {
            State::Ended => return false,
            State::Head => {
                self.write_head(to);
                self.state = State::Rows;
            }
            State::Rows => match self.entries.next() {
                Some(entry) => write_row(to, &entry),
                None => {
                    to.push_str("</tbody>\n</table>\n");
                    if self.directories + self.files == 0 {
                        to.push_str("<p class=\"empty\">Nothing here.</p>\n");
                    }
                    to.push_str("</main>\n</body>\n</html>\n");
                    self.state = State::Ended;
                }
            },
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn lengths_have_three_digits_and_a_unit() {
        for (len, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (102_400, "100 KiB"),
            (5 << 20, "5.0 MiB"),
            (3 << 40, "3.0 TiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(human(len), text);
        }
    }
}
