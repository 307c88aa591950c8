//! Waiting until a rate allows more.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use lendfile_core::{RateLimit, TokenBucket};
use tokio::time::{Instant, Sleep};

/// A transfer's [`RateLimit`], kept by tokio's clock.
#[derive(Debug)]
pub struct Pacer {
    limit: RateLimit,
    /// Filled when first asked, so that a transfer that is made early does not run late.
    bucket: Option<TokenBucket>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Pacer {
    /// A pacer whose burst is full.
    pub fn new(limit: RateLimit) -> Self {
        Self {
            limit,
            bucket: None,
            sleep: None,
        }
    }

    /// Resolves with how many of `wanted` bytes may be sent now: at least one, unless none are
    /// wanted. What is sent is to be [taken](Pacer::take).
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with timers.
    pub fn poll_allowance(&mut self, cx: &mut Context<'_>, wanted: u64) -> Poll<u64> {
        loop {
            if let Some(sleep) = &mut self.sleep {
                ready!(sleep.as_mut().poll(cx));
                self.sleep = None;
            }
            let now = Instant::now().into_std();
            let bucket = self
                .bucket
                .get_or_insert_with(|| TokenBucket::new(self.limit, now));
            match bucket.allowance(wanted, now) {
                Ok(bytes) => return Poll::Ready(bytes),
                Err(again) => {
                    let sleep = tokio::time::sleep_until(Instant::from_std(again));
                    self.sleep = Some(Box::pin(sleep));
                }
            }
        }
    }

    /// Takes what was sent out of the allowance.
    pub fn take(&mut self, bytes: u64) {
        if let Some(bucket) = &mut self.bucket {
            bucket.take(bytes);
        }
    }
}

/// The allowance of a transfer that may have no limit.
pub(crate) fn poll_allowance(
    pacer: &mut Option<Pacer>,
    cx: &mut Context<'_>,
    wanted: u64,
) -> Poll<u64> {
    match pacer {
        Some(pacer) => pacer.poll_allowance(cx, wanted),
        None => Poll::Ready(wanted),
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::num::NonZeroU64;
    use std::time::Duration;

    use super::*;

    /// By the paused clock: ten seconds pass in no time, and no load of the machine is seen.
    #[tokio::test(start_paused = true)]
    async fn ten_seconds_bring_ten_seconds_worth_within_five_percent() {
        for rate in [100, 4096, 1_000_000, 500_000_000, 10_000_000_000] {
            let limit = RateLimit::new(NonZeroU64::new(rate).unwrap());
            let mut pacer = Pacer::new(limit);
            let end = Instant::now() + Duration::from_secs(10);
            let mut sent = 0;
            loop {
                let allowed = poll_fn(|cx| pacer.poll_allowance(cx, 2 << 20)).await;
                if Instant::now() > end {
                    break;
                }
                assert!(allowed > 0);
                pacer.take(allowed);
                sent += allowed;
            }
            let expected = 10 * rate;
            let off = sent.abs_diff(expected);
            assert!(off * 20 <= expected, "{rate}: {sent} in 10 s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pacer_that_is_made_early_begins_with_its_burst_and_no_more() {
        let limit = RateLimit::new(NonZeroU64::new(1000).unwrap());
        let mut pacer = Pacer::new(limit);
        tokio::time::advance(Duration::from_secs(60)).await;
        let allowed = poll_fn(|cx| pacer.poll_allowance(cx, u64::MAX)).await;
        assert_eq!(allowed, limit.burst_bytes());
    }
}
