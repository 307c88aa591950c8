//! `splice_proxy`, in front of another example and of nothing.

use lendfile_tests::client::Client;
use lendfile_tests::content;

use crate::child::{Example, address_of, command};

#[test]
fn a_server_behind_the_proxy_answers_as_if_there_were_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    content::write(&path, 1, 20_000_003).unwrap();
    let sha256 = content::sha256(&path).unwrap();
    let mut server = command("hyper_body");
    server.arg("127.0.0.1:0").arg(&path);
    let server = Example::start(server);
    let mut proxy = command("splice_proxy");
    proxy.args(["127.0.0.1:0".to_owned(), address_of(&server).to_string()]);
    let proxy = Example::start(proxy);
    let mut client = proxy.connect();
    for _ in 0..3 {
        assert_eq!(client.get("/", "").sha256, sha256);
    }
    drop(client);
    let ended = proxy.logged("ended");
    assert!(ended.contains("down="), "{ended}");
}

#[test]
fn without_a_target_the_client_is_let_go() {
    // Bound and not listening: refused, and nobody else's.
    let nobody = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    nobody.bind(&any.into()).unwrap();
    let target = nobody.local_addr().unwrap().as_socket().unwrap();
    let mut proxy = command("splice_proxy");
    proxy.args(["127.0.0.1:0".to_owned(), target.to_string()]);
    let proxy = Example::start(proxy);
    let rest = Client::connect(proxy.address()).rest().unwrap_or_default();
    assert_eq!(rest, b"");
    proxy.logged("cannot be reached");
}
