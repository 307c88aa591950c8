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
