//! Two reports of the same race: do their ratios agree, and did they say so where they do not?

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;

use lendfile_bench::rounds::NOISY;
use serde_json::Value;

/// How the ratios of two reports compare.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Agreement {
    /// Within 15 % of each other.
    pub(crate) agree: usize,
    /// Further apart, and marked noisy in at least one report.
    pub(crate) marked: usize,
    /// Within 15 %, though marked noisy.
    pub(crate) agree_though_marked: usize,
    /// Further apart, and marked in neither: what must not be.
    pub(crate) unmarked: Vec<String>,
}

/// A ratio of speeds and its noise.
type Ratio = (f64, f64);

pub(crate) fn compare(one: &Path, other: &Path) -> Result<Agreement, Box<dyn Error>> {
    let [one, other] = [one, other].map(|path| -> Result<_, Box<dyn Error>> {
        Ok(ratios(&serde_json::from_slice(&fs::read(path)?)?))
    });
    Ok(agreement(&one?, &other?))
}

fn agreement(one: &BTreeMap<String, Ratio>, other: &BTreeMap<String, Ratio>) -> Agreement {
    let mut found = Agreement::default();
    for (name, (first, noise)) in one {
        let Some((second, other_noise)) = other.get(name) else {
            continue;
        };
        let apart = (first / second - 1.0)
            .abs()
            .max((second / first - 1.0).abs())
            > NOISY;
        match (apart, noise.max(*other_noise) > NOISY) {
            (false, false) => found.agree += 1,
            (false, true) => found.agree_though_marked += 1,
            (true, true) => found.marked += 1,
            (true, false) => found
                .unmarked
                .push(format!("{name}: {first:.2} and {second:.2}")),
        }
    }
    found
}

/// Every ratio of a report, by its table, row and reference. A reference's own is left out: it is 1.
fn ratios(report: &Value) -> BTreeMap<String, Ratio> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut found = BTreeMap::new();
    for table in list(&report["tables"]) {
        let references = list(&table["references"]);
        for row in list(&table["rows"]) {
            let comparisons = list(&row["result"]["measured"]["comparisons"]);
            for (reference, comparison) in references.iter().zip(&comparisons) {
                let speed = &comparison["speed"];
                let ratio = (speed["median"].as_f64(), speed["noise"].as_f64());
                // An infinite noise, of a single round, is null in JSON.
                if let (Some(median), noise) = ratio
                    && row["name"] != *reference
                {
                    let name = format!("{}: {} ÷ {reference}", table["conditions"], row["name"]);
                    found.insert(name, (median, noise.unwrap_or(f64::INFINITY)));
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_apart_must_be_marked() {
        let ratios = |a, b, c, noise| -> BTreeMap<String, Ratio> {
            let named = [("a", a), ("b", b), ("c", c)];
            named
                .map(|(name, ratio)| (name.to_owned(), (ratio, noise)))
                .into()
        };
        let quiet = agreement(&ratios(1.0, 1.0, 1.0, 0.01), &ratios(1.1, 0.8, 1.0, 0.02));
        assert_eq!((quiet.agree, quiet.marked), (2, 0));
        assert_eq!(quiet.unmarked, ["b: 1.00 and 0.80"]);
        let noisy = agreement(&ratios(1.0, 1.0, 1.0, 0.01), &ratios(1.1, 0.8, 1.0, 0.3));
        assert_eq!((noisy.marked, noisy.agree_though_marked), (1, 2));
    }

    #[test]
    fn ratios_are_found_by_table_row_and_reference() {
        let report = serde_json::json!({"tables": [{
            "conditions": {"files": 1}, "references": ["x"],
            "rows": [
                {"name": "x", "result": {"measured": {"comparisons": [
                    {"speed": {"median": 1.0, "noise": 0.0}}]}}},
                {"name": "y", "result": {"measured": {"comparisons": [
                    {"speed": {"median": 0.5, "noise": null}}]}}},
                {"name": "z", "result": {"failed": {"reason": "gone"}}},
            ],
        }]});
        let found: Vec<_> = ratios(&report).into_values().collect();
        assert_eq!(found, [(0.5, f64::INFINITY)]);
    }
}
