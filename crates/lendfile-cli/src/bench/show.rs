//! What the person sees: a bar while it runs, a table at the end.

use std::fmt::Write;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lendfile_bench::contest::{Figures, Progress, Standing};
use lendfile_bench::report::Table;

/// The progress bar, on standard error if that is a terminal.
pub(super) struct Bar {
    bar: ProgressBar,
}

impl Bar {
    pub(super) fn begin() -> Self {
        let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {wide_msg} {eta}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        // Drawn by what happens only: no thread of its own beside the measurement.
        bar.tick();
        Self { bar }
    }

    pub(super) fn show(&self, progress: &Progress<'_>) {
        self.bar.set_length(progress.total as u64);
        self.bar.set_position(progress.done as u64);
        self.bar.set_message(progress.what.clone());
    }

    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

/// The table for a terminal of 80 columns, its conditions above and its winner below.
pub(super) fn table(table: &Table) -> String {
    let mut text = format!(
        "\n{}; {}\n",
        table.conditions.title(),
        table.conditions.rounds()
    );
    let rows = &table.standings.rows;
    let name = |name: &str| name.strip_prefix("lendfile ").unwrap_or(name).to_owned();
    let width = rows
        .iter()
        .map(|row| name(&row.name).len())
        .max()
        .unwrap_or(0);
    let stalls = rows.iter().any(
        |row| matches!(&row.result, Standing::Measured(figures) if figures.stall_millis.is_some()),
    );
    let first = table.standings.references.first();
    let against = first.map_or_else(String::new, |first| format!("÷ {}", name(first)));
    let last = if stalls { "stall" } else { "p99" };
    // Writing to a String cannot fail.
    _ = writeln!(
        text,
        "  {:width$}   GB/s  requests/s  CPU s/GiB  {last:>8}  {against}",
        ""
    );
    for row in rows {
        _ = write!(text, "  {:width$}", name(&row.name));
        _ = match &row.result {
            Standing::Measured(figures) => writeln!(text, "{}", line(figures, stalls)),
            Standing::Failed { reason } => writeln!(text, "  failed: {reason}"),
            Standing::Skipped { reason } => writeln!(text, "  left out: {reason}"),
            other => writeln!(text, "  {other:?}"),
        };
    }
    if text.contains(") ~\n") {
        text += "  ~ noisy: another run may well give a ratio more than 15 % off\n";
    }
    if let Some(verdict) = table.verdict() {
        _ = writeln!(text, "{verdict}");
    }
    if let Some(disturbance) = table.disturbances() {
        _ = writeln!(text, "{disturbance}");
    }
    text
}

fn line(figures: &Figures, stalls: bool) -> String {
    let time = if stalls {
        figures.stall_millis.map(|millis| millis * 1e3)
    } else {
        figures.latency_p99_micros
    };
    let ratio = figures.comparisons.first().and_then(|it| it.speed);
    let ratio = ratio.map_or_else(String::new, |ratio| {
        let noisy = if ratio.is_noisy() { " ~" } else { "" };
        format!(
            "{:.2} ({:.2}–{:.2}){noisy}",
            ratio.median, ratio.min, ratio.max
        )
    });
    format!(
        "  {:>5.2}  {:>10.0}  {:>9.3}  {:>8}  {ratio}",
        figures.gigabytes_per_second,
        figures.requests_per_second,
        figures.processor_seconds_per_gib,
        time.map_or_else(|| "–".to_owned(), duration),
    )
}

fn duration(micros: f64) -> String {
    let duration = Duration::try_from_secs_f64(micros / 1e6).unwrap_or_default();
    match micros {
        ..1e3 => format!("{micros:.0} µs"),
        1e3..1e6 => format!("{:.1} ms", micros / 1e3),
        _ => format!("{:.2} s", duration.as_secs_f64()),
    }
}
