//! `lendfile probe`: what this machine can do for lendfile, found out by doing it.
//!
//! Collecting ([`abilities`], [`facts`]) yields plain data ([`report`]); [`render`] turns that into
//! text or JSON. The probe changes nothing on the machine and measures no speed.

mod abilities;
mod errno;
mod facts;
mod render;
mod report;
mod subject;

use std::io::{self, Write};
use std::path::Path;

use report::Report;
use subject::Subject;

use crate::failure::Failure;

/// How the report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Aligned text for a terminal of 80 columns.
    Human,
    /// One JSON object.
    Json,
}

/// Probes the machine, and the filesystem that `directory` is on, and writes the report to standard
/// output.
///
/// An ability that is missing is part of the report, not an error. Takes some milliseconds;
/// blocks, so it is not for a runtime's thread.
///
/// # Errors
///
/// `directory` cannot be opened, or standard output cannot be written. A reader that has read
/// enough (`| head`) is none.
pub(crate) fn run(directory: &Path, format: Format) -> Result<(), Failure> {
    let report =
        collect(directory).map_err(|error| Failure::directory("probe", directory, &error))?;
    let text = match format {
        Format::Human => Ok(render::human(&report)),
        Format::Json => render::json(&report),
    };
    match text.and_then(|text| write(&text)) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(format_args!(
            "cannot write the report: {error}; look at where standard output goes"
        ))),
        _ => Ok(()),
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

fn collect(directory: &Path) -> io::Result<Report> {
    let subject = Subject::open(directory)?;
    Ok(Report {
        system: facts::system(&subject),
        abilities: abilities::ALL
            .iter()
            .map(|ability| ability.find_out(&subject))
            .collect(),
        limits: facts::limits(),
    })
}

#[cfg(test)]
mod tests;
