//! Lists with weights: `Accept` and `Accept-Encoding` (RFC 9110 §12.4.2).
//!
//! By hand: the crates that parse these two headers have not been kept for years, and tower-http's
//! parser is private. An element that is malformed counts as absent.

use http::HeaderMap;
use http::header::AsHeaderName;

/// Thousandths; 0 is "not acceptable".
pub(super) type Weight = u16;

/// The elements of all headers of this name, with their weights.
pub(super) fn weighted(
    headers: &HeaderMap,
    name: impl AsHeaderName,
) -> impl Iterator<Item = (&str, Weight)> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(element)
}

fn element(element: &str) -> Option<(&str, Weight)> {
    let mut parts = element.split(';').map(str::trim);
    let value = parts.next().filter(|value| !value.is_empty())?;
    let mut weight = 1000;
    for parameter in parts {
        let Some((name, text)) = parameter.split_once('=') else {
            continue;
        };
        if name.trim().eq_ignore_ascii_case("q") {
            weight = thousandths(text.trim())?;
        }
    }
    Some((value, weight))
}

/// `0`, `1`, and up to three decimals between.
fn thousandths(text: &str) -> Option<Weight> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction: Weight = format!("{decimals:0<3}").parse().ok()?;
    match (whole, fraction) {
        ("0", fraction) => Some(fraction),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::header::ACCEPT_ENCODING;

    use super::*;

    #[test]
    fn elements_have_weights_and_malformed_ones_are_passed_over() {
        let mut headers = HeaderMap::new();
        for value in [
            "br, gzip;q=0.5,, zstd ; Q=0.125",
            "a;q=1.0, b;q=0, c;q=1.001, d;q=x, e;q=0.1234, f;q=, g;level=1;q=0.3, h;q=0.",
        ] {
            headers.append(ACCEPT_ENCODING, value.parse().unwrap());
        }
        let list: Vec<_> = weighted(&headers, ACCEPT_ENCODING).collect();
        let expected = [
            ("br", 1000),
            ("gzip", 500),
            ("zstd", 125),
            ("a", 1000),
            ("b", 0),
            ("g", 300),
            ("h", 0),
        ];
        assert_eq!(list, expected);
    }
}
