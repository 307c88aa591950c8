use std::future::poll_fn;

use super::*;

/// A file of which nothing is known but what a thread has read of it.
fn opaque(len: u64) -> FileRegion {
    let file = tempfile::tempfile().unwrap();
    file.set_len(len).unwrap();
    let file = OpenFile::new(file).unwrap();
    file.refuse_nowait();
    file.hide_residency();
    FileRegion::whole(file)
}

#[tokio::test]
async fn what_the_socket_did_not_take_of_a_read_is_not_read_again() {
    let mut region = opaque(1 << 20);
    let (mut cold, mut waits) = (Cold::default(), 0);
    while !region.is_empty() {
        let offset = region.offset();
        let warm = poll_fn(|cx| cold.poll_warm(cx, &region, &mut waits)).await;
        let warm = warm.unwrap();
        // All but a rest that is too small to be asked about.
        let rest = 1000.min(warm - 1);
        cold.sent(offset, warm - rest);
        region.advance(warm - rest);
        let read = cold
            .fetch
            .as_ref()
            .map(|fetch| fetch.is_at(region.file(), offset + warm));
        assert_ne!(
            read,
            Some(false),
            "it reads on from where the last read ended"
        );
        let again = poll_fn(|cx| Poll::Ready(cold.poll_warm(cx, &region, &mut waits))).await;
        let Poll::Ready(Ok(again)) = again else {
            // Its turn has ended.
            assert!(again.is_pending());
            continue;
        };
        assert_eq!(again, rest, "at {offset}");
        cold.sent(region.offset(), rest);
        region.advance(rest);
    }
    assert!(waits > 0);
}

#[tokio::test]
async fn a_cold_files_turn_is_over_until_the_others_have_had_theirs() {
    const LEN: u64 = 4 << 20;
    let mut region = opaque(LEN);
    let (mut cold, mut waits) = (Cold::default(), 0);
    cold.wait(&mut waits);
    let mut send_turn = async || {
        let mut sent = 0;
        while !region.is_empty() {
            region.file().note_warm(region.offset(), region.len());
            // Who gets a short count asks again at once.
            let warm = poll_fn(|cx| Poll::Ready(cold.poll_warm(cx, &region, &mut waits))).await;
            let Poll::Ready(warm) = warm else {
                break;
            };
            let warm = warm.unwrap();
            cold.sent(region.offset(), warm);
            region.advance(warm);
            sent += warm;
        }
        sent
    };
    assert_eq!(send_turn().await, 512 << 10);
    assert_eq!(send_turn().await, 0);
    tokio::task::yield_now().await;
    assert_eq!(send_turn().await, 512 << 10);
}
