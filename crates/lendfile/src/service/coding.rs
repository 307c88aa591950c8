//! Content codings: which of the files beside a file a request prefers (RFC 9110 §12.5.3).

use http::header::ACCEPT_ENCODING;
use http::{HeaderMap, HeaderValue};

use super::quality::{Weight, weighted};

/// A content coding in which a file may lie beside itself, compressed beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Coding {
    /// `br`: `app.js.br` beside `app.js`
    Brotli,
    /// `gzip`: `app.js.gz`
    Gzip,
    /// `zstd`: `app.js.zst`
    Zstd,
}

impl Coding {
    /// All of them, the one that is usually smallest first.
    pub const ALL: &'static [Self] = &[Self::Brotli, Self::Zstd, Self::Gzip];

    /// What is added to a file's name, with the dot.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Brotli => ".br",
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
        }
    }

    /// Its name in HTTP.
    pub fn token(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    pub(super) fn header_value(self) -> HeaderValue {
        HeaderValue::from_static(self.token())
    }

    fn is_named(self, token: &str) -> bool {
        token.eq_ignore_ascii_case(self.token())
            // RFC 9110 §8.4.1.3
            || (self == Self::Gzip && token.eq_ignore_ascii_case("x-gzip"))
    }
}

/// Which of `available` a request wants, `None` for the file as it is: the one of the highest
/// weight, of equal ones the first. The file as it is wins only by a weight that is given to it by
/// name; it is sent even if it is refused, since there may be nothing else.
pub(super) fn preferred(
    headers: &HeaderMap,
    available: impl IntoIterator<Item = Coding>,
) -> Option<Coding> {
    let named = |matches: &dyn Fn(&str) -> bool| {
        weighted(headers, ACCEPT_ENCODING)
            .find(|(token, _)| matches(token))
            .map(|(_, weight)| weight)
    };
    let any = named(&|token| token == "*");
    let identity = named(&|token| token.eq_ignore_ascii_case("identity"));
    let mut best: Option<(Weight, Coding)> = None;
    for coding in available {
        let weight = named(&|token| coding.is_named(token)).or(any).unwrap_or(0);
        if weight > best.map_or(0, |(weight, _)| weight) {
            best = Some((weight, coding));
        }
    }
    best.filter(|(weight, _)| *weight >= identity.unwrap_or(0))
        .map(|(_, coding)| coding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_decide_and_then_the_order() {
        use Coding::{Brotli, Gzip, Zstd};
        for (accept, wanted) in [
            ("", None),
            ("br", Some(Brotli)),
            ("BR", Some(Brotli)),
            ("gzip, deflate, br, zstd", Some(Brotli)),
            ("gzip;q=1, br;q=0.5", Some(Gzip)),
            ("gzip;q=0.5, br;q=0.5, zstd;q=0.5", Some(Brotli)),
            ("x-gzip", Some(Gzip)),
            ("*", Some(Brotli)),
            ("*;q=0.1, br;q=0", Some(Zstd)),
            ("br;q=0, gzip;q=0", None),
            ("deflate", None),
            ("identity, gzip;q=0.5", None),
            ("identity;q=0.5, gzip;q=0.5", Some(Gzip)),
            ("identity;q=0", None),
            ("br;q=nonsense, gzip", Some(Gzip)),
            ("gzip;q=0.001", Some(Gzip)),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, accept.parse().unwrap());
            assert_eq!(
                preferred(&headers, Coding::ALL.iter().copied()),
                wanted,
                "{accept}"
            );
        }
        assert_eq!(
            preferred(&HeaderMap::new(), Coding::ALL.iter().copied()),
            None
        );
    }

    #[test]
    fn only_what_is_there_is_chosen() {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, "br, gzip;q=0.1".parse().unwrap());
        assert_eq!(preferred(&headers, [Coding::Gzip]), Some(Coding::Gzip));
        assert_eq!(preferred(&headers, []), None);
    }
}
