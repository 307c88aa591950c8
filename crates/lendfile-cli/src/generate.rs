//! `lendfile generate`: completions and the manual page, from the command line's own description.

use std::io::{self, Write};

use clap_complete::aot::generate;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::args::Generated;
use crate::config;
use crate::failure::Failure;

/// As in docs/operating.md.
const EXIT_STATUS: [(&str, &str); 5] = [
    (
        "0",
        "It is done; serve: ended by a first SIGTERM or SIGINT.",
    ),
    (
        "1",
        "It failed; a line on standard error says why and what helps. bench: a way failed or is not to be had here.",
    ),
    (
        "2",
        "Wrong usage: a flag, a variable LENDFILE_… or a line of the configuration file.",
    ),
    (
        "130",
        "bench: ended by Ctrl-C, with what had been measured.",
    ),
    (
        "128 + N",
        "serve: ended at once by a second signal, of number N.",
    ),
];

/// Prints it.
pub(crate) fn run(what: Generated) -> Result<(), Failure> {
    let mut out = Vec::new();
    match what.shell() {
        Some(shell) => generate(shell, &mut config::command(), "lendfile", &mut out),
        None => man(&mut out).map_err(Failure::new)?,
    }
    match io::stdout().write_all(&out) {
        // `lendfile generate man | head` is no failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(format_args!("cannot print: {error}")))
        }
        _ => Ok(()),
    }
}

/// One page: the command, then each subcommand's options, as `man lendfile` should show them.
fn man(out: &mut Vec<u8>) -> io::Result<()> {
    let mut command = config::command();
    command.build();
    let page = Man::new(command.clone());
    page.render_title(out)?;
    page.render_name_section(out)?;
    page.render_synopsis_section(out)?;
    page.render_description_section(out)?;
    let subcommands = || {
        let all = command.get_subcommands();
        all.filter(|sub| sub.get_name() != "help")
    };
    // clap_mangen's own section refers to pages that there are not: all is on this one.
    let mut list = Roff::new();
    list.control("SH", ["COMMANDS"]);
    for subcommand in subcommands() {
        let about = subcommand.get_about().unwrap_or_default().to_string();
        list.control("TP", []);
        list.text([bold(format!("lendfile {}", subcommand.get_name()))]);
        list.text([roman(about)]);
    }
    list.to_writer(out)?;
    for subcommand in subcommands() {
        writeln!(
            out,
            ".SH \"LENDFILE {}\"",
            subcommand.get_name().to_uppercase()
        )?;
        let page = Man::new(subcommand.clone());
        for (section, render) in [
            (
                "",
                &Man::render_synopsis_section as &dyn Fn(&Man, &mut dyn Write) -> io::Result<()>,
            ),
            ("", &Man::render_description_section),
            ("", &Man::render_options_section),
            ("", &Man::render_extra_section),
        ] {
            let mut part = Vec::new();
            render(&page, &mut part)?;
            out.extend_from_slice(section.as_bytes());
            // Sections of the subcommand become parts of its own.
            let part = as_written(&part).replace(".SH ", ".SS ");
            out.extend_from_slice(part.as_bytes());
        }
    }
    let mut extra = Vec::new();
    page.render_extra_section(&mut extra)?;
    out.extend_from_slice(as_written(&extra).as_bytes());
    let mut list = Roff::new();
    list.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in EXIT_STATUS {
        list.control("TP", []);
        list.text([bold(code)]);
        list.text([roman(meaning)]);
    }
    list.to_writer(out)?;
    page.render_version_section(out)
}

/// A part of the page, in which the lines of examples stay lines.
fn as_written(part: &[u8]) -> String {
    let part = String::from_utf8_lossy(part);
    match part.split_once(".SH EXTRA\n") {
        Some((before, lines)) => format!("{before}.SH EXAMPLES\n.nf\n{lines}.fi\n"),
        None => part.into_owned(),
    }
}
