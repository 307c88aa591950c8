//! A download service: a bearer token is asked for, a file of a directory is sent by axum, behind
//! tower-http's compression and trace layers.
//!
//! ```console
//! $ export DOWNLOAD_TOKEN=secret
//! $ cargo run --release -p lendfile-examples --example axum_download -- [ADDR:PORT [DIR]]
//! $ curl -OJH 'authorization: Bearer secret' http://127.0.0.1:8080/files/Cargo.lock
//! ```
//!
//! # Which responses stay zero-copy
//!
//! | response | way |
//! |---|---|
//! | compressed (text, and the client accepts it) | read and compressed in memory |
//! | anything else of more than 32 KiB, ranges included | `sendfile` |
//! | smaller ones | read and sent together with the head, which is faster |
//!
//! Layers that pass the body's bytes on as they are, such as tracing, cost nothing of it. The log
//! tells which way each file went.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "its first line tells where it listens")]

use std::env;
use std::error::Error;
use std::ffi::OsStr;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, Path as UrlPath, Request, State};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use headers::authorization::{Authorization, Bearer};
use headers::{HeaderMapExt, HeaderValue};
use http::header::{
    ACCEPT_ENCODING, CONTENT_DISPOSITION, CONTENT_ENCODING, ETAG, VARY, WWW_AUTHENTICATE,
};
use http::request::Parts;
use http::{Extensions, HeaderMap, StatusCode, Version};
use lendfile::{
    Connection, FileBody, FileResponse, Lending, Listener, Method, OpenFile, Outcome, Transfer,
};
use mime_guess::mime;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, Predicate};
use tower_http::trace::{DefaultMakeSpan, DefaultOnResponse, TraceLayer};
use tracing::Level;

struct App {
    directory: PathBuf,
    token: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    let mut args = env::args().skip(1);
    let addr = args.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let directory = args.next().unwrap_or_else(|| ".".to_owned()).into();
    // Not an argument: those can be seen by every user of the machine.
    let token = env::var("DOWNLOAD_TOKEN")
        .ok()
        .filter(|token| !token.is_empty())
        .ok_or("set DOWNLOAD_TOKEN to the token that clients are to send")?;
    let app = Router::new()
        .route("/files/{name}", get(download))
        .with_state(Arc::new(App { directory, token }))
        .layer(
            CompressionLayer::new().compress_when(DefaultPredicate::new().and(is_to_be_compressed)),
        )
        .layer(map_response(weaken_etag_of_compressed))
        .layer(
            TraceLayer::new_for_http()
                .make_span_with(DefaultMakeSpan::new().level(Level::INFO))
                .on_response(DefaultOnResponse::new().level(Level::INFO)),
        );
    let listener = Listener::new(TcpListener::bind(addr).await?);
    println!("listening on http://{}", listener.local_addr()?);
    // The connect info is what tells a file's body that its connection can send it by itself.
    let app = app.into_make_service_with_connect_info::<Connection>();
    axum::serve(listener, app)
        .with_graceful_shutdown(async { _ = tokio::signal::ctrl_c().await })
        .await?;
    Ok(())
}

async fn download(
    _: Authorized,
    State(app): State<Arc<App>>,
    UrlPath(name): UrlPath<String>,
    request: Request,
) -> Result<Response, StatusCode> {
    // One plain name: nothing with a slash, not `..`, nothing hidden. For whole trees there is
    // `lendfile::ServeDir`, which also confines symbolic links.
    if Path::new(&name).file_name() != Some(OsStr::new(&name)) || name.starts_with('.') {
        return Err(StatusCode::NOT_FOUND);
    }
    let path = app.directory.join(&name);
    // Opening may wait for the disk.
    let file = tokio::task::spawn_blocking(|| OpenFile::open(path))
        .await
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?
        .map_err(|error| status_of(&error))?;
    let mut response = FileResponse::new(file)
        .content_type_of(&name)
        .header(CONTENT_DISPOSITION, attachment(&name));
    let gains = gains_by_compression(&name);
    if gains {
        response = response.header(VARY, HeaderValue::from_static("accept-encoding"));
    }
    let compress = gains && request.headers().contains_key(ACCEPT_ENCODING);
    if compress {
        // The compressor would read lent bytes through their mapping and wait for the disk in this
        // thread; owned chunks are read without blocking it.
        response = response.lending(Lending::Never);
    }
    let mut response = response
        .respond(&request)
        .map(|body: FileBody| body.on_end(move |transfer| log(&name, &transfer)));
    if compress {
        response.extensions_mut().insert(Compress);
    }
    Ok(response.into_response())
}

fn status_of(error: &io::Error) -> StatusCode {
    use io::ErrorKind::{InvalidFilename, InvalidInput, NotFound, PermissionDenied};
    match error.kind() {
        // InvalidInput: a NUL in the name, or not a regular file.
        InvalidFilename | InvalidInput | NotFound => StatusCode::NOT_FOUND,
        PermissionDenied => StatusCode::FORBIDDEN,
        _ => {
            tracing::error!(%error, "cannot open");
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

/// Says how a file went.
fn log(name: &str, transfer: &Transfer) {
    let method = transfer.method().map_or("none", Method::name);
    let (bytes, len) = (transfer.bytes_sent(), transfer.len);
    match transfer.outcome {
        Outcome::Complete => tracing::info!(name, method, bytes, "sent"),
        outcome => tracing::warn!(
            name,
            method,
            bytes,
            len,
            outcome = outcome.name(),
            "not sent"
        ),
    }
}

/// Proof that the request carries the token.
struct Authorized;

impl FromRequestParts<Arc<App>> for Authorized {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Response> {
        let sent = parts.headers.typed_get::<Authorization<Bearer>>();
        // In constant time, or the time taken would tell how much of a guess is right.
        let is_right = |sent: &str| bool::from(sent.as_bytes().ct_eq(app.token.as_bytes()));
        match sent {
            Some(sent) if is_right(sent.token()) => Ok(Self),
            _ => Err((StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")]).into_response()),
        }
    }
}

/// Marks a response that the compression layer is to compress.
#[derive(Clone)]
struct Compress;

fn is_to_be_compressed(_: StatusCode, _: Version, _: &HeaderMap, extensions: &Extensions) -> bool {
    extensions.get::<Compress>().is_some()
}

/// Text and what is like it. tower-http's own predicate leaves out images, but would compress
/// archives and videos again: for nothing, and their zero-copy would be lost.
fn gains_by_compression(name: &str) -> bool {
    mime_guess::from_path(name).first().is_some_and(|kind| {
        let suffix = kind.suffix().unwrap_or(kind.subtype());
        kind.type_() == mime::TEXT
            || matches!(suffix.as_str(), "javascript" | "json" | "wasm" | "xml")
    })
}

/// The layer leaves the file's strong ETag on the compressed bytes. A client that resumed by it
/// would join compressed bytes with others; a weak one never matches in `If-Range` (RFC 9110
/// §13.1.5), and still does in `If-None-Match`.
async fn weaken_etag_of_compressed(mut response: Response) -> Response {
    let headers = response.headers_mut();
    if headers.contains_key(CONTENT_ENCODING)
        && let Some(etag) = headers.get(ETAG).and_then(|etag| etag.to_str().ok())
        && !etag.starts_with("W/")
        && let Ok(weak) = HeaderValue::try_from(format!("W/{etag}"))
    {
        headers.insert(ETAG, weak);
    }
    response
}

/// What is not escaped in `filename*`: RFC 8187's attr-char.
const ATTR_CHAR: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// `Content-Disposition: attachment` with the file's name (RFC 6266), whatever is in it: in full
/// as `filename*`, and for old clients as `filename` with `_` for what a quoted string cannot hold
/// or clients read in different ways.
fn attachment(name: &str) -> HeaderValue {
    let plain: String = name
        .chars()
        .map(|c| match c {
            '"' | '%' | '\\' => '_',
            ' '..='~' => c,
            _ => '_',
        })
        .collect();
    let full = utf8_percent_encode(name, ATTR_CHAR);
    HeaderValue::try_from(format!(
        "attachment; filename=\"{plain}\"; filename*=UTF-8''{full}"
    ))
    .expect("only visible ASCII and spaces are left")
}
