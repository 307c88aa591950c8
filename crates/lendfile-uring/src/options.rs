//! What a ring runtime may use.

/// Limits of one thread's ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// Kernel worker threads of each of the kernel's two kinds (for regular files and for all else;
    /// only one kind is busy at a time). They wait for the disk. Default 16.
    pub workers: u32,
    /// Pipes and registered buffers that may be filled ahead at a time, for all connections of the
    /// thread: at most two per connection, each of up to 1 MiB. A connection whose peer does not
    /// take what was filled gives it up when another one needs it; one whose write is neither
    /// polled nor dropped keeps it. Default 32.
    pub windows: usize,
    /// Registered buffers for `ring-fixed` and [`recv_file`](crate::recv_file()); fewer if `RLIMIT_MEMLOCK` does not allow so many.
    /// Registered when the first is used. Default 16.
    pub buffers: usize,
    /// Bytes of a registered buffer, rounded up to a multiple of 4096, at most 1 GiB less 4096.
    /// Default 256 KiB.
    pub buffer_bytes: usize,
    /// Has `ring-fixed` read, and [`recv_file`](crate::recv_file()) write, past the page cache
    /// (`O_DIRECT`), where the filesystem can. Default false.
    pub direct_io: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            workers: 16,
            windows: 32,
            buffers: 16,
            buffer_bytes: 256 << 10,
            direct_io: false,
        }
    }
}

impl Options {
    /// The same, within what makes sense: at least one of each.
    pub(crate) fn sane(self) -> Self {
        Self {
            workers: self.workers.max(1),
            windows: self.windows.max(2),
            buffers: self.buffers.clamp(1, 1024),
            // The kernel registers up to 1 GiB at a time, and what aligns the buffer counts.
            buffer_bytes: self
                .buffer_bytes
                .clamp(4096, (1 << 30) - 4096)
                .next_multiple_of(4096),
            direct_io: self.direct_io,
        }
    }
}
