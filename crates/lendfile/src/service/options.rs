//! What [`ServeDir`](crate::ServeDir) and [`ServeFile`](crate::ServeFile) can be told alike.

use std::path::Path;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::cache::CacheLimits;
use super::cache_control::Rules;
use super::coding::Coding;
use super::disposition::Disposition;
use super::response::{FileResponse, MAX_RANGES};
use crate::Lending;

/// Time for which an answer is used without a look at its path.
pub(super) const STALENESS: Duration = Duration::from_secs(1);

/// Files up to this length are kept as bytes and sent with their head in one call. Bare responders
/// over 32 connections: sendfile has 0.84, 0.90 and 0.93 of memory's requests at 1, 4 and 16 KiB, is
/// level with it from 24 to 48, and has 1.24 of them at 64, where head and content do not fit into
/// one segment train any more (benches/record/2026-11-26-race-small.md and -race-64k.md).
const CACHED_FILE_BYTES: u64 = 48 << 10;

#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) cache_control: Rules,
    pub(super) cached_file_bytes: u64,
    /// By extension, in lower case.
    pub(super) content_types: Vec<(String, HeaderValue)>,
    pub(super) disposition: Option<Disposition>,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) lending: Lending,
    pub(super) limits: CacheLimits,
    pub(super) max_ranges: usize,
    pub(super) precompressed: Vec<Coding>,
    pub(super) rate_limit: Option<crate::RateLimit>,
    pub(super) staleness: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_control: Rules::default(),
            cached_file_bytes: CACHED_FILE_BYTES,
            content_types: Vec::new(),
            disposition: None,
            headers: Vec::new(),
            lending: Lending::default(),
            limits: CacheLimits::default(),
            max_ranges: MAX_RANGES,
            precompressed: Vec::new(),
            rate_limit: None,
            staleness: STALENESS,
        }
    }
}

impl Options {
    pub(super) fn content_type_of(&self, path: &Path) -> Option<HeaderValue> {
        let extension = path.extension()?.to_str()?;
        self.content_types
            .iter()
            .rev()
            .find(|(known, _)| known.eq_ignore_ascii_case(extension))
            .map(|(_, value)| value.clone())
    }

    /// Whether a file of this length is read into memory. Without staleness nothing is kept, and
    /// bytes for one response are read when they are sent.
    pub(super) fn keeps_bytes_of(&self, len: u64) -> bool {
        len > 0 && len <= self.cached_file_bytes && !self.staleness.is_zero()
    }

    /// Adds the headers that were asked for.
    pub(super) fn decorate(
        &self,
        mut response: FileResponse,
        path: &Path,
        content_type: &HeaderValue,
    ) -> FileResponse {
        if let Some(value) = self.cache_control.value_for(path, content_type) {
            response = response.cache_control(value);
        }
        if let Some(disposition) = self.disposition {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            response = response.disposition(disposition, &name);
        }
        for (name, value) in &self.headers {
            response = response.header(name.clone(), value.clone());
        }
        response
    }
}

/// The builder's methods for what both services can be told. Each needs `with`, which changes the
/// [`Options`] and forgets what was cached under the old ones.
macro_rules! shared_options {
    () => {
        /// Adds a header to each file's response (200, 206 and 304); replaces one of the same
        /// name.
        #[must_use]
        pub fn header(self, name: HeaderName, value: HeaderValue) -> Self {
            self.with(|options| options.headers.push((name, value)))
        }

        /// `Cache-Control` for files that no rule matches. Default: none is sent.
        #[must_use]
        pub fn cache_control(self, value: HeaderValue) -> Self {
            self.with(|options| options.cache_control.set_otherwise(value))
        }

        /// `Cache-Control` for a content type, such as `text/html`, or all of a kind, such as
        /// `image/*`. Of several rules the first that matches decides.
        #[must_use]
        pub fn cache_control_for_type(self, media_range: &str, value: HeaderValue) -> Self {
            self.with(|options| options.cache_control.add_type(media_range, value))
        }

        /// `Cache-Control` for names that match a glob: `*.css` anywhere, `assets/**/*.css` below
        /// `assets`. `*` does not match a `/`. Of several rules the first that matches decides.
        ///
        /// # Errors
        ///
        /// [`ErrorKind::Misuse`](crate::ErrorKind::Misuse) if it is not a glob.
        pub fn cache_control_for_glob(
            self,
            glob: &str,
            value: HeaderValue,
        ) -> Result<Self, lendfile_core::Error> {
            let mut result = Ok(());
            let changed = self.with(|options| result = options.cache_control.add_glob(glob, value));
            match result {
                Ok(()) => Ok(changed),
                Err(error) => Err(lendfile_core::Error::new(
                    lendfile_core::ErrorKind::Misuse,
                    format!("not a glob: {glob:?}: {error}"),
                )),
            }
        }

        /// `Cache-Control: public, max-age=31536000, immutable` for names that change with their
        /// content: a part of the name between dots or dashes, neither its beginning nor its
        /// extension, has 8 or more characters and is hexadecimal with digits and letters
        /// (`app.3f2a9c1b.js`) or has capitals, small letters and digits (`index-BwDk3qXa.css`).
        /// Of several rules the first that matches decides.
        #[must_use]
        pub fn immutable_hashed(self) -> Self {
            self.with(|options| options.cache_control.add_hashed())
        }

        /// The content type of an extension, without its dot; before what is known of it.
        #[must_use]
        pub fn content_type(self, extension: &str, value: HeaderValue) -> Self {
            self.with(|options| options.content_types.push((extension.to_owned(), value)))
        }

        /// Sends `Content-Disposition` with each file's name. Default: none is sent.
        #[must_use]
        pub fn disposition(self, disposition: Disposition) -> Self {
            self.with(|options| options.disposition = Some(disposition))
        }

        /// Sends `app.js.br`, `app.js.zst` or `app.js.gz` in place of `app.js` to clients whose
        /// `Accept-Encoding` prefers them. Of equally preferred ones the first listed is sent;
        /// [`Coding::ALL`] is Brotli, Zstandard, gzip. The file itself must exist. Each has its
        /// own entity tag, and ranges count its bytes. Default: none.
        #[must_use]
        pub fn precompressed(self, codings: impl AsRef<[Coding]>) -> Self {
            self.with(|options| options.precompressed = codings.as_ref().to_vec())
        }

        /// Ranges that are answered at most in one response; what asks for more gets the whole
        /// file. Default: 32.
        #[must_use]
        pub fn max_ranges(self, most: usize) -> Self {
            self.with(|options| options.max_ranges = most)
        }

        /// How late it may be noticed that a path leads elsewhere, that a short file was changed,
        /// or that one appeared. A long file that was written to, replaced or removed is noticed
        /// at once. Default: 1 s. 0 opens the file for each request and keeps nothing.
        #[must_use]
        pub fn staleness(self, time: Duration) -> Self {
            self.with(|options| options.staleness = time)
        }

        /// What is kept between requests at most. See [`CacheLimits`].
        #[must_use]
        pub fn cache(self, limits: CacheLimits) -> Self {
            self.with(|options| options.limits = limits)
        }

        /// Files up to this many bytes are kept in memory, so that they leave with their head in
        /// one system call; longer ones stay open. Default: 48 KiB.
        #[must_use]
        pub fn cached_file_bytes(self, most: u64) -> Self {
            self.with(|options| options.cached_file_bytes = most)
        }

        /// Sends each body no faster than this. Default: no limit.
        #[must_use]
        pub fn rate_limit(self, limit: crate::RateLimit) -> Self {
            self.with(|options| options.rate_limit = Some(limit))
        }

        /// Whether bodies are lent. Default: where the connection advertises it.
        #[must_use]
        pub fn lending(self, lending: Lending) -> Self {
            self.with(|options| options.lending = lending)
        }

        /// Copies what is sent, so that bytes given to the kernel are those that were read: lent
        /// pages go by reference, and a file that is overwritten in place changes what has not
        /// left yet. The same as [`Lending::Never`].
        #[must_use]
        pub fn stable(self) -> Self {
            self.lending(Lending::Never)
        }
    };
}

pub(super) use shared_options;
