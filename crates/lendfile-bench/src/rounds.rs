//! The arithmetic of a comparison: interleaved rounds, medians, ratios within a round.
//!
//! Pure functions; nothing here knows what is measured. A shared machine drifts over minutes by
//! more than two good servers differ, so contestants take turns (A B C A B C …) and each is divided
//! by the reference of the *same* round before anything is averaged.

use serde::Serialize;

/// A ratio over rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Ratio {
    /// The median round's.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

/// Runs `rounds` rounds in which each of `contestants` has one turn, in order, after one warm-up
/// round whose results are thrown away.
///
/// A contestant whose turn fails, warm-up included, has no further turns; its error takes the place
/// of its results.
pub fn interleave<T, E>(
    contestants: usize,
    rounds: usize,
    mut turn: impl FnMut(usize, Turn) -> Result<T, E>,
) -> Vec<Result<Vec<T>, E>> {
    let mut series: Vec<Result<Vec<T>, E>> = (0..contestants)
        .map(|index| turn(index, Turn::WarmUp).map(|_| Vec::with_capacity(rounds)))
        .collect();
    for round in 0..rounds {
        for (index, results) in series.iter_mut().enumerate() {
            if let Ok(so_far) = results {
                match turn(index, Turn::Round(round)) {
                    Ok(result) => so_far.push(result),
                    Err(error) => *results = Err(error),
                }
            }
        }
    }
    series
}

/// Which turn of a contestant it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Turn {
    /// The one before the first round; its result is thrown away.
    WarmUp,
    /// That of the round with this number, from 0.
    Round(usize),
}

/// The median; of an even number of values, the mean of the middle two. `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        count if count % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// Divides each value by its round's reference. Rounds without a positive reference are left out;
/// `None` if none is left.
pub fn ratio(values: &[f64], references: &[f64]) -> Option<Ratio> {
    let ratios: Vec<f64> = values
        .iter()
        .zip(references)
        .filter(|(_, reference)| **reference > 0.0)
        .map(|(value, reference)| value / reference)
        .collect();
    Some(Ratio {
        median: median(&ratios)?,
        min: ratios.iter().copied().reduce(f64::min)?,
        max: ratios.iter().copied().reduce(f64::max)?,
    })
}

/// The series with the largest median: the best over all rounds. Taking the best of each round
/// instead would pick out the noise of the machine, and nobody could keep up with that.
pub fn best_by_median(series: &[&[f64]]) -> Option<usize> {
    let medians = series
        .iter()
        .map(|values| median(values).unwrap_or(f64::MIN));
    medians
        .enumerate()
        .max_by(|(_, a), (_, b)| a.total_cmp(b))
        .map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contestants_take_turns_after_a_warm_up() {
        let mut order = Vec::new();
        let series = interleave(2, 2, |index, turn| {
            order.push((index, turn));
            Ok::<_, ()>(order.len())
        });
        let (warm_up, first, second) = (Turn::WarmUp, Turn::Round(0), Turn::Round(1));
        assert_eq!(
            order,
            [
                (0, warm_up),
                (1, warm_up),
                (0, first),
                (1, first),
                (0, second),
                (1, second)
            ]
        );
        assert_eq!(series, [Ok(vec![3, 5]), Ok(vec![4, 6])]);
    }

    #[test]
    fn a_failure_ends_only_its_own_contestants_turns() {
        let mut turns = [0; 3];
        let series = interleave(3, 3, |index, turn| {
            turns[index] += 1;
            match (index, turn) {
                (0, Turn::WarmUp) => Err("never ready"),
                (1, Turn::Round(1)) => Err("fell over"),
                _ => Ok(index),
            }
        });
        assert_eq!(
            series,
            [Err("never ready"), Err("fell over"), Ok(vec![2, 2, 2])]
        );
        assert_eq!(turns, [1, 3, 4]);
    }

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_the_middle_two() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn ratios_are_taken_within_each_round() {
        // The machine halves its speed in the second round; the ratio does not see it.
        let steady = ratio(&[8.0, 4.0, 8.0], &[10.0, 5.0, 10.0]).unwrap();
        assert_eq!((steady.min, steady.median, steady.max), (0.8, 0.8, 0.8));
        let varied = ratio(&[1.0, 3.0, 2.0], &[1.0, 1.0, 1.0]).unwrap();
        assert_eq!((varied.min, varied.median, varied.max), (1.0, 2.0, 3.0));
    }

    #[test]
    fn rounds_without_a_reference_have_no_ratio() {
        assert_eq!(ratio(&[1.0, 2.0], &[0.0, 2.0]).unwrap().max, 1.0);
        assert_eq!(ratio(&[1.0], &[0.0]), None);
        assert_eq!(ratio(&[], &[]), None);
    }

    #[test]
    fn the_best_is_the_best_over_all_rounds_not_of_the_luckiest() {
        assert_eq!(
            best_by_median(&[&[1.0, 1.0, 9.0], &[2.0, 2.0, 2.0]]),
            Some(1)
        );
        assert_eq!(best_by_median(&[&[5.0], &[]]), Some(0));
        assert_eq!(best_by_median(&[]), None);
    }
}
