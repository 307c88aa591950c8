//! The order of names that people expect: without regard to case, and numbers by their value, so
//! that `v10` comes behind `v9`.
//!
//! By hand: the crates for it compare text, and names are bytes; copying each to make text of it
//! would be most of the sorting.

use std::cmp::Ordering;

/// A total order: names that are the same to people are told apart by their bytes.
pub(super) fn natural(a: &[u8], b: &[u8]) -> Ordering {
    let (mut rest_a, mut rest_b) = (a, b);
    loop {
        let ordering = match (rest_a, rest_b) {
            ([], []) => return a.cmp(b),
            ([], _) => return Ordering::Less,
            (_, []) => return Ordering::Greater,
            ([x, ..], [y, ..]) if x.is_ascii_digit() && y.is_ascii_digit() => {
                let (number_a, number_b) = (number(&mut rest_a), number(&mut rest_b));
                (number_a.len(), number_a).cmp(&(number_b.len(), number_b))
            }
            ([x, after_a @ ..], [y, after_b @ ..]) => {
                (rest_a, rest_b) = (after_a, after_b);
                // ASCII only: another case of a letter beyond it is another letter here.
                x.to_ascii_lowercase().cmp(&y.to_ascii_lowercase())
            }
        };
        if ordering.is_ne() {
            return ordering;
        }
    }
}

/// Takes the digits in front, and leaves out the zeros in front of them.
fn number<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let len = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, after) = rest.split_at(len);
    *rest = after;
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    &digits[zeros..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count_by_value_and_case_does_not_count() {
        let sorted: [&[u8]; 13] = [
            b"!", b"007", b"7", b"10", b"A", b"a", b"a1", b"a2b", b"a10", b"B", b"v1.9", b"v1.10",
            b"\xff",
        ];
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                assert_eq!(natural(a, b), i.cmp(&j), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn numbers_may_be_longer_than_any_integer() {
        let (nines, one) = ([b'9'; 200], [&b"1"[..], &[b'0'; 200]].concat());
        assert_eq!(natural(&nines, &one), Ordering::Less);
        assert_eq!(natural(b"0", b"00"), Ordering::Less);
    }
}
