//! The report as Markdown: what goes into records, and onto the terminal.

use std::fmt::{self, Write};

use super::{Machine, Report, Table, latency, mib};
use crate::contest::{Figures, Role, Standing};
use crate::dissection::{Dissection, Findings};
use crate::rounds::Ratio;

/// The share of a core taken by other work from which on a table says so. An idle machine's own
/// housekeeping and the network's interrupts stay below it.
const DISTURBED: f64 = 0.05;

pub(super) fn report(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_report(&mut text, report);
    text
}

pub(super) fn table(table: &Table) -> String {
    let mut text = String::new();
    let _ = write_table(&mut text, table);
    text
}

fn write_report(out: &mut String, report: &Report) -> fmt::Result {
    writeln!(out, "- machine: {}", machine(&report.machine))?;
    writeln!(out, "- network: {}", report.network)?;
    let commit = report.commit.as_deref().unwrap_or("unknown");
    writeln!(out, "- commit: {commit}, {}", report.date)?;
    writeln!(out, "- command: `{}`", report.command)?;
    for note in &report.notes {
        writeln!(out, "- note: {note}")?;
    }
    for table in &report.tables {
        writeln!(out)?;
        write_table(out, table)?;
    }
    for dissection in &report.dissections {
        writeln!(out)?;
        write_dissection(out, dissection)?;
    }
    Ok(())
}

pub(super) fn machine(machine: &Machine) -> String {
    format!(
        "{}, {} cores, {:.0} GiB, Linux {}",
        machine.processor,
        machine.cores,
        mib(machine.memory_bytes) / 1024.0,
        machine.kernel,
    )
}

fn write_table(out: &mut String, table: &Table) -> fmt::Result {
    let conditions = &table.conditions;
    writeln!(out, "### {}, {}\n", conditions.title(), conditions.rounds())?;
    let columns = Columns::of(table);
    write!(
        out,
        "| | GB/s | requests/s | CPU s/GiB | switches/GiB | faults/GiB | p50 | p99 | peak MiB |"
    )?;
    if columns.stall {
        write!(out, " stall ms |")?;
    }
    for reference in &table.standings.references {
        write!(out, " GB/s ÷ {reference} (min–max) | CPU ÷ {reference} |")?;
    }
    write!(out, "\n|---|{}", "--:|".repeat(8))?;
    if columns.stall {
        write!(out, "--:|")?;
    }
    writeln!(
        out,
        "{}",
        "--:|--:|".repeat(table.standings.references.len())
    )?;
    for row in &table.standings.rows {
        let name = match row.role {
            Role::Limit => format!("*{}*", row.name),
            Role::Rival => row.name.clone(),
        };
        match &row.result {
            Standing::Failed { reason } => {
                writeln!(out, "| {name} | **failed**: {} |", cell(reason))?;
            }
            Standing::Measured(figures) => write_figures(out, &name, figures, &columns)?,
            Standing::Skipped { reason } => {
                writeln!(out, "| {name} | skipped: {} |", cell(reason))?;
            }
        }
    }
    if let Some(verdict) = table.verdict() {
        writeln!(out, "\n{verdict}")?;
    }
    write_noise(out, table)?;
    write_disturbances(out, table)
}

/// Which columns a table has beyond those that all have.
struct Columns {
    stall: bool,
}

impl Columns {
    fn of(table: &Table) -> Self {
        Self {
            stall: measured(table).any(|(_, figures)| figures.stall_millis.is_some()),
        }
    }
}

pub(super) fn measured(table: &Table) -> impl Iterator<Item = (&str, &Figures)> {
    table
        .standings
        .rows
        .iter()
        .filter_map(|row| match &row.result {
            Standing::Measured(figures) => Some((row.name.as_str(), &**figures)),
            _ => None,
        })
}

fn write_figures(
    out: &mut String,
    name: &str,
    figures: &Figures,
    columns: &Columns,
) -> fmt::Result {
    write!(
        out,
        "| {name} | {:.2} | {} | {:.3} | {:.0} | {:.0} | {} | {} | {:.0} |",
        figures.gigabytes_per_second,
        rate(figures.requests_per_second),
        figures.processor_seconds_per_gib,
        figures.switches_per_gib,
        figures.faults_per_gib,
        latency(figures.latency_median_micros),
        latency(figures.latency_p99_micros),
        mib(figures.peak_resident_bytes),
    )?;
    if columns.stall {
        match figures.stall_millis {
            Some(millis) => write!(out, " {millis:.1} |")?,
            None => write!(out, " – |")?,
        }
    }
    for comparison in &figures.comparisons {
        let processor = comparison
            .processor
            .map_or_else(|| "–".to_owned(), |ratio| format!("{:.2}", ratio.median));
        write!(out, " {} | {processor} |", ratio(comparison.speed))?;
    }
    writeln!(out)
}

pub(super) fn rate(per_second: f64) -> String {
    if per_second < 100.0 {
        format!("{per_second:.1}")
    } else {
        format!("{per_second:.0}")
    }
}

pub(super) fn ratio(ratio: Option<Ratio>) -> String {
    ratio.map_or_else(
        || "–".to_owned(),
        |ratio| {
            let noisy = if ratio.is_noisy() { " ~" } else { "" };
            format!(
                "{:.2} ({:.2}–{:.2}){noisy}",
                ratio.median, ratio.min, ratio.max
            )
        },
    )
}

fn write_noise(out: &mut String, table: &Table) -> fmt::Result {
    if noisy(table) {
        writeln!(
            out,
            "\n~ noisy: the rounds differ so much that another run may well give a ratio more than \
             15 % off."
        )?;
    }
    Ok(())
}

pub(super) fn noisy(table: &Table) -> bool {
    measured(table).any(|(_, figures)| {
        let mut speeds = figures.comparisons.iter().filter_map(|it| it.speed);
        speeds.any(|ratio| ratio.is_noisy())
    })
}

fn write_disturbances(out: &mut String, table: &Table) -> fmt::Result {
    match disturbances(table) {
        None => Ok(()),
        Some(text) => writeln!(out, "\n{text}"),
    }
}

pub(super) fn disturbances(table: &Table) -> Option<String> {
    let disturbed: Vec<String> = measured(table)
        .map(|(name, figures)| (name, figures.disturbance))
        .filter(|(_, share)| share.client.max(share.server) >= DISTURBED)
        .map(|(name, share)| {
            format!(
                "{name} {:.0} % and {:.0} %",
                share.client * 100.0,
                share.server * 100.0
            )
        })
        .collect();
    (!disturbed.is_empty()).then(|| {
        format!(
            "Disturbed: other work took these shares of the client's and the server's core: {}.",
            disturbed.join("; ")
        )
    })
}

fn write_dissection(out: &mut String, dissection: &Dissection) -> fmt::Result {
    writeln!(out, "### What each way does, {}\n", dissection.title())?;
    writeln!(
        out,
        "| | pages by reference | read ÷ body | written ÷ body | in the kernel ÷ body | calls/MiB \
         | switches/MiB | CPU s/GiB | instructions | the article's CPU copies | calls by name, per MiB |"
    )?;
    writeln!(out, "|---|---|--:|--:|--:|--:|--:|--:|--:|---|---|")?;
    for row in &dissection.rows {
        match &row.findings {
            Err(reason) => writeln!(out, "| {} | {} |", row.name, cell(reason))?,
            Ok(found) => writeln!(
                out,
                "| {} | {} | {:.2} | {:.2} | {:.2} | {:.1} | {:.2} | {:.3} | {} | {} | {} |",
                row.name,
                found.pages,
                found.read_share,
                found.written_share,
                found.kernel_share,
                found.calls_per_mib,
                found.switches_per_mib,
                found.processor_seconds_per_gib,
                instructions(found),
                row.article.as_deref().unwrap_or("–"),
                found.calls_by_name(),
            )?,
        }
    }
    for line in dissection.instructions_missing() {
        writeln!(out, "\n{}", cell(&line))?;
    }
    Ok(())
}

/// Thousands of instructions per answer.
pub(super) fn instructions(found: &Findings) -> String {
    found
        .instructions_per_answer
        .map_or_else(|| "–".to_owned(), |count| format!("{:.1} k", count / 1e3))
}

/// Text that stays in its cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
