//! From a request's path to a path below the root: decoding and normalising, no file system.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;

/// A path below the root.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RelativePath {
    /// Without `.` or `..`; empty for the root itself.
    pub(super) path: PathBuf,
    /// Whether the request named it as a directory, by a final `/`.
    pub(super) form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Directory,
    File,
}

/// Why a path is refused before anything is opened.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// 400
    Malformed,
    /// 404
    NotFound,
}

/// Whether names that begin with a dot are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dotfiles {
    Allow,
    Hide,
}

/// Decodes and normalises the path of a request's target.
pub(super) fn resolve(target: &str, dotfiles: Dotfiles) -> Result<RelativePath, Refused> {
    let mut segments: Vec<Vec<u8>> = Vec::new();
    let mut form = Form::Directory;
    for raw in target.split('/') {
        let segment = decode(raw)?;
        form = Form::Directory;
        match &*segment {
            b"" | b"." => {}
            b".." => {
                segments.pop().ok_or(Refused::Malformed)?;
            }
            name if name.contains(&b'/') => return Err(Refused::NotFound),
            [b'.', ..] if dotfiles == Dotfiles::Hide => return Err(Refused::NotFound),
            _ => {
                form = Form::File;
                segments.push(segment);
            }
        }
    }
    Ok(RelativePath {
        path: segments.into_iter().map(OsString::from_vec).collect(),
        form,
    })
}

/// Decodes one segment, once.
fn decode(raw: &str) -> Result<Vec<u8>, Refused> {
    let mut after_percent = raw.split('%').skip(1);
    let well_formed = after_percent.all(|rest| {
        let digits = rest.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    let decoded: Vec<u8> = percent_decode_str(raw).collect();
    if !well_formed || decoded.contains(&0) {
        return Err(Refused::Malformed);
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(target: &str) -> Result<(String, Form), Refused> {
        resolve(target, Dotfiles::Hide)
            .map(|found| (found.path.to_str().unwrap().to_owned(), found.form))
    }

    fn found(path: &str, form: Form) -> Result<(String, Form), Refused> {
        Ok((path.to_owned(), form))
    }

    #[test]
    fn segments_are_decoded_once_and_normalised() {
        for (target, path, form) in [
            ("/", "", Form::Directory),
            ("", "", Form::Directory),
            ("/a", "a", Form::File),
            ("/a/", "a", Form::Directory),
            ("//a//b", "a/b", Form::File),
            ("/a/./b/../c", "a/c", Form::File),
            ("/a/b/..", "a", Form::Directory),
            ("/a/.", "a", Form::Directory),
            ("/a/%2e%2e/b", "b", Form::File),
            ("/%41%20b", "A b", Form::File),
            ("/%2541", "%41", Form::File),
            ("/a\\..\\b", "a\\..\\b", Form::File),
        ] {
            assert_eq!(hidden(target), found(path, form), "{target}");
        }
    }

    #[test]
    fn malformed_paths_are_400() {
        for target in [
            "/..",
            "/a/../..",
            "/%2e%2e/x",
            "/%",
            "/%4",
            "/%zz",
            "/a%00b",
            "/x%+1",
        ] {
            assert_eq!(hidden(target), Err(Refused::Malformed), "{target}");
        }
    }

    #[test]
    fn a_slash_inside_a_segment_and_dotfiles_are_404() {
        for target in [
            "/a%2fb",
            "/..%2f..%2fetc",
            "/.git/config",
            "/a/.env",
            "/%2eenv",
            "/...",
        ] {
            assert_eq!(hidden(target), Err(Refused::NotFound), "{target}");
        }
        let allowed = resolve("/.well-known/x", Dotfiles::Allow).unwrap();
        assert_eq!(allowed.path.to_str(), Some(".well-known/x"));
    }

    #[test]
    fn names_need_not_be_utf8() {
        let found = resolve("/%ff", Dotfiles::Hide).unwrap();
        assert_eq!(found.path.as_os_str().as_encoded_bytes(), b"\xff");
    }
}
