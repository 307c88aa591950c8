//! Preconditions, in the order of RFC 9110 §13.2.2.

use headers::{
    Header, HeaderMapExt, IfMatch, IfModifiedSince, IfNoneMatch, IfRange, IfUnmodifiedSince,
};
use http::HeaderMap;

use super::validators::Validators;

/// What the preconditions of a GET or HEAD allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// 304
    NotModified,
    /// 412
    PreconditionFailed,
    /// The file, or the part asked for.
    Send,
}

/// Whether a request asks for neither conditions nor ranges, as most do: one look at each header's
/// first letters instead of seven look-ups.
pub(super) fn is_plain(headers: &HeaderMap) -> bool {
    !headers.keys().any(|name| {
        let name = name.as_str();
        name.starts_with("if-") || name == "range"
    })
}

/// Evaluates them. A malformed header counts as absent.
pub(super) fn evaluate(headers: &HeaderMap, validators: &Validators) -> Verdict {
    let etag = &validators.etag;
    if let Some(if_match) = tags::<IfMatch>(headers) {
        if !if_match.precondition_passes(etag) {
            return Verdict::PreconditionFailed;
        }
    } else if let (Some(since), Some(modified)) = (
        headers.typed_get::<IfUnmodifiedSince>(),
        validators.modified,
    ) && !since.precondition_passes(modified)
    {
        return Verdict::PreconditionFailed;
    }
    if let Some(if_none_match) = tags::<IfNoneMatch>(headers) {
        if !if_none_match.precondition_passes(etag) {
            return Verdict::NotModified;
        }
    } else if let (Some(since), Some(modified)) =
        (headers.typed_get::<IfModifiedSince>(), validators.modified)
        && !since.is_modified(modified)
    {
        return Verdict::NotModified;
    }
    Verdict::Send
}

/// A header of entity tags, if it is well-formed: the library takes anything for a list.
fn tags<H: Header>(headers: &HeaderMap) -> Option<H> {
    let mut values = headers.get_all(H::name()).iter().peekable();
    values.peek()?;
    values
        .all(|value| is_tag_list(value.as_bytes()))
        .then(|| headers.typed_get())?
}

/// `*`, or entity tags separated by commas (RFC 9110 §8.8.3, §13.1.1).
fn is_tag_list(value: &[u8]) -> bool {
    let mut rest = value.trim_ascii();
    if rest == b"*" {
        return true;
    }
    let mut tags = 0;
    loop {
        rest = rest.trim_ascii_start();
        rest = match rest {
            [] => return tags > 0,
            [b',', after @ ..] => {
                rest = after;
                continue;
            }
            [b'W', b'/', b'"', after @ ..] | [b'"', after @ ..] => after,
            _ => return false,
        };
        let is_etagc = |byte: &u8| matches!(byte, 0x21 | 0x23..=0x7e | 0x80..);
        let len = rest.iter().take_while(|byte| is_etagc(byte)).count();
        rest = match &rest[len..] {
            [b'"', after @ ..] => after.trim_ascii_start(),
            _ => return false,
        };
        if !matches!(rest, [] | [b',', ..]) {
            return false;
        }
        tags += 1;
    }
}

/// Whether a `Range` may be honoured: there is no `If-Range`, or it names this very version, by a
/// strong tag or by the exact date (RFC 9110 §13.1.5).
pub(super) fn range_applies(headers: &HeaderMap, validators: &Validators) -> bool {
    if !headers.contains_key(http::header::IF_RANGE) {
        return true;
    }
    let Some(if_range) = headers.typed_get::<IfRange>() else {
        return false;
    };
    let tag_matches = !if_range.is_modified(Some(&validators.etag), None);
    // The library calls any date at or after the file's a match; the RFC asks for the same one.
    let date_matches = validators
        .modified
        .is_some_and(|modified| if_range == IfRange::date(modified));
    tag_matches || date_matches
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use http::header::{
        HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
    };

    use super::*;

    const DATE: &str = "Mon, 12 Jan 1970 13:46:40 GMT";
    const EARLIER: &str = "Mon, 12 Jan 1970 13:46:39 GMT";
    const LATER: &str = "Mon, 12 Jan 1970 13:46:41 GMT";

    fn validators(tag: &str) -> Validators {
        let modified: SystemTime = UNIX_EPOCH + Duration::from_secs(1_000_000);
        Validators {
            etag: tag.parse().unwrap(),
            last_modified: Some(modified.into()),
            modified: Some(modified),
        }
    }

    fn headers(list: &[(HeaderName, &str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn preconditions_follow_the_order_of_the_rfc() {
        use Verdict::{NotModified, PreconditionFailed, Send};
        let cases: [(&[(HeaderName, &str)], Verdict); 20] = [
            (&[], Send),
            (&[(IF_MATCH, "\"a\"")], Send),
            (&[(IF_MATCH, "*")], Send),
            (&[(IF_MATCH, "\"b\", \"c\"")], PreconditionFailed),
            (&[(IF_MATCH, "W/\"a\"")], PreconditionFailed),
            (&[(IF_MATCH, "\"a\""), (IF_UNMODIFIED_SINCE, EARLIER)], Send),
            (&[(IF_UNMODIFIED_SINCE, EARLIER)], PreconditionFailed),
            (&[(IF_UNMODIFIED_SINCE, DATE)], Send),
            (&[(IF_NONE_MATCH, "\"b\", W/\"a\"")], NotModified),
            (&[(IF_NONE_MATCH, "*")], NotModified),
            (
                &[(IF_NONE_MATCH, "\"b\""), (IF_MODIFIED_SINCE, LATER)],
                Send,
            ),
            (&[(IF_MODIFIED_SINCE, DATE)], NotModified),
            (&[(IF_MODIFIED_SINCE, EARLIER)], Send),
            (&[(IF_MODIFIED_SINCE, "yesterday")], Send),
            (&[(IF_MATCH, "garbage")], Send),
            (&[(IF_MATCH, "\"a b\"")], Send),
            (&[(IF_NONE_MATCH, "\"a\" \"a\"")], Send),
            (&[(IF_NONE_MATCH, ", \"b,c\" ,\"a\",")], NotModified),
            (
                &[(IF_NONE_MATCH, "garbage"), (IF_MODIFIED_SINCE, DATE)],
                NotModified,
            ),
            (
                &[(IF_MATCH, "\"b\""), (IF_NONE_MATCH, "\"a\"")],
                PreconditionFailed,
            ),
        ];
        for (list, verdict) in cases {
            assert_eq!(
                evaluate(&headers(list), &validators("\"a\"")),
                verdict,
                "{list:?}"
            );
        }
    }

    #[test]
    fn if_range_wants_a_strong_tag_or_the_exact_date() {
        for (tag, value, applies) in [
            ("\"a\"", "\"a\"", true),
            ("\"a\"", "\"b\"", false),
            ("W/\"a\"", "W/\"a\"", false),
            ("\"a\"", DATE, true),
            ("\"a\"", EARLIER, false),
            ("\"a\"", LATER, false),
            ("\"a\"", "nonsense", false),
        ] {
            let headers = headers(&[(IF_RANGE, value)]);
            assert_eq!(
                range_applies(&headers, &validators(tag)),
                applies,
                "{tag} {value}"
            );
        }
    }
}
