//! `Content-Disposition`: whether a file is shown or saved, and under which name (RFC 6266, with
//! names as RFC 8187 encodes them).

use std::fmt::Write;

use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What a browser is told to do with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Disposition {
    /// Save it.
    Attachment,
    /// Show it, if it can.
    Inline,
}

/// attr-char of RFC 8187 §3.2.1 is not encoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

impl Disposition {
    /// The header's value for a file of this name. Only what is behind the last `/` or `\` is
    /// used, and control characters become `_`.
    pub(super) fn header_value(self, name: &str) -> HeaderValue {
        let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
        let name: String = name
            .chars()
            .map(|c| if c.is_control() { '_' } else { c })
            .collect();
        let mut value = match self {
            Self::Attachment => "attachment",
            Self::Inline => "inline",
        }
        .to_owned();
        if name.is_empty() {
            return HeaderValue::try_from(value).expect("a word is a header value");
        }
        // For clients without RFC 8187. `%` is left out: some decode it here (RFC 6266, appendix D).
        let plain = |c: char| (' '..='~').contains(&c) && !matches!(c, '"' | '\\' | '%');
        let fallback: String = name
            .chars()
            .map(|c| if plain(c) { c } else { '_' })
            .collect();
        _ = write!(value, "; filename=\"{fallback}\"");
        if fallback != name {
            let encoded = utf8_percent_encode(&name, ENCODED);
            _ = write!(value, "; filename*=UTF-8''{encoded}");
        }
        HeaderValue::try_from(value).expect("printable ASCII is a header value")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_and_encoded() {
        for (name, value) in [
            ("report.pdf", r#"attachment; filename="report.pdf""#),
            ("a b.txt", r#"attachment; filename="a b.txt""#),
            (
                "naïve €.txt",
                "attachment; filename=\"na_ve _.txt\"; filename*=UTF-8''na%C3%AFve%20%E2%82%AC.txt",
            ),
            ("a\"b\\c.txt", r#"attachment; filename="c.txt""#),
            (
                "say \"hi\".txt",
                "attachment; filename=\"say _hi_.txt\"; filename*=UTF-8''say%20%22hi%22.txt",
            ),
            (
                "100%41.txt",
                "attachment; filename=\"100_41.txt\"; filename*=UTF-8''100%2541.txt",
            ),
            (
                "a\r\nset-cookie: x",
                r#"attachment; filename="a__set-cookie: x""#,
            ),
            ("../../etc/passwd", r#"attachment; filename="passwd""#),
            ("", "attachment"),
        ] {
            let found = Disposition::Attachment.header_value(name);
            assert_eq!(found.to_str().unwrap(), value, "{name:?}");
        }
        let inline = Disposition::Inline.header_value("a");
        assert_eq!(inline, r#"inline; filename="a""#);
    }
}
