//! Nothing waits for a timer of TCP's between head and file, file and end, response and response.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use lendfile::{Method, ServeDir};
use lendfile_tests::client::Client;
use lendfile_tests::process::skip;
use lendfile_tests::server::methods;
use lendfile_tests::{PATIENCE, content};
use rustix::net::sockopt;
use socket2::{Domain, Socket, Type};

/// As over Ethernet; loopback's segments hold a whole response.
const SEGMENT_BYTES: u32 = 1448;

const LEN: u64 = 64 << 10;

/// Nagle's algorithm against a delayed acknowledgement takes 40 ms, a forgotten cork 200 ms.
const BOUND: Duration = Duration::from_millis(30);

/// A socket with the congestion control `name`, if the kernel has it.
fn socket(name: &str) -> Option<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    match sockopt::set_tcp_congestion(&socket, name) {
        Ok(()) => Some(socket),
        Err(errno) => {
            skip(name, &errno.to_string());
            None
        }
    }
}

/// A server of `dir` on this socket; it ends with the process.
fn serve(dir: ServeDir, method: Method, socket: Socket) -> SocketAddr {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    socket.bind(&any.into()).unwrap();
    socket.listen(16).unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(async {
                let listener = tokio::net::TcpListener::from_std(socket.into()).unwrap();
                let serving = lendfile::serve(listener, dir).with_method(method);
                serving.unwrap().await.unwrap();
            });
    });
    address
}

fn connect(address: SocketAddr) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_tcp_mss(SEGMENT_BYTES).unwrap();
    socket.set_tcp_nodelay(true).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(&address.into()).unwrap();
    Client::over(std::net::TcpStream::from(socket))
}

/// A busy machine can make most tries slow; a timer makes them slow every time.
const PATIENT_ROUNDS: usize = 4;

/// The median try's slowest response, of the round in which that was fastest.
fn slowest(address: SocketAddr, sha256: &str) -> Duration {
    let slowest = |_| {
        let mut client = connect(address);
        let times = (0..60).map(|_| {
            let begun = Instant::now();
            let response = client.get("/file", "");
            let took = begun.elapsed();
            assert_eq!(response.sha256, sha256);
            took
        });
        times.max().unwrap_or_default()
    };
    let mut fastest = Duration::MAX;
    for _ in 0..PATIENT_ROUNDS {
        let mut tries: Vec<Duration> = (0..7).map(slowest).collect();
        tries.sort_unstable();
        fastest = fastest.min(tries[tries.len() / 2]);
        if fastest < BOUND {
            break;
        }
    }
    fastest
}

#[test]
fn no_response_of_a_sequence_waits_for_a_timer() {
    let dir = tempfile::tempdir().unwrap();
    // With an end in the middle of a segment, below and above the length from which on a socket is
    // corked.
    for len in [LEN, 3 * LEN + 1] {
        let path = dir.path().join("file");
        content::write(&path, 1, len).unwrap();
        let sha256 = content::sha256(&path).unwrap();
        for method in methods() {
            for name in ["cubic", "reno"] {
                // Long files are kept open, short ones in memory: neither here.
                let service = ServeDir::new(dir.path()).unwrap();
                let service = service.staleness(Duration::ZERO).cached_file_bytes(0);
                let Some(socket) = socket(name) else { continue };
                let address = serve(service, method, socket);
                let slowest = slowest(address, &sha256);
                assert!(
                    slowest < BOUND,
                    "{method}, {name}, {len} bytes: {slowest:?}"
                );
            }
        }
    }
}
