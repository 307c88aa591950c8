//! Any target: nothing outside of the root, no answer but those of the policy, no redirect to
//! another host.

#![no_main]

use std::sync::LazyLock;

use http::Request;
use lendfile::ServeDir;
use lendfile_fuzz::{ROOT, ask};
use libfuzzer_sys::fuzz_target;

static SERVICE: LazyLock<ServeDir> = LazyLock::new(|| {
    ServeDir::new(&*ROOT)
        .unwrap()
        .listing()
        .dotfiles()
        .index_files(["index.htm", "index.html"])
});

fuzz_target!(|target: &str| {
    let Ok(request) = Request::get(format!("/{target}")).body(()) else {
        return;
    };
    let (status, headers, body) = ask(&*SERVICE, request);
    assert!([200, 301, 400, 404].contains(&status.as_u16()), "{status}");
    assert_ne!(&body[..], b"secret");
    if let Some(location) = headers.get("location") {
        let location = location.as_bytes();
        assert!(location.starts_with(b"/"));
        assert!(!location.starts_with(b"//") && !location.starts_with(b"/\\"));
    }
});
