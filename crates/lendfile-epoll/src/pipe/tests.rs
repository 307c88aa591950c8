use super::*;

/// Runs on a thread of its own, whose pool is empty.
fn on_new_thread(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        scope.spawn(test);
    });
}

fn put(pipe: &mut Pipe, bytes: &[u8]) {
    let n = rustix::io::write(pipe.writer(), bytes).unwrap();
    pipe.filled(n);
}

/// Which pipe it is, whatever its descriptors' numbers are.
fn identity(pipe: &Pipe) -> u64 {
    rustix::fs::fstat(pipe.reader()).unwrap().st_ino
}

#[test]
fn an_empty_pipe_is_used_again() {
    on_new_thread(|| {
        let first = Pipe::take().unwrap();
        let inode = identity(&first);
        drop(first);
        assert_eq!(identity(&Pipe::take().unwrap()), inode);
    });
}

#[test]
fn a_pipe_that_is_not_known_to_be_empty_is_closed() {
    on_new_thread(|| {
        let mut held = Pipe::take().unwrap();
        put(&mut held, b"someone else's");
        let mut spoilt = Pipe::take().unwrap();
        spoilt.spoil();
        let shared = Pipe::take().unwrap();
        let end = shared.writer().clone();
        drop((held, spoilt, shared));
        POOL.with_borrow(|pool| assert!(pool.empty.is_empty()));
        rustix::io::write(&end, b"late").expect_err("nobody reads it");
    });
}

#[test]
fn what_is_discarded_is_gone() {
    on_new_thread(|| {
        let mut pipe = Pipe::take().unwrap();
        put(&mut pipe, &[1; 50_000]);
        pipe.discard();
        assert_eq!(pipe.held(), 0);
        let inode = identity(&pipe);
        drop(pipe);
        let pipe = Pipe::take().unwrap();
        assert_eq!(identity(&pipe), inode);
        let read = rustix::io::read(pipe.reader(), &mut [0; 1]);
        assert_eq!(read.unwrap_err(), Errno::AGAIN, "it is empty");
    });
}

#[test]
fn a_thread_keeps_few() {
    on_new_thread(|| {
        let many: Vec<_> = (0..3 * POOLED).map(|_| Pipe::take().unwrap()).collect();
        drop(many);
        POOL.with_borrow(|pool| assert_eq!(pool.empty.len(), POOLED));
    });
}

#[test]
fn a_new_pipe_is_as_large_as_is_allowed() {
    on_new_thread(|| {
        let pipe = Pipe::take().unwrap();
        let kernel = rustix::pipe::fcntl_getpipe_size(pipe.reader()).unwrap();
        assert_eq!(pipe.capacity(), kernel);
        assert!(pipe.capacity() >= USEFUL_BYTES);
    });
}
