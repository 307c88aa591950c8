//! What a request wants of a listing: from its `Accept` and its query.

use std::fmt;

use http::header::ACCEPT;
use http::request::Parts;
use http::{HeaderMap, HeaderValue};

use crate::service::quality::{Weight, weighted};

/// What a request wants of a listing. Anything that is not understood counts as absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Wanted {
    pub(super) format: Format,
    pub(super) sort: Sort,
    pub(super) order: Order,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Format {
    Html,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Sort {
    Name,
    Size,
    Modified,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Order {
    Ascending,
    Descending,
}

impl Wanted {
    pub(super) fn of(head: &Parts) -> Self {
        let query = head.uri.query().unwrap_or_default();
        let value = |name| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|pair| pair.0 == name).map(|pair| pair.1)
        };
        Self {
            format: Format::of(&head.headers),
            sort: match value("sort") {
                Some("size") => Sort::Size,
                Some("modified") => Sort::Modified,
                _ => Sort::Name,
            },
            order: match value("order") {
                Some("desc") => Order::Descending,
                _ => Order::Ascending,
            },
        }
    }

    /// What the column's title leads to: the other order, or, of another column, the order that is
    /// asked for most: names from A, the largest and the latest first.
    pub(super) fn after_click_on(self, sort: Sort) -> Self {
        let order = match (self.sort == sort, sort, self.order) {
            (true, _, Order::Ascending) | (false, Sort::Size | Sort::Modified, _) => {
                Order::Descending
            }
            _ => Order::Ascending,
        };
        Self {
            sort,
            order,
            ..self
        }
    }
}

/// As the query that asks for it; nothing if that is what an empty one asks for.
impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.sort, self.order) {
            (Sort::Name, Order::Ascending) => return Ok(()),
            (Sort::Name, _) => f.write_str("?sort=name")?,
            (Sort::Size, _) => f.write_str("?sort=size")?,
            (Sort::Modified, _) => f.write_str("?sort=modified")?,
        }
        match self.order {
            Order::Ascending => Ok(()),
            Order::Descending => f.write_str("&order=desc"),
        }
    }
}

impl Format {
    /// JSON only if it is preferred to HTML.
    fn of(headers: &HeaderMap) -> Self {
        let json = weight_of(headers, "application", "json");
        match json > weight_of(headers, "text", "html") {
            true => Self::Json,
            false => Self::Html,
        }
    }

    pub(super) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Html => "text/html; charset=utf-8",
            Self::Json => "application/json",
        })
    }
}

/// The weight that the most specific media range gives (RFC 9110 §12.5.1).
fn weight_of(headers: &HeaderMap, kind: &str, subtype: &str) -> Weight {
    let precedence = |range: &str| match range.split_once('/')? {
        ("*", "*") => Some(1),
        (found, "*") if found.eq_ignore_ascii_case(kind) => Some(2),
        (found, sub) if found.eq_ignore_ascii_case(kind) && sub.eq_ignore_ascii_case(subtype) => {
            Some(3)
        }
        _ => None,
    };
    weighted(headers, ACCEPT)
        .filter_map(|(range, weight)| Some((precedence(range)?, weight)))
        .max()
        .map_or(0, |(_, weight)| weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(query: &str, accept: &str) -> Wanted {
        let request = http::Request::get(format!("/{query}"))
            .header(ACCEPT, accept)
            .body(())
            .unwrap();
        Wanted::of(&request.into_parts().0)
    }

    #[test]
    fn json_is_sent_only_where_it_is_preferred() {
        for (accept, format) in [
            ("application/json", Format::Json),
            ("Application/JSON", Format::Json),
            ("application/*", Format::Json),
            ("*/*", Format::Html),
            ("", Format::Html),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Format::Html),
            ("text/html;q=0.5, application/json", Format::Json),
            ("application/json;q=0.5, text/html", Format::Html),
            ("application/json;q=0, */*", Format::Html),
            ("application/json, */*;q=0.1", Format::Json),
        ] {
            assert_eq!(wanted("", accept).format, format, "{accept}");
        }
    }

    #[test]
    fn queries_are_read_and_written_alike() {
        for query in [
            "",
            "?sort=name&order=desc",
            "?sort=size",
            "?sort=size&order=desc",
            "?sort=modified",
        ] {
            assert_eq!(wanted(query, "*/*").to_string(), query);
        }
        let nonsense = wanted("?sort=nonsense&order&=&order=up", "*/*");
        assert_eq!(nonsense, wanted("", "*/*"));
    }

    #[test]
    fn a_second_click_turns_the_order_round() {
        let first = wanted("", "*/*").after_click_on(Sort::Size);
        assert_eq!(first.to_string(), "?sort=size&order=desc");
        let second = first.after_click_on(Sort::Size);
        assert_eq!(second.to_string(), "?sort=size");
        assert_eq!(second.after_click_on(Sort::Name).to_string(), "");
    }
}
