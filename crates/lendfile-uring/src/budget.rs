//! How much of a thread's pipes and buffers its connections may have filled ahead at a time.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::task::{Context, Waker};

use crate::sys::Permit;

/// A number of shares, and those who wait for one, first come first served.
///
/// Only the first is woken, so that a thousand do not ask for what one can get. He may have ended
/// or have found another way meanwhile, so whoever has waited passes on what is left
/// ([`Budget::pass_on`]), and whoever stops waiting says so ([`Budget::forget`]).
pub(crate) struct Budget {
    limit: Cell<usize>,
    taken: Cell<usize>,
    /// One entry for each flow that waits, by its key.
    waiting: RefCell<VecDeque<(usize, Waker)>>,
}

/// One share. Given back when the last clone is dropped: the connection has one, and so does the
/// operation that fills what the share is for.
pub(crate) struct Share(Rc<Budget>);

impl Permit for Share {}

impl Budget {
    pub(crate) fn new(limit: usize) -> Rc<Self> {
        Rc::new(Self {
            limit: Cell::new(limit),
            taken: Cell::new(0),
            waiting: RefCell::default(),
        })
    }

    /// Allows no more than this from now on.
    pub(crate) fn limit_to(&self, limit: usize) {
        self.limit.set(self.limit.get().min(limit));
    }

    /// A share, if one is left.
    pub(crate) fn take(self: &Rc<Self>) -> Option<Rc<Share>> {
        (self.taken.get() < self.limit.get()).then(|| {
            self.taken.set(self.taken.get() + 1);
            Rc::new(Share(self.clone()))
        })
    }

    /// Whether more than half is taken: nobody should have more than they need.
    pub(crate) fn is_scarce(&self) -> bool {
        self.taken.get() * 2 > self.limit.get()
    }

    /// Has the task of the flow `key` woken when a share can be had. It may find none: others are as
    /// fast.
    pub(crate) fn wait(&self, key: usize, cx: &Context<'_>) {
        let mut waiting = self.waiting.borrow_mut();
        match waiting.iter_mut().find(|(waits, _)| *waits == key) {
            Some((_, waker)) => waker.clone_from(cx.waker()),
            None => waiting.push_back((key, cx.waker().clone())),
        }
    }

    /// Notes that the flow `key` does not wait any more.
    pub(crate) fn forget(&self, key: usize) {
        self.waiting.borrow_mut().retain(|(waits, _)| *waits != key);
    }

    /// Wakes the first who waits: a share has come back, or can be taken from somebody.
    pub(crate) fn wake_one(&self) {
        let next = self.waiting.borrow_mut().pop_front();
        if let Some((_, waker)) = next {
            waker.wake();
        }
    }

    /// Wakes the next if a share is left: the one who was woken for it did not take it.
    pub(crate) fn pass_on(&self) {
        if self.taken.get() < self.limit.get() {
            self.wake_one();
        }
    }

    /// Wakes whoever waits.
    pub(crate) fn wake_all(&self) {
        for (_, waker) in self.waiting.take() {
            waker.wake();
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let budget = &self.0;
        budget.taken.set(budget.taken.get() - 1);
        budget.wake_one();
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("limit", &self.limit)
            .field("taken", &self.taken)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn there_are_no_more_shares_than_the_limit_until_one_comes_back() {
        let budget = Budget::new(2);
        let first = budget.take().unwrap();
        let second = budget.take().unwrap();
        assert!(budget.take().is_none());
        let clone = first.clone();
        drop(first);
        assert!(budget.take().is_none(), "an operation still has it");
        drop(clone);
        assert!(budget.take().is_some());
        drop(second);
    }

    /// `N` who wait for a share of a budget of one, which is taken.
    fn waiting<const N: usize>() -> (Rc<Budget>, Rc<Share>, [Arc<Wakes>; N]) {
        let budget = Budget::new(1);
        let share = budget.take().unwrap();
        let wakes = [(); N].map(|()| Arc::<Wakes>::default());
        for (key, wakes) in wakes.iter().enumerate() {
            // Asked twice, as a task is that was polled for another reason.
            for _ in 0..2 {
                budget.wait(key, &Context::from_waker(&wakes.clone().into()));
            }
        }
        (budget, share, wakes)
    }

    fn counts<const N: usize>(wakes: &[Arc<Wakes>; N]) -> [usize; N] {
        wakes
            .each_ref()
            .map(|wakes| wakes.0.load(Ordering::Relaxed))
    }

    #[test]
    fn a_share_that_comes_back_wakes_the_first_who_waits() {
        let (budget, share, wakes) = waiting::<3>();
        drop(share);
        assert_eq!(counts(&wakes), [1, 0, 0]);
        let share = budget.take();
        budget.pass_on();
        assert_eq!(counts(&wakes), [1, 0, 0], "nothing is left");
        drop(share);
        assert_eq!(counts(&wakes), [1, 1, 0]);
    }

    #[test]
    fn a_share_that_the_woken_did_not_take_is_passed_on() {
        let (budget, share, wakes) = waiting::<3>();
        budget.forget(1);
        drop(share);
        budget.pass_on();
        assert_eq!(counts(&wakes), [1, 0, 1]);
    }
}
