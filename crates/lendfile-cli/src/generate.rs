//! `lendfile generate`: completions and the manual page, from the command line's own description.

use std::io::{self, Write};

use clap_complete::aot::generate;
use clap_mangen::Man;

use crate::args::Generated;
use crate::config;
use crate::failure::Failure;

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
    page.render_subcommands_section(out)?;
    for subcommand in command
        .get_subcommands()
        .filter(|sub| sub.get_name() != "help")
    {
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
            out.extend_from_slice(
                String::from_utf8_lossy(&part)
                    .replace(".SH ", ".SS ")
                    .as_bytes(),
            );
        }
    }
    page.render_extra_section(out)?;
    page.render_version_section(out)
}
