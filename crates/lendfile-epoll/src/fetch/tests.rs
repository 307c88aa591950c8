use std::future::poll_fn;
use std::io::Write;

use super::*;

fn region(bytes: &[u8]) -> FileRegion {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    FileRegion::whole(OpenFile::new(file).unwrap())
}

#[tokio::test]
async fn bytes_are_the_files_and_warming_returns_none() {
    let content: Vec<u8> = (0..300_000_u32).map(|i| i.to_le_bytes()[0]).collect();
    let region = region(&content);
    let mut fetch = Fetch::start(region.clone(), Purpose::Bytes).unwrap();
    let (n, bytes) = poll_fn(|cx| fetch.poll(cx)).await.unwrap();
    assert!(bytes.unwrap().as_ref()[..n] == content);
    let mut fetch = Fetch::start(region, Purpose::Warm).unwrap();
    let (n, bytes) = poll_fn(|cx| fetch.poll(cx)).await.unwrap();
    assert_eq!((n, bytes.is_none()), (content.len(), true));
}

#[tokio::test]
async fn many_reads_of_one_file_are_all_done_by_few_threads() {
    let region = region(&[7; 10_000]);
    let mut all: Vec<_> = (0..100)
        .map(|_| Fetch::start(region.clone(), Purpose::Warm).unwrap())
        .collect();
    for fetch in &mut all {
        let (n, _) = poll_fn(|cx| fetch.poll(cx)).await.unwrap();
        assert_eq!(n, 10_000);
    }
    assert!(lock(&POOL.queue).threads <= THREADS);
}

fn job(region: FileRegion) -> Job {
    Job {
        region,
        purpose: Purpose::Warm,
        shared: Arc::new(Mutex::new(State::Running(None))),
    }
}

#[test]
fn neither_a_file_opened_often_nor_a_filesystem_takes_all_threads() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: usize| dir.path().join(name.to_string());
    let open = |name: usize| FileRegion::whole(OpenFile::open(path(name)).unwrap());
    let mut queue = Queue {
        waiting: VecDeque::new(),
        busy: Vec::new(),
        threads: 0,
        idle: 0,
    };
    for name in 0..THREADS {
        std::fs::write(path(name), b"x").unwrap();
    }
    queue.waiting.extend((0..THREADS).map(|_| job(open(0))));
    let begun: Vec<_> = std::iter::from_fn(|| queue.next()).collect();
    assert_eq!(begun.len(), PER_FILE);
    queue
        .waiting
        .extend((1..THREADS).map(|name| job(open(name))));
    let begun: Vec<_> = std::iter::from_fn(|| queue.next()).collect();
    assert_eq!(PER_FILE + begun.len(), PER_FILESYSTEM);
    // A regular file, and never on the same filesystem.
    let elsewhere = FileRegion::whole(OpenFile::open("/proc/self/status").unwrap());
    queue.waiting.push_back(job(elsewhere));
    assert!(queue.next().is_some());
}

/// A waker that says that it is called, and then does something.
struct Then<F>(std::sync::mpsc::Sender<()>, F);

impl<F: Fn() + Send + Sync + 'static> std::task::Wake for Then<F> {
    fn wake(self: Arc<Self>) {
        self.0.send(()).unwrap();
        self.1();
    }
}

/// Has a helper thread that has read the region call `then`.
fn have_called(region: &FileRegion, then: impl Fn() + Send + Sync + 'static) {
    let (called, calls) = std::sync::mpsc::channel();
    let waker = Waker::from(Arc::new(Then(called, then)));
    let mut cx = Context::from_waker(&waker);
    loop {
        let mut fetch = Fetch::start(region.clone(), Purpose::Warm).unwrap();
        // If the read was faster, there is nobody to wake.
        if fetch.poll(&mut cx).is_pending() {
            return calls
                .recv_timeout(Duration::from_secs(20))
                .expect("a thread");
        }
    }
}

/// Its threads are all asleep in a waker; until dropped.
fn occupied(region: &FileRegion) -> Vec<std::sync::mpsc::Sender<()>> {
    let occupy = |_| {
        let (release, released) = std::sync::mpsc::channel::<()>();
        let released = Mutex::new(released);
        have_called(region, move || _ = lock(&released).recv());
        release
    };
    (0..PER_FILE).map(occupy).collect()
}

#[tokio::test]
async fn a_read_that_nobody_waits_for_any_more_is_taken_out_of_the_queue() {
    let region = region(b"content");
    let release = occupied(&region);
    let before = Arc::strong_count(region.file());
    let mut all: Vec<_> = (0..100)
        .map(|_| Fetch::start(region.clone(), Purpose::Warm).unwrap())
        .collect();
    let last = all.split_off(99);
    drop(all);
    // Of the last, the job and the fetch.
    assert_eq!(Arc::strong_count(region.file()), before + 2);
    drop(release);
    for mut fetch in last {
        let (n, _) = poll_fn(|cx| fetch.poll(cx)).await.unwrap();
        assert_eq!(n, 7);
    }
}

#[tokio::test]
async fn a_waker_that_panics_costs_no_thread() {
    let region = region(b"content");
    for _ in 0..THREADS {
        have_called(&region, || panic!("as it should"));
    }
    let mut fetch = Fetch::start(region, Purpose::Warm).unwrap();
    let read = poll_fn(|cx| fetch.poll(cx));
    let read = tokio::time::timeout(Duration::from_secs(20), read).await;
    assert_eq!(read.expect("a thread is left").unwrap().0, 7);
}
