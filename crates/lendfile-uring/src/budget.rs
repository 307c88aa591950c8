//! How much of a thread's pipes and buffers its connections may have filled ahead at a time.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::task::{Context, Waker};

use crate::sys::Permit;

/// A number of shares, and those who wait for one, first come first served.
pub(crate) struct Budget {
    limit: Cell<usize>,
    taken: Cell<usize>,
    waiting: RefCell<VecDeque<Waker>>,
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

    /// Has the task woken when a share has been given back. It may find none: others are as fast.
    pub(crate) fn wait(&self, cx: &Context<'_>) {
        self.waiting.borrow_mut().push_back(cx.waker().clone());
    }

    /// Wakes whoever waits: a share has come back, or can be taken from somebody. All of them, since
    /// the first may be a task that has ended or waits for something else by now, which would
    /// swallow the only wake-up.
    pub(crate) fn wake_all(&self) {
        for waker in self.waiting.take() {
            waker.wake();
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let budget = &self.0;
        budget.taken.set(budget.taken.get() - 1);
        budget.wake_all();
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

    #[test]
    fn a_share_that_comes_back_wakes_all_who_wait() {
        let budget = Budget::new(1);
        let share = budget.take().unwrap();
        let wakes = [(); 2].map(|()| Arc::<Wakes>::default());
        for wakes in &wakes {
            budget.wait(&Context::from_waker(&wakes.clone().into()));
        }
        drop(share);
        let counts = wakes.map(|wakes| wakes.0.load(Ordering::Relaxed));
        assert_eq!(counts, [1, 1]);
    }
}
