//! What happened: counters that the stream writes and the body's maker reads.
//!
//! A stream cannot see which body its bytes came from, only which part of which file they are.
//! The [`Ledger`] of a connection joins the two: bodies begin transfers in it, the stream records
//! what it sent, and a transfer ends when the last byte lent for it has been dropped.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};
use std::{fmt, mem};

use crate::lent::{self, Mapping};
use crate::{FileRegion, Method, OpenFile, Sent};

/// The report of one transfer: of a body, or of one of the futures that send, receive and relay.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Transfer {
    /// How it ended.
    pub outcome: Outcome,
    /// Bytes promised; of a reception or relay without a given end, bytes received.
    pub len: u64,
    /// System calls that moved file bytes, those without progress included.
    pub syscalls: u64,
    /// How often it waited, for the socket or for the disk.
    pub waits: u64,
    /// How often it waited for pages that were not in the page cache.
    pub cold_waits: u64,
    /// Time from the body's making until the last of its bytes was let go.
    pub duration: Duration,
    bytes: [u64; Method::COUNT],
}

/// How a transfer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The connection let go of the bytes before all were sent.
    Aborted,
    /// All bytes were accepted by the socket's buffer (not: received by the peer). For owned
    /// chunks: all were handed to the HTTP library. For a reception: all are in the file (not: on
    /// the disk).
    Complete,
    /// The body was taken to its end, but no stream that the body knows of sent its bytes:
    /// middleware read them (compression, TLS, a wrapper that copies), which loses zero-copy, or
    /// they were lent without a handle of the connection.
    Unobserved,
}

impl Outcome {
    /// The name used in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::Complete => "complete",
            Self::Unobserved => "unobserved",
        }
    }
}

impl Transfer {
    /// Bytes that went by `method`.
    pub fn bytes_by(&self, method: Method) -> u64 {
        self.bytes[method.index()]
    }

    /// Bytes sent, whichever way.
    pub fn bytes_sent(&self) -> u64 {
        self.bytes.iter().sum()
    }

    /// Tells who listens to `tracing`, at level DEBUG.
    pub(crate) fn log(&self) {
        tracing::debug!(
            outcome = self.outcome.name(),
            method = self.method().map_or("none", Method::name),
            bytes = self.bytes_sent(),
            len = self.len,
            syscalls = self.syscalls,
            waits = self.waits,
            cold_waits = self.cold_waits,
            micros = self.duration.as_micros(),
            "transfer ended",
        );
    }

    /// Adds another one to it, which belongs to the same response: it is complete only if both
    /// are, and lasted as long as the longer.
    pub fn add(&mut self, other: &Self) {
        self.outcome = match (self.outcome, other.outcome) {
            (Outcome::Complete, outcome) | (outcome, Outcome::Complete) => outcome,
            (Outcome::Unobserved, Outcome::Unobserved) => Outcome::Unobserved,
            _ => Outcome::Aborted,
        };
        self.len += other.len;
        self.syscalls += other.syscalls;
        self.waits += other.waits;
        self.cold_waits += other.cold_waits;
        self.duration = self.duration.max(other.duration);
        for (sum, bytes) in self.bytes.iter_mut().zip(other.bytes) {
            *sum += bytes;
        }
    }

    /// The method that carried most of it; `None` if nothing was sent.
    pub fn method(&self) -> Option<Method> {
        Method::ALL
            .iter()
            .copied()
            .filter(|method| self.bytes_by(*method) > 0)
            .max_by_key(|method| self.bytes_by(*method))
    }
}

/// What a callback gets.
type OnEnd = Box<dyn FnOnce(Transfer) + Send>;

/// Is told when a transfer ends, and kept until then: the books of who sends several of them in
/// one response, or watches all.
pub trait TransferObserver: Send + Sync {
    /// Takes the report. Called wherever the last byte is dropped, usually in the connection's
    /// task: it must not block.
    fn transfer_ended(&self, transfer: &Transfer);
}

/// The books of one connection.
#[derive(Default)]
pub struct Ledger {
    sent: Counters,
    plain_bytes: AtomicU64,
    waits: AtomicU64,
    waits_for_file: AtomicBool,
    open: Mutex<Vec<Weak<Running>>>,
    /// The count of [`lent::poisonings`] up to which `poisoned` is known.
    checked: AtomicU64,
    poisoned: AtomicBool,
}

impl Ledger {
    /// An empty one.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Begins the transfer of `region`, lent by `mapping`, on this connection.
    pub fn begin(self: &Arc<Self>, region: &FileRegion, mapping: &Arc<Mapping>) -> TransferToken {
        let mut running = Running::new(region.len());
        running.offset = region.offset();
        running.next = AtomicU64::new(region.offset());
        running.lent = Some((mapping.clone(), self.clone()));
        let running = Arc::new(running);
        let mut open = lock(&self.open);
        open.retain(|running| running.strong_count() > 0);
        open.push(Arc::downgrade(&running));
        TransferToken(running)
    }

    /// Whether bytes lent to this connection were read and found missing: zeros may have taken
    /// their place in whatever is written next, so nothing more may be sent. Stays true. An
    /// atomic load as long as no such thing has happened in the process.
    pub fn is_poisoned(&self) -> bool {
        let poisonings = lent::poisonings();
        if self.checked.load(Ordering::Acquire) != poisonings {
            let found = self.running().iter().any(|running| running.is_poisoned());
            self.poisoned.fetch_or(found, Ordering::AcqRel);
            self.checked.store(poisonings, Ordering::Release);
        }
        self.poisoned.load(Ordering::Acquire)
    }

    /// File bytes sent on this connection by `method`.
    pub fn bytes_by(&self, method: Method) -> u64 {
        self.sent.bytes[method.index()].load(Ordering::Relaxed)
    }

    /// Bytes sent on this connection that were not lent: heads, framing, owned chunks.
    pub fn plain_bytes(&self) -> u64 {
        self.plain_bytes.load(Ordering::Relaxed)
    }

    /// How often this connection had to wait, for the socket or for a file.
    pub fn waits(&self) -> u64 {
        self.waits.load(Ordering::Relaxed)
    }

    /// Whether the stream's last wait was one for a file's bytes, not for the socket. Meaningful
    /// while a write is pending.
    pub fn waits_for_file(&self) -> bool {
        self.waits_for_file.load(Ordering::Relaxed)
    }

    pub(crate) fn record_plain(&self, bytes: usize) {
        self.plain_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Books a wait for the socket, before bytes from memory.
    pub(crate) fn record_plain_wait(&self) {
        self.record_wait(false);
    }

    fn record_wait(&self, waits_for_file: bool) {
        self.waits.fetch_add(1, Ordering::Relaxed);
        self.waits_for_file.store(waits_for_file, Ordering::Relaxed);
    }

    /// Books a wait of the transfer that is at `offset` of `file`, and whether it is one for the
    /// file rather than for the socket.
    pub(crate) fn record_file_wait(&self, file: &Arc<OpenFile>, offset: u64, waits_for_file: bool) {
        self.record_wait(waits_for_file);
        let all = self.running();
        if let Some((_, running)) = nearest(&all, file, offset) {
            running.counters.waits.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Books `sent`, which began at `offset` of `file`. Two responses that are at the same place
    /// of the same file (HTTP/2) cannot be told apart; either gets it, and both end with the
    /// right sum.
    pub(crate) fn record(&self, file: &Arc<OpenFile>, mut offset: u64, sent: Sent) {
        self.sent.add(sent.method, sent.bytes as u64, sent.syscalls);
        let mut left = sent.bytes as u64;
        let mut syscalls = sent.syscalls;
        let mut cold_waits = sent.cold_waits;
        let all = self.running();
        // One run of bytes may have been lent by several bodies, one behind the other.
        while left > 0 {
            let Some((gap, running)) = nearest(&all, file, offset) else {
                return;
            };
            // h2 copied them behind the frame's head: they went by as plain bytes.
            running.counters.add(Method::Copy, gap, 0);
            let its = left.min(running.end() - offset);
            running.next.store(offset + its, Ordering::Relaxed);
            running
                .counters
                .add(sent.method, its, mem::take(&mut syscalls));
            let cold_waits = mem::take(&mut cold_waits);
            running
                .counters
                .cold_waits
                .fetch_add(cold_waits, Ordering::Relaxed);
            offset += its;
            left -= its;
        }
    }

    /// Those under way. They are dropped by the caller, not under the lock: the last clone of one
    /// calls its callback, which may come back here.
    fn running(&self) -> Vec<Arc<Running>> {
        lock(&self.open).iter().filter_map(Weak::upgrade).collect()
    }
}

/// The transfer that `offset` of `file` is the next part of, and the bytes between.
fn nearest<'a>(
    all: &'a [Arc<Running>],
    file: &Arc<OpenFile>,
    offset: u64,
) -> Option<(u64, &'a Arc<Running>)> {
    all.iter()
        .filter_map(|running| Some((running.gap_before(file, offset)?, running)))
        .min_by_key(|(gap, _)| *gap)
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger")
            .field("sent", &self.sent)
            .field("plain_bytes", &self.plain_bytes())
            .field("waits", &self.waits())
            .finish_non_exhaustive()
    }
}

/// A transfer under way. It ends, and is reported, when the last clone is dropped: the body holds
/// one, and so does every byte lent for it.
#[derive(Clone)]
pub struct TransferToken(Arc<Running>);

struct Running {
    /// Of its first byte in the file.
    offset: u64,
    len: u64,
    started: Instant,
    counters: Counters,
    /// Where in the file the next byte of it is.
    next: AtomicU64,
    /// Where its bytes come from, and who is to know when they were found missing.
    lent: Option<(Arc<Mapping>, Arc<Ledger>)>,
    taken_to_end: AtomicBool,
    on_end: Mutex<Option<OnEnd>>,
    observer: OnceLock<Arc<dyn TransferObserver>>,
}

impl Running {
    fn new(len: u64) -> Self {
        Self {
            offset: 0,
            len,
            started: Instant::now(),
            counters: Counters::default(),
            next: AtomicU64::new(0),
            lent: None,
            taken_to_end: AtomicBool::new(false),
            on_end: Mutex::new(None),
            observer: OnceLock::new(),
        }
    }

    fn is_poisoned(&self) -> bool {
        self.lent
            .as_ref()
            .is_some_and(|(mapping, _)| mapping.is_poisoned())
    }

    fn end(&self) -> u64 {
        self.offset + self.len
    }

    /// Bytes between what was sent of it and `offset` of `file`, if that can be its next part.
    fn gap_before(&self, file: &Arc<OpenFile>, offset: u64) -> Option<u64> {
        let (mapping, _) = self.lent.as_ref()?;
        let next = self.next.load(Ordering::Relaxed);
        let gap = offset.checked_sub(next)?;
        let fits = offset < self.end() && gap < COPIED_BY_H2;
        (fits && Arc::ptr_eq(mapping.file(), file)).then_some(gap)
    }

    /// All that was sent; the end of the last frame, if h2 copied it, is booked now.
    fn settle(&self) -> u64 {
        let missing = self.len.saturating_sub(self.counters.total());
        let copies = self.counters.bytes[Method::Copy.index()].load(Ordering::Relaxed) > 0;
        if self.lent.is_some() && copies && missing < COPIED_BY_H2 {
            self.counters.add(Method::Copy, missing, 0);
        }
        self.counters.total()
    }
}

/// A frame's head and payload shorter than this are copied together by h2 0.4 (CHAIN_THRESHOLD in
/// its codec/framed_write.rs), and a longer payload's beginning up to it.
const COPIED_BY_H2: u64 = 256;

impl TransferToken {
    /// Begins a transfer of `len` bytes that no stream will recognise: whoever sends it records
    /// it by [`TransferToken::record`].
    pub fn begin(len: u64) -> Self {
        Self(Arc::new(Running::new(len)))
    }

    /// Whether reports are logged, so that a transfer without a callback is worth booking.
    pub fn is_logged() -> bool {
        tracing::enabled!(tracing::Level::DEBUG)
    }

    /// Books bytes that went `method`'s way.
    pub fn record(&self, method: Method, bytes: u64, syscalls: u32) {
        self.0.counters.add(method, bytes, syscalls);
    }

    /// Books a wait, for the socket or for the disk.
    pub fn record_wait(&self) {
        self.0.counters.waits.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that everything was taken out of the body.
    pub fn taken_to_end(&self) {
        self.0.taken_to_end.store(true, Ordering::Relaxed);
    }

    /// Calls `callback` with the report when the transfer ends; a second one replaces the first.
    /// It runs wherever the last byte is dropped, usually in the connection's task: it must not
    /// block.
    pub fn on_end(&self, callback: impl FnOnce(Transfer) + Send + 'static) {
        *lock(&self.0.on_end) = Some(Box::new(callback));
    }

    /// Lets `observer` know when the transfer ends, before the callback runs. Only the first one is
    /// kept.
    pub fn observe(&self, observer: Arc<dyn TransferObserver>) {
        _ = self.0.observer.set(observer);
    }

    /// Bytes sent so far.
    pub fn bytes_sent(&self) -> u64 {
        self.0.counters.total()
    }
}

impl fmt::Debug for TransferToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransferToken")
            .field("len", &self.0.len)
            .field("sent", &self.0.counters)
            .finish_non_exhaustive()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some((mapping, ledger)) = &self.lent
            && mapping.is_poisoned()
        {
            ledger.poisoned.store(true, Ordering::Release);
        }
        let sent = self.settle();
        let outcome = if sent == self.len {
            Outcome::Complete
        } else if sent == 0 && self.taken_to_end.load(Ordering::Relaxed) {
            Outcome::Unobserved
        } else {
            Outcome::Aborted
        };
        let transfer = self.counters.report(outcome, self.len, self.started);
        transfer.log();
        if let Some(observer) = self.observer.get() {
            observer.transfer_ended(&transfer);
        }
        if let Some(callback) = lock(&self.on_end).take() {
            callback(transfer);
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    bytes: [AtomicU64; Method::COUNT],
    pub(crate) syscalls: AtomicU32,
    pub(crate) waits: AtomicU32,
    pub(crate) cold_waits: AtomicU32,
}

impl Counters {
    pub(crate) fn add(&self, method: Method, bytes: u64, syscalls: u32) {
        self.bytes[method.index()].fetch_add(bytes, Ordering::Relaxed);
        self.syscalls.fetch_add(syscalls, Ordering::Relaxed);
    }

    pub(crate) fn by(&self, method: Method) -> u64 {
        self.bytes[method.index()].load(Ordering::Relaxed)
    }

    /// The report of a transfer that these are the counters of.
    pub(crate) fn report(&self, outcome: Outcome, len: u64, started: Instant) -> Transfer {
        let count = |counter: &AtomicU32| u64::from(counter.load(Ordering::Relaxed));
        Transfer {
            outcome,
            len,
            syscalls: count(&self.syscalls),
            waits: count(&self.waits),
            cold_waits: count(&self.cold_waits),
            duration: started.elapsed(),
            bytes: std::array::from_fn(|i| self.bytes[i].load(Ordering::Relaxed)),
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.bytes.iter().map(|n| n.load(Ordering::Relaxed)).sum()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(len: u64) -> Arc<OpenFile> {
        let file = tempfile::tempfile().unwrap();
        file.set_len(len).unwrap();
        OpenFile::new(file).unwrap()
    }

    fn sent(bytes: usize) -> Sent {
        Sent {
            bytes,
            method: Method::Sendfile,
            syscalls: 1,
            cold_waits: 0,
        }
    }

    fn begin(ledger: &Arc<Ledger>, region: &FileRegion) -> TransferToken {
        ledger.begin(region, &region.map().unwrap())
    }

    fn report(token: TransferToken) -> Transfer {
        let slot = Arc::new(Mutex::new(None));
        let into = slot.clone();
        token.on_end(move |transfer| *lock(&into) = Some(transfer));
        drop(token);
        lock(&slot).take().unwrap()
    }

    #[test]
    fn a_transfer_is_complete_only_if_all_of_it_was_sent() {
        let ledger = Ledger::new();
        let file = file(100);
        let whole = FileRegion::whole(file.clone());
        let complete = begin(&ledger, &whole);
        ledger.record(&file, 0, sent(60));
        ledger.record(&file, 60, sent(40));
        let aborted = begin(&ledger, &whole);
        ledger.record(&file, 0, sent(99));
        let complete = report(complete);
        assert_eq!(complete.outcome, Outcome::Complete);
        assert_eq!(complete.bytes_by(Method::Sendfile), 100);
        assert_eq!(complete.syscalls, 2);
        let aborted = report(aborted);
        assert_eq!(aborted.outcome, Outcome::Aborted);
        assert_eq!(aborted.bytes_sent(), 99);
    }

    #[test]
    fn bytes_are_booked_to_the_transfer_that_lent_them() {
        let ledger = Ledger::new();
        let (a, b) = (file(10), file(10));
        let first = begin(&ledger, &FileRegion::whole(a.clone()));
        let second = begin(&ledger, &FileRegion::whole(b.clone()));
        let tail = begin(&ledger, &FileRegion::new(a.clone(), 5, 5).unwrap());
        ledger.record(&b, 0, sent(7));
        ledger.record(&a, 5, sent(5));
        assert_eq!(
            [&first, &second, &tail].map(TransferToken::bytes_sent),
            [0, 7, 5]
        );
        assert_eq!(ledger.bytes_by(Method::Sendfile), 12);
    }

    #[test]
    fn a_run_across_two_adjacent_bodies_is_split_between_them() {
        let ledger = Ledger::new();
        let file = file(10);
        let first = begin(&ledger, &FileRegion::new(file.clone(), 0, 4).unwrap());
        let second = begin(&ledger, &FileRegion::new(file.clone(), 4, 6).unwrap());
        ledger.record(&file, 0, sent(10));
        assert_eq!((first.bytes_sent(), second.bytes_sent()), (4, 6));
    }

    #[test]
    fn what_h2_copies_at_the_start_of_each_frame_is_booked_as_copied() {
        let ledger = Ledger::new();
        let file = file(40_000);
        let token = begin(&ledger, &FileRegion::whole(file.clone()));
        let frame = 16_384;
        ledger.record(&file, 247, sent(frame - 247));
        ledger.record(&file, 16_384 + 247, sent(frame - 247));
        ledger.record(&file, 32_768 + 247, sent(40_000 - 32_768 - 247));
        let transfer = report(token);
        assert_eq!(transfer.outcome, Outcome::Complete);
        assert_eq!(transfer.bytes_by(Method::Copy), 3 * 247);
        assert_eq!(transfer.bytes_by(Method::Sendfile), 40_000 - 3 * 247);
    }

    #[test]
    fn a_sum_is_complete_only_if_all_of_it_is() {
        let of = |outcome, bytes| Transfer {
            outcome,
            len: 10,
            syscalls: 1,
            waits: 0,
            cold_waits: 0,
            duration: Duration::from_secs(bytes),
            bytes: std::array::from_fn(|i| if i == 1 { bytes } else { 0 }),
        };
        let mut sum = of(Outcome::Complete, 4);
        sum.add(&of(Outcome::Complete, 3));
        assert_eq!(
            (sum.outcome, sum.len, sum.syscalls),
            (Outcome::Complete, 20, 2)
        );
        assert_eq!((sum.bytes_sent(), sum.duration.as_secs()), (7, 4));
        sum.add(&of(Outcome::Aborted, 1));
        sum.add(&of(Outcome::Complete, 1));
        assert_eq!(sum.outcome, Outcome::Aborted);
    }

    #[test]
    fn a_callback_may_begin_a_transfer_on_the_same_connection() {
        let ledger = Ledger::new();
        let region = FileRegion::whole(file(10));
        let token = begin(&ledger, &region);
        let again = ledger.clone();
        token.on_end(move |_| {
            drop(begin(&again, &region));
            again.is_poisoned();
        });
        drop(token);
    }

    #[test]
    fn taken_to_the_end_without_a_byte_sent_is_unobserved() {
        let token = begin(&Ledger::new(), &FileRegion::whole(file(10)));
        token.taken_to_end();
        let transfer = report(token);
        assert_eq!(transfer.outcome, Outcome::Unobserved);
        assert_eq!(transfer.method(), None);
    }
}
