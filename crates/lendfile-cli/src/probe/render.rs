//! The report as text for people or as JSON for programs.

use std::fmt::Write as _;
use std::io;

use super::report::{Fact, Finding, Outcome, Report, Trouble, Value};

/// The width that every terminal has.
const COLUMNS: usize = 80;

/// Spaces before each row.
const INDENT: usize = 2;

/// Spaces between columns.
const GAP: usize = 2;

/// One JSON object and a newline.
pub(super) fn json(report: &Report) -> io::Result<String> {
    let mut text = serde_json::to_string_pretty(report)?;
    text.push('\n');
    Ok(text)
}

/// Aligned text of at most 80 columns (words longer than what is left are not broken).
pub(super) fn human(report: &Report) -> String {
    let mut text = String::from("System\n");
    facts(&mut text, &report.system);
    text.push_str("\nAbilities (each was tried)\n");
    let name_width = widest(report.abilities.iter().map(|finding| finding.name));
    for finding in &report.abilities {
        ability_row(&mut text, name_width, finding);
    }
    text.push_str("\nLimits\n");
    facts(&mut text, &report.limits);
    text
}

fn facts(text: &mut String, facts: &[Fact]) {
    let name_width = widest(facts.iter().map(|fact| fact.name));
    for fact in facts {
        fact_row(text, name_width, fact);
    }
}

fn widest<'a>(names: impl Iterator<Item = &'a str>) -> usize {
    names.map(str::len).max().unwrap_or(0)
}

fn fact_row(text: &mut String, name_width: usize, fact: &Fact) {
    let value = match &fact.value {
        Value::Bytes(bytes) => size(*bytes),
        Value::Count(count) => count.to_string(),
        Value::Text(words) => words.clone(),
        Value::Unknown(why) => format!("unknown: {why}"),
        Value::Unlimited => "unlimited".to_owned(),
    };
    row(text, &[(name_width, fact.name)], &[value]);
}

fn ability_row(text: &mut String, name_width: usize, finding: &Finding) {
    let (verdict, paragraphs) = match &finding.outcome {
        Outcome::Works { note } => ("yes", note.iter().cloned().collect()),
        Outcome::Unavailable(trouble) => ("no", explain(trouble)),
        Outcome::Failed(trouble) => ("error", explain(trouble)),
        Outcome::Untried { needs } => ("-", vec![format!("not tried: needs {needs}")]),
    };
    let columns = [(name_width, finding.name), ("error".len(), verdict)];
    row(text, &columns, &paragraphs);
}

fn explain(trouble: &Trouble) -> Vec<String> {
    let error = match (trouble.errno_name, trouble.errno) {
        (Some(name), Some(number)) => format!("{name} ({number})"),
        _ => trouble.message.clone(),
    };
    let mut paragraphs = vec![format!("{}: {error}", trouble.step)];
    paragraphs.extend(trouble.cure.map(|cure| format!("needs: {cure}")));
    paragraphs
}

/// Writes columns of given widths, then paragraphs, wrapped, in the column that is left.
fn row(text: &mut String, columns: &[(usize, &str)], paragraphs: &[String]) {
    let mut head = " ".repeat(INDENT);
    for (width, cell) in columns {
        let _ = write!(head, "{cell:width$}{:GAP$}", "");
    }
    let indent = head.len();
    let lines = paragraphs
        .iter()
        .flat_map(|paragraph| wrap(paragraph, COLUMNS.saturating_sub(indent)));
    let mut line = head;
    for words in lines {
        line.push_str(&words);
        text.push_str(line.trim_end());
        text.push('\n');
        line = " ".repeat(indent);
    }
    if paragraphs.is_empty() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

/// Breaks at spaces so that no line is longer than `width` characters, unless one word is.
fn wrap(words: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in words.split(' ') {
        let line = lines.last_mut().expect("there is always a line");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines
}

/// A number of bytes, in the largest unit that is exact.
fn size(bytes: u64) -> String {
    match bytes {
        0 => "0 bytes".to_owned(),
        _ if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests;
