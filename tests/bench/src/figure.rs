//! A figure: median with min and max of ours, of what it is compared with, and
//! of the ratio of each pair. `cargo xtask bench` reads the JSON of these; its
//! keys only grow.

use std::path::Path;

use anyhow::Context;
use serde::Serialize;

/// Median, min and max of samples.
#[derive(Debug, Clone, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
    pub samples: usize,
}

impl Spread {
    /// `None` without samples: there is nothing to say.
    pub fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (sorted.len().checked_sub(1)? / 2, sorted.len() / 2);
        Some(Self {
            median: (sorted[low] + sorted[high]) / 2.0,
            min: sorted[0],
            max: sorted[sorted.len() - 1],
            samples: sorted.len(),
        })
    }
}

/// What something is measured against.
#[derive(Debug, Clone, Serialize)]
pub struct Peer {
    pub name: String,
    #[serde(flatten)]
    pub spread: Spread,
}

/// What the ratio should be.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Aim {
    /// Small is good.
    AtMost(f64),
    /// Large is good.
    AtLeast(f64),
}

/// One line of the table.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    pub name: String,
    pub unit: String,
    pub ours: Spread,
    pub peer: Option<Peer>,
    /// Of each pair, ours over the peer's.
    pub ratio: Option<Spread>,
    /// Of the ratio; without a peer, of ours.
    pub aim: Option<Aim>,
    pub met: Option<bool>,
    pub note: String,
}

impl Figure {
    /// Ours alone.
    pub fn alone(name: &str, unit: &str, ours: &[f64]) -> anyhow::Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            unit: unit.to_owned(),
            ours: Spread::of(ours).with_context(|| format!("{name}: no sample"))?,
            peer: None,
            ratio: None,
            aim: None,
            met: None,
            note: String::new(),
        })
    }

    /// Ours beside a peer's; equal places of both were measured together.
    pub fn beside(
        name: &str,
        unit: &str,
        ours: &[f64],
        peer: &str,
        theirs: &[f64],
    ) -> anyhow::Result<Self> {
        let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(o, t)| o / t).collect();
        let spread = Spread::of(theirs).with_context(|| format!("{name}: no {peer}"))?;
        Ok(Self {
            peer: Some(Peer {
                name: peer.to_owned(),
                spread,
            }),
            ratio: Spread::of(&ratios),
            ..Self::alone(name, unit, ours)?
        })
    }

    pub fn aim(mut self, aim: Aim) -> Self {
        let value = self.ratio.as_ref().unwrap_or(&self.ours).median;
        self.met = Some(match aim {
            Aim::AtMost(limit) => value <= limit,
            Aim::AtLeast(limit) => value >= limit,
        });
        self.aim = Some(aim);
        self
    }

    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }
}

/// Writes the figures of a part where they are asked for, else prints them.
pub fn write(figures: &[Figure], to: Option<&Path>) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(figures)?;
    match to {
        Some(path) => std::fs::write(path, text).with_context(|| path.display().to_string()),
        None => {
            println!("{text}");
            Ok(())
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn pairs_are_compared_one_by_one() {
        let figure = Figure::beside("a", "s", &[2.0, 9.0, 4.0], "b", &[1.0, 3.0, 4.0])
            .expect("samples")
            .aim(Aim::AtMost(2.0));
        assert_eq!(figure.ratio.as_ref().map(|r| r.median), Some(2.0));
        assert_eq!((figure.ours.median, figure.met), (4.0, Some(true)));
        assert!(Figure::alone("a", "s", &[]).is_err());
        assert_eq!(Spread::of(&[1.0, 2.0]).map(|s| s.median), Some(1.5));
    }

    #[test]
    fn the_json_keeps_its_keys() {
        let figure = Figure::beside("a", "s", &[1.0], "b", &[2.0])
            .expect("samples")
            .aim(Aim::AtLeast(1.0));
        let expected = serde_json::json!({
            "name": "a", "unit": "s", "note": "",
            "ours": {"median": 1.0, "min": 1.0, "max": 1.0, "samples": 1},
            "peer": {"name": "b", "median": 2.0, "min": 2.0, "max": 2.0, "samples": 1},
            "ratio": {"median": 0.5, "min": 0.5, "max": 0.5, "samples": 1},
            "aim": {"at_least": 1.0}, "met": false,
        });
        assert_eq!(serde_json::to_value(figure).expect("encodes"), expected);
    }
}
