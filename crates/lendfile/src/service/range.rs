//! Byte ranges (RFC 9110 §14): the syntax is the library's, what it means for a file is decided
//! here.

use http::HeaderValue;
use http_range_header::{
    EndPosition, StartPosition, SyntacticallyCorrectRange, parse_range_header,
};

/// Bytes from the representation's start, and how many; more than 0.
pub(super) type Part = (u64, u64);

/// What a `Range` header asks of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// 206: this part.
    Part(Part),
    /// 206, multipart: several that do not overlap, in the order they were asked for.
    Parts(Vec<Part>),
    /// 416
    Unsatisfiable,
    /// 200: the header is ignored.
    Whole,
}

/// Decides for a representation of `len` bytes. More than `most` ranges are ignored before they
/// are parsed: the whole costs a server less than what asks for so many is worth.
pub(super) fn wanted(header: &HeaderValue, len: u64, most: usize) -> Wanted {
    // An empty file has no range to offer, and 416 would tell nobody anything.
    if len == 0 {
        return Wanted::Whole;
    }
    // Units are case-insensitive (§14.1); others than bytes are to be ignored, whatever is in them.
    let mut halves = header.as_bytes().splitn(2, |byte| *byte == b'=');
    let (Some(unit), Some(set)) = (halves.next(), halves.next()) else {
        return Wanted::Whole;
    };
    if !unit.trim_ascii().eq_ignore_ascii_case(b"bytes") {
        return Wanted::Whole;
    }
    let Some(set) = str::from_utf8(set).ok().filter(|set| set.is_ascii()) else {
        return Wanted::Unsatisfiable;
    };
    if are_more(set, most) {
        return Wanted::Whole;
    }
    let Ok(parsed) = parse_range_header(&canonical(set)) else {
        return Wanted::Unsatisfiable;
    };
    let satisfiable: Vec<Part> = parsed
        .ranges
        .iter()
        .filter_map(|range| part(range, len))
        .collect();
    match &*satisfiable {
        [] => Wanted::Unsatisfiable,
        [only] => Wanted::Part(*only),
        // Those that do not overlap cannot sum to more than the file.
        several if overlap(several) => Wanted::Whole,
        _ => Wanted::Parts(satisfiable),
    }
}

fn overlap(parts: &[Part]) -> bool {
    let mut sorted = parts.to_vec();
    sorted.sort_unstable();
    sorted.windows(2).any(|pair| {
        let [(offset, len), (next, _)] = [pair[0], pair[1]];
        offset + len > next
    })
}

/// The ranges of a set; empty list elements are none (RFC 9110 §5.6.1).
fn elements(set: &str) -> impl Iterator<Item = &str> {
    set.split(',')
        .map(|range| range.trim_matches([' ', '\t']))
        .filter(|range| !range.is_empty())
}

/// Whether a set has more than `most` ranges, or more than twice as many elements with the empty ones:
/// a reasonable number of these must be accepted, not any (RFC 9110 §5.6.1.2). Looks no further than
/// that, since ten thousand took 0.2 ms.
fn are_more(set: &str, most: usize) -> bool {
    set.split(',').nth(most.saturating_mul(2)).is_some() || elements(set).nth(most).is_some()
}

/// The same ranges as the library wants them: it knows no empty list elements (which recipients
/// must accept), no white space before a comma, no leading zeros and no number above `u64::MAX`.
fn canonical(set: &str) -> String {
    let mut ranges = String::with_capacity("bytes=".len() + set.len());
    ranges.push_str("bytes=");
    for (index, range) in elements(set).enumerate() {
        if index > 0 {
            ranges.push(',');
        }
        for (index, number) in range.split('-').enumerate() {
            if index > 0 {
                ranges.push('-');
            }
            // Nearly every number, and as many digits as `u64` has room for.
            if let [b'1'..=b'9', rest @ ..] = number.as_bytes()
                && rest.len() < 19
            {
                ranges.push_str(number);
                continue;
            }
            let significant = number.trim_start_matches('0');
            if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
                ranges.push_str(number);
            } else if significant.is_empty() {
                ranges.push('0');
            } else if significant.parse::<u64>().is_ok() {
                ranges.push_str(significant);
            } else {
                // u64::MAX: as far behind any file's end as the number itself.
                ranges.push_str("18446744073709551615");
            }
        }
    }
    ranges
}

/// The part of a file of `len` bytes that a range is, if there is one.
fn part(range: &SyntacticallyCorrectRange, len: u64) -> Option<Part> {
    let start = match range.start {
        StartPosition::Index(first) => first,
        StartPosition::FromLast(suffix) => len.saturating_sub(suffix),
    };
    let last = match range.end {
        EndPosition::Index(last) => last.min(len - 1),
        EndPosition::LastByte => len - 1,
    };
    (start <= last).then(|| (start, last - start + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_ten(header: &str) -> Wanted {
        wanted(&header.parse().unwrap(), 10, 32)
    }

    #[test]
    fn one_range_is_a_part() {
        for (header, offset, len) in [
            ("bytes=0-0", 0, 1),
            ("bytes=0-", 0, 10),
            ("bytes=9-", 9, 1),
            ("bytes=2-5", 2, 4),
            ("bytes=5-99", 5, 5),
            ("bytes=-3", 7, 3),
            ("bytes=-99", 0, 10),
            ("bytes=0-18446744073709551615", 0, 10),
            ("Bytes=1-1", 1, 1),
            ("bytes= 1-1", 1, 1),
            ("bytes=50-60, 1-2", 1, 2),
            ("bytes=007-9", 7, 3),
            ("bytes=1-2 ,", 1, 2),
            ("bytes=,,1-2", 1, 2),
            ("bytes=8-99999999999999999999", 8, 2),
            ("bytes=-99999999999999999999", 0, 10),
        ] {
            assert_eq!(of_ten(header), Wanted::Part((offset, len)), "{header}");
        }
    }

    #[test]
    fn what_cannot_be_satisfied_is_416() {
        for header in [
            "bytes=10-",
            "bytes=-0",
            "bytes=5-2",
            "bytes=abc",
            "bytes=",
            "bytes=1",
            "bytes=18446744073709551616-",
            "bytes=99-, 100-",
        ] {
            assert_eq!(of_ten(header), Wanted::Unsatisfiable, "{header}");
        }
        for header in [&b"bytes=\xff"[..], "bytes=1-٢".as_bytes()] {
            let header = HeaderValue::from_bytes(header).unwrap();
            assert_eq!(wanted(&header, 10, 32), Wanted::Unsatisfiable, "{header:?}");
        }
    }

    #[test]
    fn other_units_overlapping_ranges_and_empty_files_are_whole() {
        for header in ["lines=1-2", "bytes", "none", "bytes=0-4,4-5", "bytes=0-,-1"] {
            assert_eq!(of_ten(header), Wanted::Whole, "{header}");
        }
        let foreign = HeaderValue::from_bytes(b"\xff=1-2").unwrap();
        assert_eq!(wanted(&foreign, 10, 32), Wanted::Whole);
        let empty = wanted(&"bytes=0-0".parse().unwrap(), 0, 32);
        assert_eq!(empty, Wanted::Whole);
    }

    #[test]
    fn several_ranges_are_parts_in_the_order_asked_for() {
        for (header, parts) in [
            ("bytes=0-1,3-4", vec![(0, 2), (3, 2)]),
            ("bytes=5-6, 0-1", vec![(5, 2), (0, 2)]),
            ("bytes=0-4,5-", vec![(0, 5), (5, 5)]),
            ("bytes=-1,0-0,99-", vec![(9, 1), (0, 1)]),
        ] {
            assert_eq!(of_ten(header), Wanted::Parts(parts), "{header}");
        }
    }

    #[test]
    fn more_ranges_than_allowed_are_the_whole_file() {
        let header: HeaderValue = "bytes=0-0,,2-2,4-4".parse().unwrap();
        assert!(matches!(wanted(&header, 10, 3), Wanted::Parts(_)));
        assert_eq!(wanted(&header, 10, 2), Wanted::Whole);
        for (empty, allowed) in [(63, true), (64, false), (60_000, false)] {
            let header = format!("bytes={}1-2", ",".repeat(empty));
            let is_part = of_ten(&header) == Wanted::Part((1, 2));
            assert_eq!(is_part, allowed, "{empty} empty elements");
        }
    }

    #[test]
    fn for_any_range_the_part_is_the_naive_slice() {
        let bytes: Vec<u8> = (0..10).collect();
        for first in 0..12_usize {
            for last in 0..12_usize {
                let naive = bytes.get(first..=last.min(9)).unwrap_or_default();
                match of_ten(&format!("bytes={first}-{last}")) {
                    Wanted::Part((offset, len)) => {
                        let [from, len] = [offset, len].map(|n| usize::try_from(n).unwrap());
                        assert_eq!(&bytes[from..from + len], naive, "{first}-{last}");
                    }
                    other => {
                        assert_eq!(other, Wanted::Unsatisfiable);
                        assert!(naive.is_empty() || last < first, "{first}-{last}");
                    }
                }
            }
        }
    }
}
