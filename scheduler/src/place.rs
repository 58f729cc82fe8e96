//! The decision: filters, scores, one winner, and the reasons of the others.
//! `choose` is the plain choice (no index, no allocation) that `Fleet::place` must
//! make too; `place` is the same choice with everything a dry run or a refusal
//! shows. Tests hold all three equal.

use std::cmp::Reverse;
use std::fmt;

use nube_types::{Name, NodeId};

use crate::filter::{Reason, fits, reasons};
use crate::model::{Host, Request};
use crate::score::{Census, Score, score};

/// Hosts named in a summary. More do not fit a terminal, and an error text is
/// one paragraph.
pub const REFUSALS_SHOWN_MAX: usize = 8;

/// A host that fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The host.
    pub host: NodeId,
    /// Sum of the parts.
    pub score: i64,
    /// Why this score.
    pub parts: Score,
}

/// A host that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The host.
    pub host: NodeId,
    /// Its name, for people.
    pub name: Name,
    /// All reasons, never empty.
    pub reasons: Vec<Reason>,
}

/// What was decided, and everything that decided it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// The winner; `None` when no host fits.
    pub chosen: Option<NodeId>,
    /// The winner's score; 0 without one.
    pub score: i64,
    /// Every host that fits, best first; the first one is chosen.
    pub candidates: Vec<Candidate>,
    /// Every host that does not fit, by id.
    pub refused: Vec<Refusal>,
}

/// The ordinal of the best host in `hosts`, and its score. Equal scores go to
/// the lowest id, whatever the order of `hosts`.
#[must_use]
pub fn choose(hosts: &[Host], request: &Request) -> Option<(usize, Score)> {
    let census = Census::of(hosts, request);
    hosts
        .iter()
        .enumerate()
        .filter(|(_, host)| fits(host, request))
        .map(|(ordinal, host)| (ordinal, host.id, score(host, request, census)))
        .max_by_key(|(_, id, score)| (score.total(), Reverse(*id)))
        .map(|(ordinal, _, score)| (ordinal, score))
}

/// Decides with all reasons. Does not depend on the order of `hosts`.
#[must_use]
pub fn place(hosts: &[Host], request: &Request) -> Decision {
    let census = Census::of(hosts, request);
    let mut candidates = Vec::new();
    let mut refused = Vec::new();
    for host in hosts {
        if fits(host, request) {
            let parts = score(host, request, census);
            candidates.push(Candidate {
                host: host.id,
                score: parts.total(),
                parts,
            });
        } else {
            let reasons = reasons(host, request);
            refused.push(Refusal {
                host: host.id,
                name: host.name.clone(),
                reasons,
            });
        }
    }
    candidates.sort_by_key(|candidate| (Reverse(candidate.score), candidate.host));
    refused.sort_by_key(|refusal| refusal.host);
    let best = candidates.first();
    Decision {
        chosen: best.map(|candidate| candidate.host),
        score: best.map_or(0, |candidate| candidate.score),
        candidates,
        refused,
    }
}

/// What was decided about one host, in the form that interfaces show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict<'a> {
    /// The host.
    pub host: NodeId,
    /// It won.
    pub chosen: bool,
    /// Why this score; `None` for a host that does not fit.
    pub score: Option<Score>,
    /// Why it does not fit; empty when it does.
    pub reasons: &'a [Reason],
}

impl Verdict<'_> {
    /// One word for the first reason; empty for a host that fits.
    #[must_use]
    pub fn refused_for(&self) -> &'static str {
        self.reasons.first().map_or("", Reason::word)
    }
}

impl fmt::Display for Verdict<'_> {
    /// The score with its parts, or all reasons with their numbers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.score {
            Some(score) => write!(f, "{score}"),
            None => write_reasons(f, self.reasons),
        }
    }
}

impl Decision {
    /// All hosts: the chosen one, those that fit by score, those that do not by
    /// id.
    pub fn verdicts(&self) -> impl Iterator<Item = Verdict<'_>> {
        let fitting = self.candidates.iter().map(|candidate| Verdict {
            host: candidate.host,
            chosen: self.chosen == Some(candidate.host),
            score: Some(candidate.parts),
            reasons: &[],
        });
        let refused = self.refused.iter().map(|refusal| Verdict {
            host: refusal.host,
            chosen: false,
            score: None,
            reasons: &refusal.reasons,
        });
        fitting.chain(refused)
    }

    /// The refusals as text for a user: one line per host, at most
    /// `REFUSALS_SHOWN_MAX` lines and one that counts the rest.
    #[must_use]
    pub fn summary(&self) -> Summary<'_> {
        Summary(self)
    }
}

/// Prints refusals; see `Decision::summary`.
#[derive(Debug, Clone, Copy)]
pub struct Summary<'a>(&'a Decision);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused = &self.0.refused;
        if refused.is_empty() && self.0.chosen.is_none() {
            return f.write_str("there are no hosts");
        }
        for (ordinal, refusal) in refused.iter().take(REFUSALS_SHOWN_MAX).enumerate() {
            let separator = if ordinal == 0 { "" } else { "\n" };
            write!(f, "{separator}{refusal}")?;
        }
        match refused.len().saturating_sub(REFUSALS_SHOWN_MAX) {
            0 => Ok(()),
            1 => f.write_str("\nand 1 more host"),
            more => write!(f, "\nand {more} more hosts"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.name)?;
        write_reasons(f, &self.reasons)
    }
}

fn write_reasons(f: &mut fmt::Formatter<'_>, reasons: &[Reason]) -> fmt::Result {
    for (ordinal, reason) in reasons.iter().enumerate() {
        let separator = if ordinal == 0 { "" } else { "; " };
        write!(f, "{separator}{reason}")?;
    }
    Ok(())
}
