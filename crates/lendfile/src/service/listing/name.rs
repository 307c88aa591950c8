//! A name as a reference and as text. Names are bytes: nothing says that they are UTF-8, or that
//! they are harmless.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// Unreserved characters of a URL (RFC 3986 §2.3) stay as they are.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Writes a name as a relative reference. All that could make it a scheme, another path, a query or
/// markup is encoded.
pub(super) fn write_reference(to: &mut String, name: &[u8]) {
    to.extend(percent_encode(name, ENCODED));
}

/// A name as text that stays on its line and in its direction: what has no shape of its own becomes
/// an escape such as `\n` or `\u{202e}`, and what is not UTF-8 becomes U+FFFD.
pub(super) fn shown(name: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(name);
    if !text.chars().any(is_invisible) {
        return text;
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_invisible(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown.into()
}

/// Control characters, what turns the direction of writing (Unicode's Bidi_Control), and what has
/// no width. Not U+200C and U+200D, which belong to words and pictures.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_hold_nothing_but_unreserved_characters() {
        for (name, reference) in [
            (&b"a-b_c.d~e"[..], "a-b_c.d~e"),
            (b"a b&c", "a%20b%26c"),
            (b"javascript:alert(1)", "javascript%3Aalert%281%29"),
            (b"<\"'>", "%3C%22%27%3E"),
            (b"a?b#c%41\\", "a%3Fb%23c%2541%5C"),
            (b"\xff\n", "%FF%0A"),
            ("ü".as_bytes(), "%C3%BC"),
        ] {
            let mut found = String::new();
            write_reference(&mut found, name);
            assert_eq!(found, reference);
        }
    }

    #[test]
    fn what_cannot_be_seen_is_escaped() {
        for (name, text) in [
            (&b"plain"[..], "plain"),
            (b"a\nb\tc\x1b", "a\\nb\\tc\\u{1b}"),
            ("x\u{202e}gpj.exe".as_bytes(), "x\\u{202e}gpj.exe"),
            (b"\xff\xfe!", "\u{fffd}\u{fffd}!"),
            ("👩\u{200d}🚀 ünï".as_bytes(), "👩\u{200d}🚀 ünï"),
        ] {
            assert_eq!(shown(name), text);
        }
    }
}
