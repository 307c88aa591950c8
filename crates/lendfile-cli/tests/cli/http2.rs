//! What an HTTP/2 connection may take, asked by peers that no library would be: each limit holds, by
//! the error that RFC 9113 has for it, and the server serves on.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};

use lendfile_tests::h2::{self, ACK, END_HEADERS, END_STREAM, Frame, code, kind};
use lendfile_tests::{PATIENCE, content};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::command::{Running, connect, serve};

const LARGE: usize = 1 << 20;

/// What a response with the status 200 begins with, and one with 431: HPACK's static table, and a
/// Huffman-coded literal beside a name of it (RFC 7541).
const OK: &[u8] = &[0x88];
const TOO_LARGE: &[u8] = &[0x48, 0x83, 0x69, 0x90, 0xff];

/// More than any limit.
const MANY: u32 = 10_000;

fn site() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("small"), "small").unwrap();
    content::write(&dir.path().join("large"), 1, LARGE as u64).unwrap();
    dir
}

/// A peer that has sent its preface.
struct Peer(TcpStream);

impl Peer {
    fn connect(addr: SocketAddr) -> Self {
        let socket = TcpStream::connect(addr).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut peer = Self(socket);
        peer.send(&h2::preface());
        peer
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// The next frame that is what is looked for.
    fn until(&mut self, is_it: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            let frame = Frame::read(&mut self.0).expect("a frame");
            assert_ne!(
                (frame.kind, is_it(&frame)),
                (kind::GOAWAY, false),
                "{frame:?}"
            );
            if is_it(&frame) {
                return frame;
            }
        }
    }

    /// Sends what nobody need take to its end; why the server closed the connection.
    fn until_gone(&mut self, bytes: &[u8]) -> u32 {
        // It may be gone before it has read all.
        _ = self.0.write_all(bytes);
        self.read_to_end().why.expect("a GOAWAY")
    }

    /// Reads until the server closes the connection.
    fn read_to_end(&mut self) -> End {
        let (mut why, mut bytes) = (None, 0);
        loop {
            let frame = match Frame::read(&mut self.0) {
                Ok(frame) => frame,
                Err(error) => {
                    let ends = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset];
                    assert!(ends.contains(&error.kind()), "never closed: {error}");
                    return End { why, bytes };
                }
            };
            match frame.kind {
                kind::DATA => bytes += frame.payload.len(),
                kind::GOAWAY => why = Some(frame.number(4)),
                // A first GOAWAY is followed by the question whether it has come.
                kind::PING if frame.flags & ACK == 0 => {
                    let answer = h2::frame(kind::PING, ACK, 0, &frame.payload);
                    // It may be gone.
                    _ = self.0.write_all(&answer);
                }
                _ => {}
            }
        }
    }
}

/// How a connection ended.
struct End {
    /// The last GOAWAY's code.
    why: Option<u32>,
    /// Bytes of bodies.
    bytes: usize,
}

/// Streams of a client: odd numbers.
fn streams(many: u32) -> impl Iterator<Item = u32> {
    (0..many).map(|k| 2 * k + 1)
}

fn serves_still(server: &mut Running, addr: SocketAddr) {
    assert!(server.is_running());
    assert_eq!(connect(addr).get("/small", "").body, b"small");
}

#[test]
fn the_limits_are_told_in_the_settings() {
    let dir = site();
    let (_server, addr) = serve(
        dir.path(),
        &["--http2-streams", "7", "--max-header-bytes", "16KiB"],
    );
    let settings = Peer::connect(addr).until(|frame| frame.kind == kind::SETTINGS);
    let settings: BTreeMap<_, _> = settings
        .payload
        .chunks_exact(6)
        .map(|setting| {
            let value = setting.last_chunk().unwrap();
            (setting[1], u32::from_be_bytes(*value))
        })
        .collect();
    // MAX_CONCURRENT_STREAMS and MAX_HEADER_LIST_SIZE (RFC 9113 §6.5.2).
    assert_eq!(settings[&3], 7);
    assert_eq!(settings[&6], 16 << 10);
}

#[test]
fn a_stream_too_many_is_refused_and_the_others_go_on() {
    let dir = site();
    let (_server, addr) = serve(dir.path(), &["--http2-streams", "2"]);
    let mut peer = Peer::connect(addr);
    // Their windows close before they end.
    for stream in streams(3) {
        peer.send(&h2::get(stream, "/large"));
    }
    let refused = peer.until(|frame| frame.kind == kind::RST_STREAM);
    assert_eq!(
        (refused.stream, refused.number(0)),
        (5, code::REFUSED_STREAM)
    );
    // One less, and there is room for another.
    peer.send(&h2::reset(1, code::CANCEL));
    peer.send(&h2::get(7, "/small"));
    let head = peer.until(|frame| frame.stream == 7);
    assert_eq!(head.kind, kind::HEADERS);
    assert!(head.payload.starts_with(OK), "{head:?}");
    // The one that was there is sent whole.
    peer.send(&h2::window(0, 1 << 30));
    peer.send(&h2::window(3, 1 << 30));
    peer.until(|frame| frame.stream == 3 && frame.flags & END_STREAM != 0);
}

#[test]
fn who_opens_and_resets_streams_in_a_row_is_told_to_calm_down() {
    let dir = site();
    let (mut server, addr) = serve(dir.path(), &["--threads", "1"]);
    let attack: Vec<u8> = streams(MANY)
        .flat_map(|stream| [h2::get(stream, "/large"), h2::reset(stream, code::CANCEL)].concat())
        .collect();
    let why = Peer::connect(addr).until_gone(&attack);
    assert_eq!(why, code::ENHANCE_YOUR_CALM);
    serves_still(&mut server, addr);
}

#[test]
fn who_makes_the_server_reset_streams_in_a_row_is_told_to_calm_down() {
    let dir = site();
    let (mut server, addr) = serve(dir.path(), &["--threads", "1"]);
    // A window of more than 2^31 - 1 bytes is an error of its stream (RFC 9113 §6.9.1).
    let attack: Vec<u8> = streams(MANY)
        .flat_map(|stream| [h2::get(stream, "/large"), h2::window(stream, (1 << 31) - 1)].concat())
        .collect();
    let why = Peer::connect(addr).until_gone(&attack);
    assert_eq!(why, code::ENHANCE_YOUR_CALM);
    serves_still(&mut server, addr);
}

#[test]
fn a_head_that_does_not_end_is_cut_off() {
    let dir = site();
    let (mut server, addr) = serve(dir.path(), &["--threads", "1"]);
    let mut attack = h2::frame(kind::HEADERS, END_STREAM, 1, &h2::fields("/small"));
    for _ in 0..MANY {
        attack.extend(h2::frame(kind::CONTINUATION, 0, 1, &[]));
    }
    let why = Peer::connect(addr).until_gone(&attack);
    assert_eq!(why, code::ENHANCE_YOUR_CALM);
    serves_still(&mut server, addr);
}

#[test]
fn a_head_that_is_too_long_is_431_and_the_connection_goes_on() {
    const FIELD: usize = 16_000;
    const FRAME: usize = 16 << 10;
    let dir = site();
    let (_server, addr) = serve(dir.path(), &[]);
    let mut fields = h2::fields("/small");
    // 80 KB, where 64 KiB are allowed.
    for _ in 0..5 {
        // A literal with a new name; its length has 7 bits in its first byte (RFC 7541 §5.1).
        fields.extend([0x00, 1, b'x', 127]);
        let rest = FIELD - 127;
        fields.extend([rest & 0x7f | 0x80, rest >> 7].map(|byte| byte.to_le_bytes()[0]));
        fields.extend([b'x'; FIELD]);
    }
    let frames: Vec<_> = fields.chunks(FRAME).collect();
    let mut peer = Peer::connect(addr);
    for (index, part) in frames.iter().enumerate() {
        let (kind, flags) = match index {
            0 => (kind::HEADERS, END_STREAM),
            _ => (kind::CONTINUATION, 0),
        };
        let last = index + 1 == frames.len();
        let flags = flags | if last { END_HEADERS } else { 0 };
        peer.send(&h2::frame(kind, flags, 1, part));
    }
    let head = peer.until(|frame| frame.kind == kind::HEADERS);
    assert!(head.payload.starts_with(TOO_LARGE), "{head:?}");
    peer.send(&h2::get(3, "/small"));
    let head = peer.until(|frame| frame.stream == 3);
    assert!(head.payload.starts_with(OK), "{head:?}");
}

#[test]
fn a_frame_that_is_too_long_is_an_error_of_the_connection() {
    let dir = site();
    let (mut server, addr) = serve(dir.path(), &["--threads", "1"]);
    let frame = h2::frame(kind::DATA, 0, 1, &[0; (16 << 10) + 1]);
    let why = Peer::connect(addr).until_gone(&frame);
    assert_eq!(why, code::FRAME_SIZE_ERROR);
    serves_still(&mut server, addr);
}

#[test]
fn the_last_request_that_is_allowed_ends_the_connection() {
    let dir = site();
    let (_server, addr) = serve(dir.path(), &["--max-requests", "2"]);
    let mut peer = Peer::connect(addr);
    for stream in streams(2) {
        peer.send(&h2::get(stream, "/small"));
    }
    let end = peer.read_to_end();
    assert_eq!((end.why, end.bytes), (Some(code::NO_ERROR), 2 * 5));
}

#[test]
fn at_shutdown_a_peer_is_told_and_its_running_stream_is_sent_whole() {
    let dir = site();
    let (server, addr) = serve(dir.path(), &["--threads", "1"]);
    let mut peer = Peer::connect(addr);
    peer.send(&h2::get(1, "/large"));
    let first = peer.until(|frame| frame.kind == kind::DATA).payload.len();
    server.signal(Signal::TERM);
    let mut got = first;
    let told = loop {
        let frame = Frame::read(&mut peer.0).expect("a frame");
        match frame.kind {
            kind::DATA => got += frame.payload.len(),
            kind::GOAWAY => break frame.number(4),
            _ => {}
        }
    };
    assert_eq!(told, code::NO_ERROR);
    assert!(got < LARGE, "its window is closed");
    peer.send(&h2::window(0, 1 << 30));
    peer.send(&h2::window(1, 1 << 30));
    assert_eq!(got + peer.read_to_end().bytes, LARGE);
    assert_eq!(server.finish().code, Some(0));
}
