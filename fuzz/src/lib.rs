//! What the fuzz targets share: a tree to serve, and a response taken to its end. They go through
//! the public interface only, so they hold whatever the inside becomes.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
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

/// A root, a secret beside it, and links that lead to the secret.
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
        ("a/b/c", b"inside".to_vec()),
        ("a/index.html", b"index".to_vec()),
    ] {
        fs::write(root.join(name), bytes).unwrap();
        // Old enough for a strong tag.
        let file = fs::File::options().write(true).open(root.join(name)).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000))
            .unwrap();
    }
    std::os::unix::fs::symlink("..", root.join("up")).unwrap();
    std::os::unix::fs::symlink("../../../secret", root.join("a/b/out")).unwrap();
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
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.expect("the files do not change").to_bytes();
        (head.status, head.headers, bytes)
    })
}
