//! The report as one page: no scripts, no fonts, no network. Below every pair of plots stands the
//! table with their numbers.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::markdown::{disturbances, instructions, machine, measured, noisy, rate, ratio};
use super::plot::{self, Family, Measure};
use super::{Report, Table, latency, mib};
use crate::contest::{Figures, Standing};
use crate::dissection::Dissection;

const STYLE: &str = "\
*{box-sizing:border-box}\
body{margin:0 auto;max-width:84rem;padding:1rem;background:var(--paper);color:var(--ink);\
font:1rem/1.5 system-ui,sans-serif}\
h1{font-size:1.6rem;margin:.2em 0}h2{font-size:1.2rem;margin:2em 0 .2em}\
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2em 1em;margin:1em 0}\
dt{font-weight:600}dd{margin:0;overflow-wrap:anywhere}\
.legend{display:flex;flex-wrap:wrap;gap:.2em 1.4em;padding:0;list-style:none}\
.legend i{display:inline-block;width:.9em;height:.9em;margin-right:.4em;vertical-align:-.1em}\
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr));\
gap:1rem 2rem;margin:.6em 0}\
figure{margin:0;max-width:40rem}figcaption{font-weight:600}\
svg{display:block;width:100%;height:auto}\
.scroll{overflow-x:auto;border:1px solid var(--grid);border-radius:.4em}\
.scroll:focus-visible,a:focus-visible{outline:3px solid var(--epoll);outline-offset:2px}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums;white-space:nowrap;width:100%}\
th,td{padding:.25em .7em;text-align:right;border-bottom:1px solid var(--grid)}\
tr:last-child>*{border-bottom:0}\
th[scope=row],td.text{text-align:left;font-weight:400}\
th[scope=row]{position:sticky;left:0;background:var(--paper)}\
.why{color:var(--ink);text-align:left;white-space:normal;min-width:16rem}\
@media(max-width:40rem){dl{grid-template-columns:1fr}dt{margin-top:.4em}}";

pub(super) fn report(report: &Report) -> String {
    let tables = &report.tables;
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width,initial-scale=1";
                title { "lendfile: measured ways of sending files" }
                // An icon of its own, so that no browser asks a server for one.
                link rel="icon" href="data:,";
                style { (PreEscaped(plot::STYLE)) (PreEscaped(STYLE)) }
            }
            body {
                h1 { "Ways of sending files, measured" }
                (conditions(report))
                @if !tables.is_empty() {
                    (legend(tables))
                    @if tables.len() > 1 {
                        nav aria-label="Tables" {
                            ul {
                                @for (index, table) in tables.iter().enumerate() {
                                    li { a href={ "#table-" (index) } { (table.conditions.title()) } }
                                }
                            }
                        }
                    }
                }
                main {
                    @for (index, table) in tables.iter().enumerate() {
                        (section(index, table))
                    }
                    @for dissection in &report.dissections {
                        (dissected(dissection))
                    }
                }
            }
        }
    }
    .into_string()
}

fn conditions(report: &Report) -> Markup {
    html! {
        dl {
            dt { "Machine" } dd { (machine(&report.machine)) }
            dt { "Network" } dd { (report.network) }
            dt { "Commit" } dd { (report.commit.as_deref().unwrap_or("unknown")) ", " (report.date) }
            dt { "Command" } dd { code { (report.command) } }
            @for note in &report.notes {
                dt { "Note" } dd { (note) }
            }
        }
        p {
            "Bars are medians of the rounds, lines reach from the slowest round to the fastest. "
            "An axis may end before the longest bar; such a bar's number has a ▸."
        }
    }
}

fn legend(tables: &[Table]) -> Markup {
    let present = |family: &Family| {
        tables
            .iter()
            .any(|table| measured(table).any(|(name, _)| Family::of(table, name) == *family))
    };
    html! {
        ul.legend {
            @for family in Family::ALL.iter().filter(|family| present(family)) {
                li { i style={ "background:var(" (family.variable()) ")" } {} (family.title()) }
            }
        }
    }
}

fn section(index: usize, table: &Table) -> Markup {
    let conditions = &table.conditions;
    html! {
        section id={ "table-" (index) } aria-labelledby={ "title-" (index) } {
            h2 id={ "title-" (index) } { (conditions.title()) }
            p { (conditions.rounds()) @if let Some(verdict) = table.verdict() { ". " (verdict) } }
            div.plots {
                @for measure in Measure::all(table) {
                    @if let Some(svg) = plot::bars(table, measure) {
                        figure role="img"
                            aria-label={ (measure.title()) "; the numbers are in the table below" } {
                            figcaption { (measure.title()) }
                            (PreEscaped(svg))
                        }
                    }
                }
            }
            div.scroll tabindex="0" role="region" aria-labelledby={ "title-" (index) } {
                (numbers(table))
            }
            @if noisy(table) {
                p { "~ noisy: another run may well give a ratio more than 15 % off." }
            }
            @if let Some(text) = disturbances(table) { p { (text) } }
        }
    }
}

fn numbers(table: &Table) -> Markup {
    let references = &table.standings.references;
    let stalls = measured(table).any(|(_, figures)| figures.stall_millis.is_some());
    let columns = 8 + references.len() * 2 + usize::from(stalls);
    html! {
        table {
            thead {
                tr {
                    th scope="col" {}
                    @for title in ["GB/s", "requests/s", "CPU s/GiB", "switches/GiB", "faults/GiB",
                        "p50", "p99", "peak MiB"] {
                        th scope="col" { (title) }
                    }
                    @if stalls { th scope="col" { "stall ms" } }
                    @for reference in references {
                        th scope="col" { "GB/s ÷ " (reference) }
                        th scope="col" { "CPU ÷ " (reference) }
                    }
                }
            }
            tbody {
                @for row in &table.standings.rows {
                    tr {
                        th scope="row" { (row.name) }
                        @match &row.result {
                            Standing::Measured(figures) => { (cells(figures, stalls)) }
                            Standing::Failed { reason } => {
                                td.why colspan=(columns) { strong { "failed" } ": " (reason) }
                            }
                            Standing::Skipped { reason } => {
                                td.why colspan=(columns) { "left out: " (reason) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn cells(figures: &Figures, stalls: bool) -> Markup {
    html! {
        td { (format!("{:.2}", figures.gigabytes_per_second)) }
        td { (rate(figures.requests_per_second)) }
        td { (format!("{:.3}", figures.processor_seconds_per_gib)) }
        td { (format!("{:.0}", figures.switches_per_gib)) }
        td { (format!("{:.0}", figures.faults_per_gib)) }
        td { (latency(figures.latency_median_micros)) }
        td { (latency(figures.latency_p99_micros)) }
        td { (format!("{:.0}", mib(figures.peak_resident_bytes))) }
        @if stalls {
            td { (figures.stall_millis.map_or_else(|| "–".to_owned(), |it| format!("{it:.1}"))) }
        }
        @for comparison in &figures.comparisons {
            td { (ratio(comparison.speed)) }
            td { (ratio(comparison.processor)) }
        }
    }
}

fn dissected(dissection: &Dissection) -> Markup {
    html! {
        section {
            h2 { "What each way does, " (dissection.title()) }
            div.scroll tabindex="0" role="region" aria-label="What each way does" {
                table {
                    thead {
                        tr {
                            th scope="col" {}
                            @for title in ["pages by reference", "read ÷ body", "written ÷ body",
                                "in the kernel ÷ body", "calls/MiB", "switches/MiB", "CPU s/GiB",
                                "instructions per answer", "the article's CPU copies", "calls by name, per MiB"] {
                                th scope="col" { (title) }
                            }
                        }
                    }
                    tbody {
                        @for row in &dissection.rows {
                            tr {
                                th scope="row" { (row.name) }
                                @match &row.findings {
                                    Err(reason) => { td.why colspan="10" { (reason) } }
                                    Ok(found) => {
                                        td { (found.pages) }
                                        td { (format!("{:.2}", found.read_share)) }
                                        td { (format!("{:.2}", found.written_share)) }
                                        td { (format!("{:.2}", found.kernel_share)) }
                                        td { (format!("{:.1}", found.calls_per_mib)) }
                                        td { (format!("{:.2}", found.switches_per_mib)) }
                                        td { (format!("{:.3}", found.processor_seconds_per_gib)) }
                                        td { (instructions(found)) }
                                        td.text { (row.article.as_deref().unwrap_or("–")) }
                                        td.text { (found.calls_by_name()) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
            @for line in dissection.instructions_missing() {
                p { (line) }
            }
        }
    }
}
