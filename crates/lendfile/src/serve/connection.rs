//! One connection: hyper, driven until it ends, its clock cuts it, or the server shuts down.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::activity::Activity;
use super::clock::Clock;
use super::connections::Connections;
use super::limits::{Cut, Limits};

pub(super) type BoxError = Box<dyn Error + Send + Sync>;

/// HTTP on one connection, to its end.
pub(super) trait Converse: Future<Output = Result<(), BoxError>> {
    /// Ends it after what is under way; at once if nothing is.
    fn shut_down(self: Pin<&mut Self>);
}

pin_project! {
    /// A connection under way. Resolves when it has ended, well or badly.
    pub(super) struct Serving<C> {
        #[pin]
        http: C,
        #[pin]
        shutdown: WaitForCancellationFutureOwned,
        #[pin]
        timer: Option<Sleep>,
        clock: Clock,
        closing: bool,
        activity: Arc<Activity>,
        limits: Arc<Limits>,
        connections: Connections,
    }
}

impl<C> Serving<C> {
    pub(super) fn new(
        http: C,
        shutdown: WaitForCancellationFutureOwned,
        clock: Clock,
        activity: Arc<Activity>,
        limits: Arc<Limits>,
        connections: Connections,
    ) -> Self {
        let timer = clock
            .next_check(Instant::now(), &limits)
            .map(|at| tokio::time::sleep_until(at.into()));
        Self {
            http,
            shutdown,
            timer,
            clock,
            closing: false,
            activity,
            limits,
            connections,
        }
    }
}

impl<C: Converse> Future for Serving<C> {
    type Output = Result<(), BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            if let Poll::Ready(ended) = this.http.as_mut().poll(cx) {
                return Poll::Ready(ended);
            }
            let cut = poll_cut(
                this.clock,
                this.timer.as_mut(),
                this.activity,
                this.limits,
                cx,
            );
            let mut close = false;
            match cut {
                // A request may be on its way to a connection at rest, so it is told first.
                Poll::Ready(Cut::Idle) if this.activity.is_http2() && !*this.closing => {
                    close = true
                }
                Poll::Ready(cut) => {
                    if matches!(cut, Cut::Progress | Cut::Rate) {
                        this.activity.cut_off();
                    }
                    this.connections.count_cut(cut);
                    return Poll::Ready(Err(format!("cut: {} timeout", cut.name()).into()));
                }
                Poll::Pending => {}
            }
            if !*this.closing {
                close |= this.activity.is_http2()
                    && this
                        .limits
                        .max_requests
                        .is_some_and(|most| this.activity.requests() >= most.get());
                close |= this.shutdown.as_mut().poll(cx).is_ready();
            }
            if !close {
                return Poll::Pending;
            }
            *this.closing = true;
            this.http.as_mut().shut_down();
        }
    }
}

/// Looks at the clock when its time has come; resolves when a limit is reached.
fn poll_cut(
    clock: &mut Clock,
    mut timer: Pin<&mut Option<Sleep>>,
    activity: &Activity,
    limits: &Limits,
    cx: &mut Context<'_>,
) -> Poll<Cut> {
    while let Some(sleep) = timer.as_mut().as_pin_mut() {
        ready!(sleep.poll(cx));
        let now = Instant::now();
        if let Some(cut) = clock.check(now, activity.snapshot(), limits) {
            // Asked again only if the connection is to end by itself.
            let again = clock.restart(now, limits);
            rearm(timer.as_mut(), again);
            return Poll::Ready(cut);
        }
        rearm(timer.as_mut(), clock.next_check(now, limits));
    }
    Poll::Pending
}

fn rearm(timer: Pin<&mut Option<Sleep>>, at: Option<Instant>) {
    if let (Some(sleep), Some(at)) = (timer.as_pin_mut(), at) {
        sleep.reset(at.into());
    }
}
