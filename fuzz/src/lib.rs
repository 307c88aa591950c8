//! What the fuzz targets share: a tree to serve, and a response taken to its end. They go through
//! the public interface only, so they hold whatever the inside becomes. What the answer should be,
//! each target works out by itself, as naively as can be.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use lendfile::FileBody;
use tokio::runtime::Runtime;
use tower_service::Service;

/// Bytes of `file`.
pub const LEN: usize = 1000;

/// The content of `file`.
pub fn content() -> Vec<u8> {
    (0..LEN).map(|k| (k * 7 % 251) as u8).collect()
}

/// When every file was last changed, long enough ago for a strong tag:
/// Sun, 09 Sep 2001 01:46:40 GMT.
pub fn modified() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)
}

/// A root with a secret beside it:
///
/// ```text
/// secret
/// root/file, file.br, file.gz, file.zst
/// root/a/index.html, a/b/c
/// root/in -> a      up -> ..      a/b/out -> ../../../secret
/// ```
pub static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap().keep();
    let root = dir.join("root");
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::write(dir.join("secret"), "secret").unwrap();
    for (name, bytes) in [
        ("file", content()),
        ("file.br", b"br".to_vec()),
        ("file.gz", b"gzip".to_vec()),
        ("file.zst", b"zstd".to_vec()),
        ("a/index.html", b"index".to_vec()),
        ("a/b/c", b"inside".to_vec()),
    ] {
        fs::write(root.join(name), bytes).unwrap();
        let file = File::options().write(true).open(root.join(name));
        file.unwrap().set_modified(modified()).unwrap();
    }
    symlink("a", root.join("in")).unwrap();
    symlink("..", root.join("up")).unwrap();
    symlink("../../../secret", root.join("a/b/out")).unwrap();
    root
});

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
});

/// Calls a service and takes its response to the end.
pub fn ask<S>(service: &S, request: Request<()>) -> (StatusCode, HeaderMap, Bytes)
where
    S: Service<Request<()>, Response = Response<FileBody>, Error = std::convert::Infallible>
        + Clone,
{
    RUNTIME.block_on(async {
        let Ok(response) = service.clone().call(request).await;
        take(response).await
    })
}

/// Takes a response to its end.
pub fn collect(response: Response<FileBody>) -> (StatusCode, HeaderMap, Bytes) {
    RUNTIME.block_on(take(response))
}

async fn take(response: Response<FileBody>) -> (StatusCode, HeaderMap, Bytes) {
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("the files do not change");
    let bytes = body.to_bytes();
    if let Some(length) = head.headers.get("content-length") {
        assert_eq!(length, &HeaderValue::from(bytes.len()));
    }
    (head.status, head.headers, bytes)
}
