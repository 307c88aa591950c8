use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderValue, Request, StatusCode};

use super::line::{Clock, address};
use super::record::Records;
use super::writer::{Target, Writer, open};
use super::*;
use crate::observe::{Head, Tally};

fn head(request: &Request<()>) -> Head<'_> {
    Head {
        peer: Some("192.0.2.1:4711".parse().unwrap()),
        encrypted: false,
        method: request.method(),
        uri: request.uri(),
        version: request.version(),
        headers: request.headers(),
    }
}

/// The line of a request that was answered with `bytes` from memory.
fn line(format: LogFormat, request: &Request<()>, bytes: usize) -> String {
    let head = head(request);
    let begun = Begun::new(format, &head);
    let tally = Tally::new(&head, Some(Instant::now()));
    tally.answered(StatusCode::OK);
    let frame = http_body::Frame::data(vec![0; bytes].into());
    tally.polled(Some(&Ok::<_, io::Error>(frame)));
    tally.dropped(true, None);
    let mut records = Records::default();
    records.push(&begun, Ended::now(format, &tally.sum()));
    let mut into = Vec::new();
    let mut formatter = Formatter::new(format);
    for (request, ended) in records.iter() {
        formatter.append(&mut into, &request, ended);
    }
    String::from_utf8(into).unwrap()
}

fn request(uri: &str, headers: &[(&'static str, &[u8])]) -> Request<()> {
    let mut request = Request::builder().uri(uri);
    for (name, value) in headers {
        request = request.header(*name, HeaderValue::from_bytes(value).unwrap());
    }
    request.body(()).unwrap()
}

/// A line with its time taken out.
fn without_time(line: &str) -> String {
    let (before, rest) = line.split_once('[').unwrap();
    let (time, after) = rest.split_once(']').unwrap();
    assert_eq!(time.len(), "26/Nov/2026:05:48:04 +0000".len());
    format!("{before}[]{after}")
}

#[test]
fn the_common_and_the_combined_format_are_those_that_everybody_parses() {
    let request = request("/a?b=c", &[("user-agent", b"curl/8.0")]);
    let common = line(LogFormat::Common, &request, 1024);
    assert_eq!(
        without_time(&common),
        "192.0.2.1 - - [] \"GET /a?b=c HTTP/1.1\" 200 1024\n"
    );
    let combined = line(LogFormat::Combined, &request, 0);
    assert_eq!(
        without_time(&combined),
        "192.0.2.1 - - [] \"GET /a?b=c HTTP/1.1\" 200 0 \"-\" \"curl/8.0\"\n"
    );
}

#[test]
fn a_json_line_is_an_object_with_every_field() {
    let request = request("/a", &[("host", b"h:80"), ("referer", b"http://r/")]);
    let line = line(LogFormat::Json, &request, 7);
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    let mut object = value.as_object().unwrap().clone();
    assert!(object.remove("duration_us").unwrap().is_u64());
    let time = object.remove("time").unwrap();
    assert_eq!(
        time.as_str().unwrap().len(),
        "2026-11-26T05:48:04.123Z".len()
    );
    let expected = serde_json::json!({
        "peer": "192.0.2.1", "method": "GET", "target": "/a", "version": "HTTP/1.1",
        "host": "h:80", "status": 200, "bytes": 7, "outcome": "complete", "via": "copy",
        "referer": "http://r/", "user_agent": null,
    });
    assert_eq!(serde_json::Value::Object(object), expected);
}

#[test]
fn times_are_those_of_the_calendar() {
    for (seconds, common, rfc3339) in [
        (0, "01/Jan/1970:00:00:00 +0000", "1970-01-01T00:00:00.007Z"),
        (
            951_782_399,
            "28/Feb/2000:23:59:59 +0000",
            "2000-02-28T23:59:59.007Z",
        ),
        (
            1_795_672_084,
            "26/Nov/2026:05:48:04 +0000",
            "2026-11-26T05:48:04.007Z",
        ),
    ] {
        let mut clock = Clock::default();
        let now = Duration::from_secs(seconds) + Duration::from_millis(7);
        let (mut a, mut b) = (Vec::new(), Vec::new());
        clock.common(now, &mut a);
        clock.rfc3339(now, &mut b);
        assert_eq!(String::from_utf8(a).unwrap(), common);
        assert_eq!(String::from_utf8(b).unwrap(), rfc3339);
    }
}

#[test]
fn a_line_has_the_time_of_its_end() {
    let before = SystemTime::now();
    let line = line(LogFormat::Json, &request("/", &[]), 0);
    let time = line.split('"').nth(3).unwrap();
    let time = humantime::parse_rfc3339(time).unwrap();
    // The coarse clock is behind by a tick, which a busy machine may be late with.
    assert!(time + Duration::from_secs(5) > before, "{line}");
    assert!(time <= SystemTime::now(), "{line}");
}

#[test]
fn addresses_are_written_as_std_does() {
    let addresses = [
        "0.0.0.0",
        "9.10.99.100",
        "255.1.20.205",
        "::1",
        "::ffff:1.2.3.4",
    ];
    for ip in addresses.map(|ip| ip.parse::<IpAddr>().unwrap()) {
        let mut into = Vec::new();
        address(&mut into, ip);
        let expected = ip.to_canonical().to_string();
        assert_eq!(String::from_utf8(into).unwrap(), expected);
    }
}

#[test]
fn no_client_can_forge_a_line_or_end_a_field() {
    let evil = "x\" 200 1\\\" \"\t\u{1b}[2J\u{85}é";
    // http refuses control characters in a field, but for tab.
    let field: Vec<u8> = evil.bytes().filter(|byte| *byte != 0x1b).collect();
    let target = "/x\"HTTP/1.1\"[\\";
    let request = request(
        target,
        &[
            ("user-agent", &field),
            ("referer", &field),
            ("host", &field),
        ],
    );
    for &format in LogFormat::ALL {
        let line = line(format, &request, 1);
        assert_eq!(line.matches('\n').count(), 1, "{line:?}");
        let body = line.trim_end();
        assert!(
            body.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
            "{line:?}"
        );
        match format {
            LogFormat::Common => assert_eq!(body.matches('"').count(), 2, "{line}"),
            LogFormat::Combined => assert_eq!(body.matches('"').count(), 6, "{line}"),
            LogFormat::Json => {
                let value: serde_json::Value = serde_json::from_str(&line).unwrap();
                let as_latin1: String = field.iter().map(|byte| char::from(*byte)).collect();
                assert_eq!(value["user_agent"], as_latin1);
                assert_eq!(value["target"], target);
            }
        }
    }
}

#[test]
fn a_field_of_any_length_makes_a_line_of_bounded_length() {
    let long = vec![b'"'; 60_000];
    let request = request("/", &[("user-agent", &long), ("referer", &long)]);
    for &format in LogFormat::ALL {
        assert!(line(format, &request, 1).len() < 60_000);
    }
}

fn start(target: Target) -> Writer {
    Writer::start(target, Formatter::new(LogFormat::Common)).unwrap()
}

/// Logs a request for a target.
fn push(writer: &Writer, target: &str) {
    let request = request(target, &[]);
    let head = head(&request);
    let exchange = Tally::new(&head, None).sum();
    writer.push(
        &Begun::new(LogFormat::Common, &head),
        Ended::now(LogFormat::Common, &exchange),
    );
}

/// The targets of a log's lines.
fn targets(log: &[u8]) -> Vec<String> {
    let target = |line: &str| match line {
        "" => String::new(),
        _ => line.split(' ').nth(6).expect(line).to_owned(),
    };
    let log = str::from_utf8(log).unwrap();
    log.lines().map(target).collect()
}

#[test]
fn rotation_under_load_loses_no_line() {
    const THREADS: usize = 4;
    const LINES: usize = 20_000;
    const ROTATIONS: usize = 20;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let writer = start(Target::file(open(&path).unwrap(), path.clone()));
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let writer = &writer;
            scope.spawn(move || (0..LINES).for_each(|n| push(writer, &format!("/{thread}/{n}"))));
        }
        for rotation in 0..ROTATIONS {
            // There once the last reopening has been done.
            writer.flush();
            fs::rename(&path, dir.path().join(format!("log.{rotation}"))).unwrap();
            writer.reopen();
            writer.flush();
        }
    });
    assert_eq!(writer.dropped(), 0);
    drop(writer);
    let mut all: Vec<String> = fs::read_dir(dir.path())
        .unwrap()
        .flat_map(|entry| targets(&fs::read(entry.unwrap().path()).unwrap()))
        .collect();
    all.sort();
    let mut expected: Vec<String> = (0..THREADS)
        .flat_map(|thread| (0..LINES).map(move |n| format!("/{thread}/{n}")))
        .collect();
    expected.sort();
    assert!(all == expected, "{} of {}", all.len(), expected.len());
}

#[test]
fn what_cannot_be_reopened_is_written_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let writer = start(Target::file(open(&path).unwrap(), path.clone()));
    let aside = dir.path().join("aside");
    fs::rename(&path, &aside).unwrap();
    fs::create_dir(&path).unwrap();
    writer.reopen();
    push(&writer, "/a");
    writer.flush();
    assert_eq!(targets(&fs::read(&aside).unwrap()), ["/a"]);
}

/// Writes a batch whenever it is allowed to.
struct Gate {
    allowed: Receiver<()>,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Write for Gate {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        // The sender is gone: everything may pass.
        _ = self.allowed.recv();
        self.written.lock().unwrap().extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn who_writes_never_waits_for_the_target_and_what_is_lost_is_counted() {
    let (allow, allowed) = mpsc::channel();
    let written = Arc::default();
    let gate = Gate {
        allowed,
        written: Arc::clone(&written),
    };
    let writer = start(Target::writer(gate));
    let target = format!("/{}", "x".repeat(1023));
    // Twice what fits, while nothing is taken.
    for _ in 0..10_000 {
        push(&writer, &target);
    }
    let dropped = writer.dropped();
    assert!(dropped > 0);
    drop(allow);
    drop(writer);
    let written = targets(&written.lock().unwrap());
    assert!(written.iter().all(|written| *written == target));
    assert_eq!(written.len() as u64 + dropped, 10_000);
}

/// Fails while told to.
#[derive(Clone, Default)]
struct Failing(Arc<Mutex<(bool, Vec<u8>)>>);

impl Write for Failing {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock().unwrap();
        if state.0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.1.extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_loses_lines_countedly_and_later_lines_are_whole() {
    let target = Failing::default();
    let writer = start(Target::writer(target.clone()));
    push(&writer, "/a");
    writer.flush();
    target.0.lock().unwrap().0 = true;
    for _ in 0..3 {
        push(&writer, "/lost");
    }
    writer.flush();
    assert_eq!(writer.dropped(), 3);
    target.0.lock().unwrap().0 = false;
    push(&writer, "/b");
    writer.flush();
    // What failed may have left half a line, which is ended.
    assert_eq!(targets(&target.0.lock().unwrap().1), ["/a", "", "/b"]);
}

#[test]
fn a_single_line_reaches_the_file_by_itself() {
    let (tell, told) = mpsc::channel();
    struct Told(mpsc::Sender<Vec<u8>>);
    impl Write for Told {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            _ = self.0.send(buf.to_owned());
            Ok(buf.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let writer = start(Target::writer(Told(tell)));
    for n in 0..4 {
        let target = format!("/{n}");
        push(&writer, &target);
        let written = told.recv_timeout(Duration::from_secs(30)).unwrap();
        assert_eq!(targets(&written), [target]);
    }
}

#[test]
fn nobody_waits_for_a_target_that_has_panicked() {
    struct Panicking;
    impl Write for Panicking {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            panic!("a target's fault")
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let writer = start(Target::writer(Panicking));
    push(&writer, "/a");
    writer.flush();
    writer.flush();
}

#[test]
fn a_new_file_does_not_begin_with_the_end_of_half_a_line_in_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    // Nothing can be written to it.
    let read_only = File::open(dir.path()).unwrap();
    let writer = start(Target::file(read_only, path.clone()));
    push(&writer, "/lost");
    writer.flush();
    assert_eq!(writer.dropped(), 1);
    writer.reopen();
    push(&writer, "/a");
    writer.flush();
    assert_eq!(targets(&fs::read(&path).unwrap()), ["/a"]);
}
