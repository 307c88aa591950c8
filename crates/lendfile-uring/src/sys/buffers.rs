//! Memory registered with the ring: the kernel has its pages at hand, and they stay in memory, which
//! is what `RLIMIT_MEMLOCK` limits.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::ops::Range;
use std::rc::Rc;

use tokio_uring::buf::IoBuf;
use tokio_uring::buf::fixed::{FixedBuf, FixedBufRegistry};

/// Where a buffer's usable part begins is a multiple of this: enough for every disk's O_DIRECT.
const ALIGNMENT: usize = 4096;

/// The registered buffers of one thread. A ring has one set, and tokio-uring keeps it until the
/// ring ends.
pub(crate) struct Buffers {
    registry: FixedBufRegistry<Vec<u8>>,
    free: Rc<RefCell<Vec<usize>>>,
    bytes: usize,
    count: usize,
}

impl Buffers {
    /// Registers up to `count` buffers of `bytes` each; half as many whenever the limit on locked
    /// memory does not allow them.
    ///
    /// # Errors
    ///
    /// ENOMEM if not even one is allowed; EBUSY if this ring has a set already.
    pub(crate) fn register(count: usize, bytes: usize) -> io::Result<Self> {
        let mut count = count;
        loop {
            let memory = (0..count).map(|_| vec![0_u8; bytes + ALIGNMENT]);
            let registry = FixedBufRegistry::new(memory);
            match registry.register() {
                Ok(()) => {
                    return Ok(Self {
                        registry,
                        free: Rc::new(RefCell::new((0..count).collect())),
                        bytes,
                        count,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::OutOfMemory && count > 1 => {
                    count /= 2;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// One that nobody uses.
    pub(crate) fn take(&self) -> Option<Buffer> {
        let index = self.free.borrow_mut().pop()?;
        let memory = self.registry.check_out(index);
        let memory = memory.expect("an index is free only after its buffer was checked in");
        Some(Buffer {
            start: memory.stable_ptr().align_offset(ALIGNMENT),
            memory: Some(memory),
            index,
            bytes: self.bytes,
            free: self.free.clone(),
        })
    }
}

/// A registered buffer in use.
pub(crate) struct Buffer {
    /// `None` only in `drop`.
    memory: Option<FixedBuf>,
    start: usize,
    bytes: usize,
    index: usize,
    free: Rc<RefCell<Vec<usize>>>,
}

impl Buffer {
    /// Bytes that it can hold.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes
    }

    /// A part of it.
    pub(crate) fn slice(&self, range: Range<usize>) -> &[u8] {
        &self.memory()[self.start..][range]
    }

    /// The same, to be written to.
    pub(crate) fn slice_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        let start = self.start;
        let memory = self.memory.as_mut().expect("taken only in drop");
        &mut memory[start..][range]
    }

    /// Where the kernel is to put bytes, or to find them, and the number it was registered by.
    pub(super) fn place(&mut self, range: Range<usize>) -> (*mut u8, u16) {
        assert!(range.end <= self.bytes, "no more than it can hold");
        let index = self.memory().buf_index();
        (self.slice_mut(range).as_mut_ptr(), index)
    }

    fn memory(&self) -> &FixedBuf {
        self.memory.as_ref().expect("taken only in drop")
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // Checked in before its index is free.
        drop(self.memory.take());
        self.free.borrow_mut().push(self.index);
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer")
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}
