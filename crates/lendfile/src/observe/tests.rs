use std::io;
use std::sync::Mutex;

use super::*;

fn tally(method: &HttpMethod) -> Tally {
    let head = Head {
        peer: None,
        encrypted: false,
        method,
        uri: &Uri::from_static("/"),
        version: Version::HTTP_11,
        headers: &HeaderMap::new(),
    };
    Tally::new(&head, None)
}

fn hand_over(tally: &Tally, bytes: usize) {
    let frame = Frame::data(Bytes::from(vec![0; bytes]));
    tally.polled(Some(&Ok::<_, io::Error>(frame)));
}

#[test]
fn a_body_is_complete_if_it_was_taken_to_its_end_or_its_promised_length() {
    for (bytes, at_end, promised, complete) in [
        (10, true, None, true),
        (10, false, Some(10), true),
        (10, false, None, false),
        (9, false, Some(10), false),
        (0, true, Some(0), true),
    ] {
        let tally = tally(&HttpMethod::GET);
        hand_over(&tally, bytes);
        tally.dropped(at_end, promised);
        let is_complete = tally.sum().outcome == Outcome::Complete;
        assert_eq!(is_complete, complete, "{bytes} {at_end} {promised:?}");
        assert_eq!(tally.sum().bytes_by(Method::Copy), bytes as u64);
    }
}

#[test]
fn the_body_of_a_heads_answer_is_not_missed() {
    let tally = tally(&HttpMethod::HEAD);
    tally.dropped(false, Some(1000));
    assert_eq!(tally.sum().outcome, Outcome::Complete);
    assert_eq!(tally.sum().bytes_sent(), 0);
}

#[test]
fn a_body_that_fails_is_aborted() {
    let tally = tally(&HttpMethod::GET);
    hand_over(&tally, 5);
    tally.polled(Some(&Err(io::Error::other("gone"))));
    tally.dropped(true, Some(5));
    assert_eq!(tally.sum().outcome, Outcome::Aborted);
    assert_eq!(tally.sum().bytes_sent(), 5);
}

#[test]
fn before_there_is_an_answer_there_is_no_status() {
    let tally = tally(&HttpMethod::GET);
    assert_eq!(tally.sum().status, None);
    assert_eq!(tally.sum().outcome, Outcome::Aborted);
    tally.answered(StatusCode::NOT_FOUND);
    assert_eq!(tally.sum().status, Some(StatusCode::NOT_FOUND));
}

#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<(String, u64)>>>);

impl Observer for Seen {
    type Notes = String;

    fn begin(&self, head: &Head<'_>) -> String {
        head.uri.to_string()
    }

    fn end(&self, notes: &String, exchange: &Exchange) {
        let entry = (notes.clone(), exchange.bytes_sent());
        self.0.lock().unwrap().push(entry);
    }
}

#[test]
fn every_observer_is_told_once_when_the_last_holder_lets_go() {
    let (a, b) = (Seen::default(), Seen::default());
    let watch: Arc<dyn Watch> = Arc::new((a.clone(), Some(b.clone())));
    let request = Request::builder().uri("/x").body(()).unwrap();
    let head = Head {
        peer: None,
        encrypted: false,
        method: request.method(),
        uri: request.uri(),
        version: request.version(),
        headers: request.headers(),
    };
    let open = watch.begin(&head);
    let other = open.clone();
    hand_over(open.tally(), 3);
    drop(open);
    assert!(a.0.lock().unwrap().is_empty());
    drop(other);
    for seen in [a, b] {
        assert_eq!(*seen.0.lock().unwrap(), [("/x".to_owned(), 3)]);
    }
}
