//! What a path leads to, ready to be sent: the file, and the files beside it that are the same
//! content compressed.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, VARY};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Response};
use lendfile_core::lent::Mapping;
use lendfile_core::{FileRegion, Method as Way, OpenFile};
use rustix::io::{Errno, ReadWriteFlags};

use super::coding::{self, Coding};
use super::content_type;
use super::options::Options;
use super::response::{Content, FileResponse};
use super::root::{Failure, Opened, Patience, Root};
use super::validators::{Version, has_settled};
use crate::{Connection, FileBody};

/// How often a file is read again that changes while it is read; then it is sent as it comes.
const SNAPSHOT_TRIES: u32 = 3;

/// What a path leads to.
#[derive(Debug)]
pub(super) struct Resource {
    plain: Kept,
    coded: Vec<(Coding, Kept)>,
}

/// Whether bytes in memory will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// A short file may be read into memory.
    Content,
    /// The connection was asked to send files by a method of a name.
    OpenFile,
}

impl Need {
    pub(super) fn of(extensions: &Extensions) -> Self {
        match Connection::find(extensions).map(Connection::method) {
            None | Some(Way::Auto) => Self::Content,
            Some(_) => Self::OpenFile,
        }
    }
}

impl Resource {
    /// Makes the responses of `file`, which is at `path` below `root`, and looks for those beside.
    pub(super) fn load(
        root: &Root,
        path: &Path,
        file: Arc<OpenFile>,
        options: &Options,
        need: Need,
        patience: Patience,
    ) -> Result<Self, Failure> {
        let content_type = options
            .content_type_of(path)
            .unwrap_or_else(|| content_type::of(path));
        let mut resource = Self {
            plain: Kept::load(path, file, &content_type, options, need, patience)?,
            coded: Vec::new(),
        };
        for &coding in &options.precompressed {
            let sibling = match root.look_up(&sibling(path, coding), patience) {
                Ok(Opened::File(file)) => file,
                Err(error @ (Failure::WouldWait | Failure::Overloaded(_))) => return Err(error),
                // One that cannot be read is no reason not to send the file itself.
                Ok(Opened::Directory(_)) | Err(_) => continue,
            };
            let mut kept = Kept::load(path, sibling, &content_type, options, need, patience)?;
            kept.add(CONTENT_ENCODING, coding.header_value());
            resource.coded.push((coding, kept));
        }
        if !resource.coded.is_empty() {
            let vary = HeaderValue::from(ACCEPT_ENCODING);
            let coded = resource.coded.iter_mut().map(|(_, kept)| kept);
            coded
                .chain([&mut resource.plain])
                .for_each(|kept| kept.add(VARY, vary.clone()));
        }
        Ok(resource)
    }

    /// The one that the request prefers.
    pub(super) fn select(&self, headers: &HeaderMap) -> &Kept {
        if self.coded.is_empty() {
            return &self.plain;
        }
        let available = self.coded.iter().map(|(coding, _)| *coding);
        coding::preferred(headers, available)
            .and_then(|preferred| self.coded.iter().find(|(coding, _)| *coding == preferred))
            .map_or(&self.plain, |(_, kept)| kept)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Kept> {
        [&self.plain]
            .into_iter()
            .chain(self.coded.iter().map(|(_, kept)| kept))
    }

    /// Whether it is still right when `now` is what the path leads to now.
    pub(super) fn is_still(&self, now: &Self) -> bool {
        let codings = |resource: &Self| -> Vec<Coding> {
            resource.coded.iter().map(|(coding, _)| *coding).collect()
        };
        codings(self) == codings(now)
            && self
                .all()
                .zip(now.all())
                .all(|(kept, now)| kept.is_still(now))
    }
}

fn sibling(path: &Path, coding: Coding) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(coding.suffix());
    name.into()
}

/// One response, with what is kept between requests for it.
#[derive(Debug)]
pub(super) struct Kept {
    response: FileResponse,
    version: Version,
    /// Whether the file could change no more unnoticed when it was looked at.
    settled: bool,
    /// Held so that a hot file is mapped once. The `OpenFile` itself holds it weakly, for the
    /// transfers that share it.
    mapping: OnceLock<Arc<Mapping>>,
}

impl Kept {
    fn load(
        path: &Path,
        mut file: Arc<OpenFile>,
        content_type: &HeaderValue,
        options: &Options,
        need: Need,
        patience: Patience,
    ) -> Result<Self, Failure> {
        let mut bytes = None;
        if need == Need::Content && options.keeps_bytes_of(file.len()) {
            (file, bytes) = snapshot(file, patience)?;
        }
        let version = Version::of(file.metadata());
        let settled = has_settled(file.metadata(), SystemTime::now());
        let mut response = FileResponse::new(file)
            .content_type(content_type.clone())
            .lending(options.lending)
            .max_ranges(options.max_ranges);
        if let Some(limit) = options.rate_limit {
            response = response.rate_limit(limit);
        }
        if let Some(bytes) = bytes {
            response = response.with_snapshot(bytes);
        }
        Ok(Self {
            response: options.decorate(response, path, content_type),
            version,
            settled,
            mapping: OnceLock::new(),
        })
    }

    fn add(&mut self, name: HeaderName, value: HeaderValue) {
        self.response = self.response.clone().header(name, value);
    }

    /// The response, if what is kept is the file's content as it is: bytes in memory are one
    /// version, whole, and an open file is asked (`fstat`).
    pub(super) fn respond_if_unchanged(
        &self,
        need: impl FnOnce() -> Need,
        respond: impl FnOnce(&FileResponse) -> Response<FileBody>,
    ) -> Option<Response<FileBody>> {
        match self.response.content() {
            Content::Memory(_) => match need() {
                Need::Content => Some(respond(&self.response)),
                Need::OpenFile => None,
            },
            Content::File(region) => {
                let file = region.file();
                let unchanged = Version::now(file) == Some(self.version);
                (unchanged && !file.has_ended_early()).then(|| self.respond(respond))
            }
        }
    }

    /// The response.
    pub(super) fn respond(
        &self,
        respond: impl FnOnce(&FileResponse) -> Response<FileBody>,
    ) -> Response<FileBody> {
        let response = respond(&self.response);
        if response.body().is_lent() {
            self.keep_mapping();
        }
        response
    }

    fn keep_mapping(&self) {
        if self.mapping.get().is_none()
            && let Content::File(region) = self.response.content()
            && let Ok(mapping) = region.map()
        {
            // Another request may have been faster; its mapping is the same.
            _ = self.mapping.set(mapping);
        }
    }

    /// Whether it is still right when `now` would be made of the file.
    fn is_still(&self, now: &Self) -> bool {
        let usable = match (self.response.content(), now.response.content()) {
            (Content::Memory(_), Content::Memory(_)) => true,
            (Content::File(region), Content::File(_)) => {
                let poisoned = self
                    .mapping
                    .get()
                    .is_some_and(|mapping| mapping.is_poisoned());
                !region.file().has_ended_early() && !poisoned
            }
            _ => false,
        };
        // An unsettled file may have changed without its time changing, and its weak tag may have
        // become strong.
        usable && self.settled && now.settled && self.version == now.version
    }

    /// Memory that it takes, and descriptors.
    pub(super) fn size(&self) -> (u64, u64) {
        match self.response.content() {
            Content::File(_) => (0, 1),
            Content::Memory(bytes) => (bytes.len() as u64, 0),
        }
    }
}

/// Reads all of a short file: the file with what `fstat` says of it now, and
/// its bytes, if it has not changed in between.
fn snapshot(
    mut file: Arc<OpenFile>,
    patience: Patience,
) -> Result<(Arc<OpenFile>, Option<Bytes>), Failure> {
    for _ in 0..SNAPSHOT_TRIES {
        let bytes = read_all(&file, patience)?;
        if let Some(bytes) = bytes
            && Version::now(&file) == Some(Version::of(file.metadata()))
        {
            return Ok((file, Some(bytes)));
        }
        let again = looked_at_again(&file).map_err(Failure::Other)?;
        if again.len() > file.len() {
            // It grows while it is read: no use in reading on.
            return Ok((again, None));
        }
        file = again;
    }
    Ok((file, None))
}

/// The same open file with what is true of it now.
fn looked_at_again(file: &OpenFile) -> io::Result<Arc<OpenFile>> {
    OpenFile::new(File::from(file.as_fd().try_clone_to_owned()?))
}

/// `None` if the file is shorter than it was.
fn read_all(file: &Arc<OpenFile>, patience: Patience) -> Result<Option<Bytes>, Failure> {
    let region = FileRegion::whole(file.clone());
    let len = usize::try_from(region.len()).unwrap_or(usize::MAX);
    let mut bytes = vec![0; len];
    let flags = match patience {
        Patience::MayWait => ReadWriteFlags::empty(),
        Patience::MemoryOnly if file.refuses_nowait() => return Err(Failure::WouldWait),
        Patience::MemoryOnly => ReadWriteFlags::NOWAIT,
    };
    let mut filled = 0;
    while filled < len {
        let bufs = &mut [IoSliceMut::new(&mut bytes[filled..])];
        match rustix::io::preadv2(file, bufs, filled as u64, flags) {
            Ok(0) if patience == Patience::MayWait => return Ok(None),
            Ok(0) => return Err(Failure::WouldWait),
            Ok(n) => filled += n,
            Err(Errno::INTR) => {}
            Err(errno) if patience == Patience::MemoryOnly => {
                if errno == Errno::OPNOTSUPP {
                    file.refuse_nowait();
                }
                return Err(Failure::WouldWait);
            }
            Err(errno) => return Err(Failure::Other(errno.into())),
        }
    }
    Ok(Some(bytes.into()))
}
