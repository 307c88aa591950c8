use std::io::ErrorKind;
use std::num::NonZeroU64;

use lendfile_core::{Method, Outcome, RateLimit};
use lendfile_epoll::{Socket, TransferOptions, relay};
use lendfile_tests::content;
use lendfile_tests::process::descriptors;
use tokio::time::Instant;

use super::*;

const METHODS: [Method; 3] = [Method::Auto, Method::Copy, Method::Splice];

#[tokio::test]
async fn both_directions_arrive_whole_between_all_kinds_of_sockets() {
    async fn check<A: Socket, B: Socket>((a, client): (A, A), (b, server): (B, B), method: Method) {
        let (up, down) = (content::bytes(1, 5_000_001), content::bytes(2, 3_000_003));
        let (mut client_reads, mut client_writes) = tokio::io::split(client);
        let (mut server_reads, mut server_writes) = tokio::io::split(server);
        let (mut got_up, mut got_down) = (Vec::new(), Vec::new());
        let options = TransferOptions::new().method(method);
        let relaying = relay(&a, &b, options);
        let progress = (relaying.progress_a_to_b(), relaying.progress_b_to_a());
        let (relayed, ..) = tokio::join!(
            relaying,
            async {
                client_writes.write_all(&up).await.unwrap();
                client_writes.shutdown().await.unwrap();
            },
            async { client_reads.read_to_end(&mut got_down).await.unwrap() },
            async {
                server_writes.write_all(&down).await.unwrap();
                server_writes.shutdown().await.unwrap();
            },
            async { server_reads.read_to_end(&mut got_up).await.unwrap() },
        );
        assert_same(&got_up, &up);
        assert_same(&got_down, &down);
        let relayed = relayed.unwrap();
        assert!(relayed.is_complete());
        let lens = (relayed.a_to_b.len, relayed.b_to_a.len);
        assert_eq!(lens, (5_000_001, 3_000_003));
        assert_eq!((progress.0.bytes(), progress.1.bytes()), lens);
        let carried = match method {
            Method::Copy => Method::Copy,
            _ => Method::Splice,
        };
        assert_eq!(relayed.a_to_b.bytes_by(carried), 5_000_001);
        assert_eq!(relayed.b_to_a.bytes_by(carried), 3_000_003);
    }
    for method in METHODS {
        in_time("tcp, tcp", check(tcp(), tcp(), method)).await;
        in_time("tcp, unix", check(tcp(), unix(), method)).await;
        in_time("unix, tcp", check(unix(), tcp(), method)).await;
        in_time("unix, unix", check(unix(), unix(), method)).await;
    }
}

#[tokio::test]
async fn a_half_closed_direction_ends_and_the_other_goes_on() {
    async fn check<S: Socket>(a: S, mut client: S, method: Method) {
        let (b, mut server) = tcp();
        let options = TransferOptions::new().method(method);
        let talking = async {
            client.write_all(b"question").await.unwrap();
            client.shutdown().await.unwrap();
            // The end is passed on while the answer is still to come.
            let mut question = Vec::new();
            server.read_to_end(&mut question).await.unwrap();
            assert_eq!(question, b"question");
            server.write_all(b"answer").await.unwrap();
            let mut answer = [0; 6];
            client.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"answer");
            server.write_all(b", and more").await.unwrap();
            server.shutdown().await.unwrap();
            let mut more = Vec::new();
            client.read_to_end(&mut more).await.unwrap();
            assert_eq!(more, b", and more");
        };
        let (relayed, ()) = tokio::join!(relay(&a, &b, options), talking);
        assert!(relayed.unwrap().is_complete());
    }
    for method in METHODS {
        over_both!(check, method);
    }
}

#[tokio::test]
async fn an_idle_relay_holds_no_pipe_and_a_finished_one_neither() {
    if !alone("relay::an_idle_relay_holds_no_pipe_and_a_finished_one_neither") {
        return;
    }
    let (a, mut client) = tcp();
    let (b, mut server) = tcp();
    let before = descriptors();
    let mut relaying = relay(&a, &b, TransferOptions::new());
    let mut got = [0; 4];
    for _ in 0..3 {
        client.write_all(b"ping").await.unwrap();
        let ping = tokio::select! {
            _ = &mut relaying => panic!("it has not ended"),
            read = server.read_exact(&mut got) => read,
        };
        ping.unwrap();
    }
    // In the pool of the thread there may be one for each direction.
    assert!(descriptors() <= before + 4);
    client.shutdown().await.unwrap();
    server.shutdown().await.unwrap();
    in_time("the end", relaying).await.unwrap();
    assert!(descriptors() <= before + 4);
}

#[tokio::test]
async fn given_up_at_any_wait_nothing_is_lost() {
    if !alone("relay::given_up_at_any_wait_nothing_is_lost") {
        return;
    }
    async fn check<S: Socket>(a: S, mut client: S, method: Method, polls: usize) {
        let (b, server) = tcp();
        let bytes = content::bytes(3, 10 << 20);
        let options = TransferOptions::new().method(method).turn_bytes(1 << 20);
        let before = descriptors();
        // Nobody reads at the other end, so that it is stuck with bytes on their way.
        let sending = async {
            client.write_all(&bytes).await.unwrap();
            client.shutdown().await.unwrap();
        };
        let giving_up = async {
            let mut relaying = relay(&a, &b, options);
            let progress = relaying.progress_a_to_b();
            for _ in 0..polls {
                assert!(once(&mut relaying).await.is_none());
            }
            let undelivered = relaying.into_undelivered().unwrap();
            assert_eq!(undelivered.b_to_a, b"");
            let delivered = progress.bytes();
            // By hand from here on: what was on its way, then the rest.
            let on = async {
                let mut b = b;
                b.write_all(&undelivered.a_to_b).await.unwrap();
                let rest = read_all(a).await;
                b.write_all(&rest).await.unwrap();
                rest.len() as u64
            };
            let (rest, got) = tokio::join!(on, read_all(server));
            assert_eq!(
                delivered + undelivered.a_to_b.len() as u64 + rest,
                bytes.len() as u64
            );
            assert_same(&got, &bytes);
        };
        tokio::join!(sending, giving_up);
        // Pipes of the pool may have come, both pairs' other three sockets have gone.
        assert!(descriptors() <= before + 1, "descriptors leak");
    }
    for method in METHODS {
        for polls in [1, 3, 40] {
            over_both!(check, method, polls);
        }
    }
}

#[tokio::test]
async fn a_dropped_relay_closes_its_pipes_and_reports_what_was_delivered() {
    if !alone("relay::a_dropped_relay_closes_its_pipes_and_reports_what_was_delivered") {
        return;
    }
    let (a, mut client) = tcp();
    let (b, mut server) = tcp();
    // More than four buffers and two pipes at their largest.
    let bytes = content::bytes(4, 96 << 20);
    let before = descriptors();
    let mut relaying = relay(&a, &b, TransferOptions::new());
    let progress = relaying.progress_a_to_b();
    let stuck = async {
        for _ in 0..200 {
            assert!(once(&mut relaying).await.is_none());
        }
    };
    tokio::select! {
        _ = client.write_all(&bytes) => panic!("the buffers cannot hold that much"),
        () = stuck => {}
    }
    drop(relaying);
    assert!(descriptors() <= before + 4, "descriptors leak");
    drop(b);
    let mut got = Vec::new();
    server.read_to_end(&mut got).await.unwrap();
    assert_eq!(got.len() as u64, progress.bytes());
    assert_same(&got, &bytes[..got.len()]);
}

#[tokio::test]
async fn a_reset_ends_it_with_both_counts() {
    for method in METHODS {
        let (a, mut client) = tcp();
        let (b, mut server) = tcp();
        let options = TransferOptions::new().method(method);
        let talking = async {
            client.write_all(b"hello").await.unwrap();
            let mut hello = [0; 5];
            server.read_exact(&mut hello).await.unwrap();
            // Unread bytes make close(2) send a reset.
            client.write_all(b"unread").await.unwrap();
            while server.peek(&mut [0; 6]).await.unwrap() < 6 {}
            drop(server);
        };
        let both = async { tokio::join!(relay(&a, &b, options), talking) };
        let (relayed, ()) = in_time("a reset", both).await;
        let failure = relayed.unwrap_err();
        assert_eq!(failure.kind(), ErrorKind::ConnectionReset, "{failure}");
        let report = failure.report();
        assert!(!report.is_complete());
        assert_eq!(report.a_to_b.outcome, Outcome::Aborted);
        assert_eq!(report.a_to_b.bytes_sent(), 11);
        assert_eq!(report.b_to_a.bytes_sent(), 0);
    }
}

/// By the paused clock, which moves on when everybody waits.
#[tokio::test(start_paused = true)]
async fn a_rate_is_kept_within_five_percent_in_each_direction() {
    let rate = 1_000_000;
    let (a, client) = unix();
    let (b, server) = unix();
    let bytes = content::bytes(5, 10 * rate);
    let limit = RateLimit::new(NonZeroU64::new(rate).unwrap());
    let options = TransferOptions::new().rate_limit(limit);
    let begun = Instant::now();
    let (client_reads, mut client_writes) = tokio::io::split(client);
    let (relayed, (), got, ()) = tokio::join!(
        async {
            let relayed = relay(&a, &b, options).await;
            (relayed.unwrap(), begun.elapsed().as_secs_f64())
        },
        async {
            client_writes.write_all(&bytes).await.unwrap();
            client_writes.shutdown().await.unwrap();
        },
        async {
            let (mut reads, mut writes) = tokio::io::split(server);
            let mut got = Vec::new();
            let both = async { tokio::join!(reads.read_to_end(&mut got), writes.shutdown()) };
            both.await.0.unwrap();
            got
        },
        async { drop(client_reads) },
    );
    assert_same(&got, &bytes);
    let (relayed, seconds) = relayed;
    assert!(relayed.is_complete());
    assert!((9.5..=10.5).contains(&seconds), "{seconds} s");
}
