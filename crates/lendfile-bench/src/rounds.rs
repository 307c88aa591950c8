//! The arithmetic of a comparison: interleaved rounds, medians, ratios within a round.
//!
//! Pure functions; nothing here knows what is measured. A shared machine drifts over minutes by
//! more than two good servers differ, so contestants take turns and each is divided by the reference
//! of the *same* round before anything is averaged. The order changes from round to round
//! ([`order`]): in a fixed one, whoever comes after a heavy neighbour loses every time, and one
//! contestant even beat the limit it was built upon.

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
    /// By what share of the median two such medians, of as many rounds each, may well differ (in
    /// one of twenty cases by more), judged by how much the rounds differ.
    pub noise: f64,
}

/// The noise from which on a ratio is called noisy: another run may well give one that is 15 %
/// larger or smaller.
pub const NOISY: f64 = 0.15;

impl Ratio {
    /// Whether another run may well differ by more than [`NOISY`].
    pub fn is_noisy(&self) -> bool {
        self.noise > NOISY
    }
}

/// The order of `contestants` in a round: each begins in turn, and every second round goes
/// backwards, so that nobody has the same neighbour before it all the time.
pub fn order(contestants: usize, round: usize) -> Vec<usize> {
    let begin = if contestants == 0 {
        0
    } else {
        round / 2 % contestants
    };
    let mut order: Vec<usize> = (0..contestants).collect();
    order.rotate_left(begin);
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

/// Runs `rounds` rounds in which each of `contestants` has one turn, in changing [`order`], after
/// one warm-up round whose results are thrown away.
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
        for index in order(contestants, round) {
            let results = &mut series[index];
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
        noise: noise(&ratios)?,
    })
}

/// Expected range of `n` normal values in standard deviations, for n = 2, 3, … (the constant d₂ of
/// control charts, e.g. ISO 7870-2 table 2).
const RANGES: [f64; 9] = [
    1.128, 1.693, 2.059, 2.326, 2.534, 2.704, 2.847, 2.970, 3.078,
];

/// By what share of their median two medians of as many values may differ in 19 of 20 cases: 1.96
/// standard errors of a difference of medians, the deviation estimated by the range of few values
/// and by the middle half of many. Infinite for a single value. `None` of nothing.
pub fn noise(values: &[f64]) -> Option<f64> {
    /// The standard error of a normal sample's median is that of its mean times √(π/2).
    const MEDIAN: f64 = 1.2533;
    let median = median(values)?;
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len();
    let range = sorted[count - 1] - sorted[0];
    let deviation = match count {
        1 => f64::INFINITY,
        2..=10 => range / RANGES[count - 2],
        _ => (sorted[count * 3 / 4] - sorted[count / 4]) / 1.349,
    };
    let error = MEDIAN * deviation / (count as f64).sqrt();
    // A ratio that is always zero is not noisy.
    Some(if error == 0.0 {
        0.0
    } else {
        1.96 * std::f64::consts::SQRT_2 * error / median
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
                (1, second),
                (0, second)
            ]
        );
        assert_eq!(series, [Ok(vec![3, 6]), Ok(vec![4, 5])]);
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
    fn everyone_begins_and_nobody_follows_the_same_neighbour_always() {
        assert!(order(0, 3).is_empty());
        let orders: Vec<_> = (0..6).map(|round| order(3, round)).collect();
        let expected = [
            [0, 1, 2],
            [2, 1, 0],
            [1, 2, 0],
            [0, 2, 1],
            [2, 0, 1],
            [1, 0, 2],
        ];
        assert_eq!(orders, expected);
    }

    #[test]
    fn rounds_that_agree_are_quiet_and_few_that_differ_are_noisy() {
        assert_eq!(noise(&[]), None);
        assert_eq!(noise(&[2.0; 5]), Some(0.0));
        assert_eq!(noise(&[2.0]), Some(f64::INFINITY));
        // Three rounds within 4 %: sd 2.36 %, error of the median 1.7 %, of two 4.7 %.
        let quiet = noise(&[0.98, 1.0, 1.02]).unwrap();
        assert!((quiet - 0.0474).abs() < 0.001, "{quiet}");
        assert!(noise(&[0.9, 1.0, 1.1]).unwrap() > NOISY);
        let many: Vec<f64> = (0..40).map(|n| 0.9 + f64::from(n % 5) * 0.05).collect();
        assert!(noise(&many).unwrap() < NOISY, "many rounds make it certain");
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
