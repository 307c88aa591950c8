//! A response's body under a rate limit, by the paused clock.

use std::num::NonZeroU64;

use http::Extensions;
use http_body_util::BodyExt;
use lendfile::{FileBody, FileRegion, Lending, OpenFile, RateLimit};
use tokio::time::Instant;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_body_lent_or_not_keeps_its_rate_within_five_percent() {
    let rate = 2_000_000;
    let (_dir, path, bytes) = file_of(10 * rate);
    for lending in [Lending::Always, Lending::Never] {
        let region = FileRegion::whole(OpenFile::open(&path).unwrap());
        let limit = RateLimit::new(NonZeroU64::new(rate).unwrap());
        let body = FileBody::new(region, lending, &Extensions::new()).rate_limit(limit);
        assert_eq!(body.is_lent(), lending == Lending::Always);
        let begun = Instant::now();
        let got = body.collect().await.unwrap().to_bytes();
        let seconds = begun.elapsed().as_secs_f64();
        assert!((9.5..=10.5).contains(&seconds), "{lending:?}: {seconds} s");
        assert_same(&got, &bytes);
    }
}
