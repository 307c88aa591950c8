//! Who won, in one sentence, and whether that means anything.

use super::Table;
use super::markdown::measured;
use crate::contest::{Figures, Round};
use crate::rounds;

/// The winner, the next one, and whether the difference is larger than what the rounds differ by.
pub(super) fn verdict(table: &Table) -> Option<String> {
    let mut ranked: Vec<(&str, &Figures)> = measured(table).collect();
    ranked.sort_by(|(_, a), (_, b)| b.gigabytes_per_second.total_cmp(&a.gigabytes_per_second));
    let (winner, figures) = *ranked.first()?;
    let mut sentence = format!(
        "Fastest: {winner}, {:.2} GB/s",
        figures.gigabytes_per_second
    );
    if let Some((second, next)) = ranked.get(1) {
        let ratio = rounds::ratio(&speeds(figures), &speeds(next))?;
        let difference = (ratio.median - 1.0).abs();
        sentence += &if difference < ratio.noise {
            let within = ranked[1..]
                .iter()
                .filter(|(_, other)| within_noise(figures, other))
                .map(|(name, _)| *name)
                .collect::<Vec<_>>();
            format!(
                "; the difference to {} is within the noise.",
                if within.is_empty() {
                    (*second).to_owned()
                } else {
                    within.join(", ")
                }
            )
        } else {
            format!(", {:.2}× {second}, the next.", ratio.median)
        };
    } else {
        sentence.push('.');
    }
    Some(sentence)
}

fn within_noise(winner: &Figures, other: &Figures) -> bool {
    rounds::ratio(&speeds(winner), &speeds(other))
        .is_some_and(|ratio| (ratio.median - 1.0).abs() < ratio.noise)
}

fn speeds(figures: &Figures) -> Vec<f64> {
    figures
        .rounds
        .iter()
        .map(Round::gigabytes_per_second)
        .collect()
}
