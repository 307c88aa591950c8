//! A listing as JSON: an array of objects, as nginx's `autoindex_format json` writes it, with the
//! time in RFC 3339 and a reference, since a name need not be text.

use std::vec::IntoIter;

use serde::Serialize;

use super::{Entry, Kind, Listing, Written};

pub(super) struct Array {
    entries: IntoIter<Entry>,
    state: State,
}

#[derive(PartialEq, Eq)]
enum State {
    Ended,
    First,
    Later,
}

#[derive(Serialize)]
struct Object<'a> {
    name: &'a str,
    href: String,
    #[serde(rename = "type")]
    kind: &'static str,
    mtime: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

impl Array {
    pub(super) fn new(listing: Listing) -> Self {
        Self {
            entries: listing.entries.into_iter(),
            state: State::First,
        }
    }
}

impl Written for Array {
    fn write_next(&mut self, to: &mut String) -> bool {
        let start = match self.state {
            State::Ended => return false,
            State::First => "[\n",
            State::Later => ",\n",
        };
        let Some(entry) = self.entries.next() else {
            to.push_str(if self.state == State::First {
                "[]\n"
            } else {
                "\n]\n"
            });
            self.state = State::Ended;
            return true;
        };
        self.state = State::Later;
        let (kind, size) = match entry.kind {
            Kind::Directory => ("directory", None),
            Kind::File { len } => ("file", Some(len)),
        };
        let object = Object {
            name: &entry.name.to_string_lossy(),
            href: entry.href(),
            kind,
            mtime: entry.modified(),
            size,
        };
        let object = serde_json::to_string(&object).expect("strings and numbers are JSON");
        to.push_str(start);
        to.push_str(&object);
        true
    }
}
