//! A listing as JSON. Its form is documented at `ServeDir::listing`.

use serde::Serialize;

use super::Written;
use super::entries::{Entries, Entry, Kind};
use super::name::write_reference;

pub(super) struct Document {
    entries: Entries,
    written: usize,
    state: State,
}

enum State {
    Ended,
    Entries,
    Start,
}

/// One entry.
#[derive(Serialize)]
struct Object<'a> {
    name: &'a str,
    href: &'a str,
    r#type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    modified: Option<String>,
}

impl Document {
    pub(super) fn new(entries: Entries) -> Self {
        Self {
            entries,
            written: 0,
            state: State::Start,
        }
    }
}

impl Written for Document {
    fn write_next(&mut self, to: &mut String) -> bool {
        match self.state {
            State::Ended => return false,
            State::Start => {
                to.push_str("{\"entries\":[");
                self.state = State::Entries;
            }
            State::Entries => match self.entries.get(self.written) {
                Some((name, entry)) => {
                    to.push_str(if self.written == 0 { "\n" } else { ",\n" });
                    write_object(to, name, entry);
                    self.written += 1;
                }
                None => {
                    to.push_str("\n],\"truncated\":");
                    to.push_str(if self.entries.is_cut() {
                        "true"
                    } else {
                        "false"
                    });
                    to.push_str("}\n");
                    self.state = State::Ended;
                }
            },
        }
        true
    }
}

fn write_object(to: &mut String, name: &[u8], entry: &Entry) {
    let mut href = String::new();
    write_reference(&mut href, name);
    let (kind, size) = match entry.kind {
        Kind::Directory => {
            href.push('/');
            ("directory", None)
        }
        Kind::File => ("file", Some(entry.len)),
    };
    let object = Object {
        name: &String::from_utf8_lossy(name),
        href: &href,
        r#type: kind,
        size,
        modified: entry.modified_text(),
    };
    to.push_str(&serde_json::to_string(&object).expect("strings and numbers are JSON"));
}
