//! Figures from turns: what each brought, per second and per GiB, and against the limit.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::client::{self, Outcome};
use crate::process::Usage;
use crate::rounds::{self, Ratio};

const GIB: f64 = (1_u64 << 30) as f64;

/// A contestant's figures: medians over the rounds, latencies over all of them.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Figures {
    /// Body bytes per second, in 10^9.
    pub gigabytes_per_second: f64,
    /// Complete answers per second.
    pub requests_per_second: f64,
    /// The server's processor seconds per GiB of body.
    pub processor_seconds_per_gib: f64,
    /// The server's context switches, voluntary and not, per GiB of body.
    pub switches_per_gib: f64,
    /// The median latency in microseconds, if any request was completed.
    pub latency_median_micros: Option<f64>,
    /// The 99th percentile of latency in microseconds.
    pub latency_p99_micros: Option<f64>,
    /// The server's largest resident memory.
    pub peak_resident_bytes: u64,
    /// The server's page faults per GiB of body, whether or not they waited for the disk.
    pub faults_per_gib: f64,
    /// The longest delay of the server's own ticker in a turn, in milliseconds, if it has one.
    pub stall_millis: Option<f64>,
    /// Against each reference.
    pub comparisons: Vec<Comparison>,
    /// How much the machine was busy with something else: the median round's.
    pub disturbance: Disturbance,
    /// What each round brought.
    pub rounds: Vec<Round>,
}

/// A contestant against a reference.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct Comparison {
    /// Throughput divided by the reference's of the same round.
    pub speed: Option<Ratio>,
    /// Processor time per GiB divided by the reference's of the same round.
    pub processor: Option<Ratio>,
}

/// What one turn brought.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct Round {
    /// Body bytes.
    pub bytes: u64,
    /// Complete answers.
    pub requests: u64,
    /// The turn's length in seconds.
    pub seconds: f64,
    /// What the server used.
    pub usage: Usage,
    /// How much the machine was busy with something else.
    pub disturbance: Disturbance,
    /// The longest delay of the server's own ticker; zero if it has none.
    pub stall: Duration,
}

/// Shares of a turn, from 0 to 1, in which something else ran. Above a few percent, the figures
/// say as much about that as about the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Disturbance {
    /// In which the client was off its core.
    pub client: f64,
    /// In which the server's core did work that is not the server's. Interrupts between the
    /// server's own work are among it, so it is never quite 0.
    pub server: f64,
}

impl Round {
    /// Body bytes per second, in 10^9.
    pub fn gigabytes_per_second(&self) -> f64 {
        self.bytes as f64 / 1e9 / self.seconds
    }

    /// Complete answers per second.
    pub fn requests_per_second(&self) -> f64 {
        self.requests as f64 / self.seconds
    }

    /// The server's processor seconds per GiB of body.
    pub fn processor_seconds_per_gib(&self) -> f64 {
        self.usage.processor().as_secs_f64() / self.gib()
    }

    /// The server's context switches per GiB of body.
    pub fn switches_per_gib(&self) -> f64 {
        self.usage.switches() as f64 / self.gib()
    }

    /// The server's page faults per GiB of body.
    pub fn faults_per_gib(&self) -> f64 {
        (self.usage.minor_faults + self.usage.major_faults) as f64 / self.gib()
    }

    /// At least a byte, so that dividing by it gives a number.
    fn gib(&self) -> f64 {
        self.bytes.max(1) as f64 / GIB
    }
}

/// What one turn brought, with its latencies.
pub(crate) struct Sample {
    pub(crate) round: Round,
    pub(crate) latency: Histogram<u64>,
}

impl Sample {
    pub(super) fn new(
        outcome: Outcome,
        usage: Usage,
        core_busy: Duration,
        stall: Duration,
    ) -> Self {
        let share = |part: Duration| part.as_secs_f64() / outcome.elapsed.as_secs_f64();
        Self {
            round: Round {
                bytes: outcome.bytes,
                requests: outcome.requests,
                seconds: outcome.elapsed.as_secs_f64(),
                usage,
                disturbance: Disturbance {
                    client: share(outcome.elapsed.saturating_sub(outcome.processor)),
                    server: share(core_busy.saturating_sub(usage.processor())),
                },
                stall,
            },
            latency: outcome.latency,
        }
    }
}

/// The one that is fastest by the median.
pub(super) fn fastest(mut contestants: Vec<(String, Vec<Round>)>) -> Option<(String, Vec<Round>)> {
    let speeds: Vec<Vec<f64>> = contestants
        .iter()
        .map(|(_, series)| each(series, Round::gigabytes_per_second))
        .collect();
    let speeds: Vec<&[f64]> = speeds.iter().map(Vec::as_slice).collect();
    rounds::best_by_median(&speeds).map(|best| contestants.swap_remove(best))
}

pub(super) fn figures(series: Vec<Sample>, references: &[(String, Vec<Round>)]) -> Figures {
    let mut latency = client::empty_latency();
    let mut rounds = Vec::with_capacity(series.len());
    for sample in series {
        // Both have the same bounds, so adding cannot fail.
        let _ = latency.add(sample.latency);
        rounds.push(sample.round);
    }
    let median = |figure: fn(&Round) -> f64| rounds::median(&each(&rounds, figure)).unwrap_or(0.0);
    let comparisons = references
        .iter()
        .map(|(_, reference)| {
            let ratio = |figure: fn(&Round) -> f64| {
                rounds::ratio(&each(&rounds, figure), &each(reference, figure))
            };
            Comparison {
                speed: ratio(Round::gigabytes_per_second),
                processor: ratio(Round::processor_seconds_per_gib),
            }
        })
        .collect();
    let micros =
        |quantile| (!latency.is_empty()).then(|| latency.value_at_quantile(quantile) as f64 / 1e3);
    Figures {
        gigabytes_per_second: median(Round::gigabytes_per_second),
        requests_per_second: median(Round::requests_per_second),
        processor_seconds_per_gib: median(Round::processor_seconds_per_gib),
        switches_per_gib: median(Round::switches_per_gib),
        latency_median_micros: micros(0.5),
        latency_p99_micros: micros(0.99),
        peak_resident_bytes: rounds
            .iter()
            .map(|round| round.usage.peak_resident_bytes)
            .max()
            .unwrap_or(0),
        faults_per_gib: median(Round::faults_per_gib),
        stall_millis: Some(median(|round| round.stall.as_secs_f64() * 1e3))
            .filter(|millis| *millis > 0.0),
        comparisons,
        disturbance: Disturbance {
            client: median(|round| round.disturbance.client),
            server: median(|round| round.disturbance.server),
        },
        rounds,
    }
}

fn each(series: &[Round], figure: fn(&Round) -> f64) -> Vec<f64> {
    series.iter().map(figure).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(bytes: u64, processor: Duration) -> Round {
        Round {
            bytes,
            requests: 10,
            seconds: 2.0,
            usage: Usage {
                system: processor,
                voluntary_switches: 6,
                ..Usage::default()
            },
            disturbance: Disturbance::default(),
            stall: Duration::ZERO,
        }
    }

    #[test]
    fn the_fastest_is_the_one_with_the_better_median() {
        let second = Duration::from_secs(1);
        let lucky = vec![round(100, second), round(100, second), round(900, second)];
        let steady = vec![round(200, second); 3];
        let contestants = vec![("lucky".to_owned(), lucky), ("steady".to_owned(), steady)];
        assert_eq!(fastest(contestants).unwrap().0, "steady");
    }

    #[test]
    fn figures_are_in_the_units_they_name() {
        let series = vec![Sample {
            round: round(1 << 31, Duration::from_secs(1)),
            latency: client::empty_latency(),
        }];
        let reference = vec![round(1 << 32, Duration::from_secs(1))];
        let figures = figures(series, &[("reference".to_owned(), reference)]);
        assert_eq!(figures.gigabytes_per_second, 1.073_741_824);
        assert_eq!(figures.requests_per_second, 5.0);
        assert_eq!(figures.processor_seconds_per_gib, 0.5);
        assert_eq!(figures.switches_per_gib, 3.0);
        assert_eq!(figures.latency_median_micros, None);
        let [comparison] = figures.comparisons[..] else {
            panic!("one reference")
        };
        assert_eq!(comparison.speed.unwrap().median, 0.5);
        assert_eq!(comparison.processor.unwrap().median, 2.0);
    }
}
