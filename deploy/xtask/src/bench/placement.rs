//! The scheduler's own measurement has no wire, no disk and no peer: its answer
//! is turned into figures like the others'.

use super::report::{Aim, Figure, Spread};
use serde::Deserialize;

const RATE_MIN: f64 = 500_000.0;
/// Hosts needed at least, over hosts used: filling, and after churn.
const DENSITY_MIN: [f64; 2] = [0.998, 0.97];

/// What `place_rate --json` prints.
#[derive(Deserialize)]
pub struct Answer {
    rates: Vec<Rate>,
    densities: Vec<Density>,
}

#[derive(Deserialize)]
struct Rate {
    nodes: u64,
    strategy: String,
    fill_per_s: f64,
    churn_per_s: f64,
    scan_per_s: f64,
}

#[derive(Deserialize)]
struct Density {
    mix: String,
    fill: f64,
    churn: f64,
}

impl Answer {
    pub fn figures(&self) -> Vec<Figure> {
        let rates = self.rates.iter().flat_map(|rate| {
            let name = |what: &str| {
                format!(
                    "placements, {} nodes, {}, {what}",
                    rate.nodes, rate.strategy
                )
            };
            [
                figure(name("filling"), "1/s", rate.fill_per_s, Some(RATE_MIN)),
                figure(name("churn"), "1/s", rate.churn_per_s, Some(RATE_MIN)),
                figure(name("by scan"), "1/s", rate.scan_per_s, None),
            ]
        });
        let densities = self.densities.iter().flat_map(|density| {
            let name = |what: &str| format!("packing density, {}, {what}", density.mix);
            let [fill, churn] = DENSITY_MIN;
            [
                figure(name("filled"), "", density.fill, Some(fill)),
                figure(name("after churn"), "", density.churn, Some(churn)),
            ]
        });
        rates.chain(densities).collect()
    }
}

fn figure(name: String, unit: &str, value: f64, at_least: Option<f64>) -> Figure {
    Figure {
        name,
        unit: unit.to_owned(),
        ours: Spread {
            median: value,
            min: value,
            max: value,
            samples: 1,
        },
        peer: None,
        ratio: None,
        aim: at_least.map(Aim::AtLeast),
        met: at_least.map(|limit| value >= limit),
        note: String::new(),
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_schedulers_answer_becomes_figures() {
        let text = r#"{"rates":[{"nodes":100,"strategy":"pack","fill_per_s":600000,
            "churn_per_s":400000,"scan_per_s":9}],
            "densities":[{"mix":"small","fill":0.999,"churn":0.5,"fill_hosts":1.0}]}"#;
        let answer: Answer = serde_json::from_str(text).expect("its JSON");
        let figures = answer.figures();
        let met: Vec<_> = figures.iter().map(|figure| figure.met).collect();
        let expected = [Some(true), Some(false), None, Some(true), Some(false)];
        assert_eq!(met, expected);
        assert_eq!(figures[0].name, "placements, 100 nodes, pack, filling");
    }
}
