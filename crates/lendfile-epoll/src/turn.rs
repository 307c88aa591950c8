//! Turns: how much one connection's task does before others, and the runtime's timers, have theirs.

use std::future::Future;
use std::ops::RangeInclusive;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};

/// Has the task polled again after the others that are ready, and after the runtime has looked for
/// events: waking at once would have tokio poll it 60 times in a row. For backends.
pub fn yield_turn<R>(cx: &mut Context<'_>) -> Poll<R> {
    // Deferred by the scheduler; the future may be dropped then.
    _ = pin!(tokio::task::yield_now()).poll(cx);
    Poll::Pending
}

/// Bytes of cold files that a thread sends between two looks for events, by all its connections:
/// 2 ms of its time, with the readahead they set off.
const ROUND_BYTES: u64 = 2 << 20;

/// The share of one of many connections, and of one of few.
const SHARE_BYTES: RangeInclusive<u64> = 128 << 10..=512 << 10;

/// What one connection may send of a cold file until it is others' turn. For backends.
///
/// A thread's connections share what it sends between two looks for events, so that with many of
/// them its timers, and whoever asks for little, do not wait for the sum of all.
#[derive(Debug, Default)]
pub struct ColdTurn {
    left: u64,
    /// The round in which it ended.
    ended_in: Option<u64>,
}

impl ColdTurn {
    /// Begins anew, after the task has waited.
    pub fn begin(&mut self) {
        self.left = ROUND.with(Round::share);
    }

    /// Ready when it is this task's turn. Pending for as long as the others have not had theirs,
    /// however often it is asked: who gets a short count asks again at once.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.left == 0 {
            if self.ended_in.is_some() && self.ended_in == Some(ROUND.with(Round::now)) {
                return yield_turn(cx);
            }
            self.begin();
        }
        Poll::Ready(())
    }

    /// Bytes that the next call may send; a small rest of a turn is not worth one of its own.
    pub fn bytes(&self) -> u64 {
        self.left.max(*SHARE_BYTES.start())
    }

    /// Notes that so many bytes were sent.
    pub fn spend(&mut self, bytes: u64) {
        self.left = self.left.saturating_sub(bytes);
        if self.left == 0 {
            self.ended_in = Some(ROUND.with(Round::now));
        }
    }
}

/// What is left for one cold file of what a thread has for all.
pub(crate) fn divided(bytes: u64) -> u64 {
    ROUND.with(|round| bytes / round.turns())
}

thread_local! {
    static ROUND: Arc<Round> = Arc::default();
}

/// What happens on a thread between two looks for events.
#[derive(Debug, Default)]
struct Round {
    number: AtomicU64,
    is_under_way: AtomicBool,
    /// Turns of cold files that were begun in it, and in the one before.
    turns: AtomicU64,
    turns_before: AtomicU64,
}

impl Round {
    /// Its number; sees to it that there will be a next one.
    fn now(self: &Arc<Self>) -> u64 {
        let now = self.number.load(Relaxed);
        if !self.is_under_way.swap(true, Relaxed) {
            let waker = Waker::from(Arc::new(End(self.clone())));
            let end: Poll<()> = yield_turn(&mut Context::from_waker(&waker));
            debug_assert!(end.is_pending());
        }
        now
    }

    /// The bytes of one more turn.
    fn share(self: &Arc<Self>) -> u64 {
        self.now();
        self.turns.fetch_add(1, Relaxed);
        (ROUND_BYTES / self.turns()).clamp(*SHARE_BYTES.start(), *SHARE_BYTES.end())
    }

    /// How many there are in a round, so far as is known; not 0.
    fn turns(&self) -> u64 {
        let turns = self.turns.load(Relaxed);
        turns.max(self.turns_before.load(Relaxed)).max(1)
    }
}

/// The end of a round: given to the scheduler as the waker of a task that has yielded. Its drop is what
/// counts, since a runtime that is left wakes none of those.
#[derive(Debug)]
struct End(Arc<Round>);

impl Wake for End {
    fn wake(self: Arc<Self>) {}
}

impl Drop for End {
    fn drop(&mut self) {
        let round = &self.0;
        let turns = round.turns.swap(0, Relaxed);
        round.turns_before.store(turns, Relaxed);
        round.number.fetch_add(1, Relaxed);
        round.is_under_way.store(false, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::task::yield_now;

    use super::*;

    /// Whether it may go on.
    async fn may_go_on(turn: &mut ColdTurn) -> bool {
        poll_fn(|cx| Poll::Ready(turn.poll(cx).is_ready())).await
    }

    #[tokio::test]
    async fn a_turn_that_has_ended_is_over_until_the_others_have_had_theirs() {
        let mut turn = ColdTurn::default();
        assert!(may_go_on(&mut turn).await);
        turn.spend(turn.bytes() - 1);
        assert!(may_go_on(&mut turn).await);
        turn.spend(1);
        for _ in 0..3 {
            assert!(!may_go_on(&mut turn).await);
        }
        yield_now().await;
        assert!(may_go_on(&mut turn).await);
    }

    #[tokio::test]
    async fn who_waits_for_its_turn_is_woken() {
        let mut turn = ColdTurn::default();
        for _ in 0..100 {
            turn.begin();
            turn.spend(turn.bytes());
            poll_fn(|cx| turn.poll(cx)).await;
        }
    }

    #[test]
    fn a_runtime_that_is_left_takes_no_turn_with_it() {
        let mut turn = ColdTurn::default();
        for _ in 0..2 {
            let runtime = tokio::runtime::Builder::new_current_thread();
            { runtime }.build().unwrap().block_on(async {
                turn.begin();
                turn.spend(turn.bytes());
                assert!(!may_go_on(&mut turn).await);
            });
            // Nobody looks for events any more, so nobody has to wait for it.
            let mut cx = Context::from_waker(Waker::noop());
            assert!(turn.poll(&mut cx).is_ready());
        }
    }

    #[tokio::test]
    async fn many_turns_share_what_few_have_alone() {
        let shares = async |turns: usize| {
            let mut sum = 0;
            for _ in 0..turns {
                let mut turn = ColdTurn::default();
                assert!(may_go_on(&mut turn).await);
                sum += turn.bytes();
            }
            yield_now().await;
            sum
        };
        assert_eq!(shares(1).await, 512 << 10);
        assert_eq!(shares(4).await, 2 << 20);
        // How many there are is known from the second round on.
        shares(16).await;
        assert_eq!(shares(16).await, 2 << 20);
        assert_eq!(divided(8 << 20), 512 << 10);
        assert_eq!(shares(1).await, 128 << 10);
        assert_eq!(shares(1).await, 512 << 10);
    }
}
