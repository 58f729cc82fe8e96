//! The bill's second opinion: integrates the committed history by itself and
//! compares the ledger and its rated lines with that. Shares no arithmetic with
//! `rate` and `round` on purpose (INV D1, D2): a mistake there must not be
//! repeated here. Called by `bill verify` and by the simulator's oracles.
//!
//! ```text
//! transitions ─► history: runs ─► cells: seconds, minimum, amount ─┐
//! ledger ─► intervals: shape, doubles, overlaps, gaps vs. runs     ├─► findings
//! ledger ─► rate() ─► lines ───────────────────────────────────────┘
//! ```

mod cells;
mod history;
mod intervals;

use crate::subject::Subject;
use minicbor::{Decode, Encode};
use nube_types::{Nanos, ProjectId, TimestampMs};

use crate::interval::UsageInterval;
use crate::line::{LineId, RatedLine};
use crate::price::PriceBook;
use crate::rate::rate;
use cells::cells;
use history::runs;
use intervals::compare;

/// What a committed entry did to an instance's billing. Append-only:
/// histories are kept in the state and in snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum TransitionKind {
    /// Committed as running: a run begins, unless one is under way.
    #[n(0)]
    Started,
    /// Committed stop: the run ends.
    #[n(1)]
    Stopped,
    /// Committed delete request: the run ends, also when the guest still runs.
    #[n(2)]
    DeleteRequested,
    /// The host was given up: the run ended at the last proven instant.
    #[n(3)]
    HostLost {
        /// The last instant at which the guest was proven to run. Counts as the
        /// run's start when it lies before that, and as the entry's own time
        /// when it lies after that.
        #[n(0)]
        last_proven: TimestampMs,
    },
    /// The guest ended or failed without being asked to.
    #[n(4)]
    Failed,
}

/// What one committed entry did to one instance. An entry may move many
/// instances: they share its index and time.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Transition {
    /// Log index of the entry.
    #[n(0)]
    pub index: u64,
    /// Replicated time of the entry.
    #[n(1)]
    pub at: TimestampMs,
    /// Whose state changed.
    #[n(2)]
    pub subject: Subject,
    /// Who pays.
    #[n(3)]
    pub project: ProjectId,
    /// What is priced: the instance type's name at that time.
    #[n(4)]
    pub resource: String,
    /// What happened.
    #[n(5)]
    pub kind: TransitionKind,
}

/// Seconds and amount of one line, as one side sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LineSum {
    /// Seconds of use.
    pub seconds: u64,
    /// Seconds of minimum charge beyond use.
    pub minimum_seconds_added: u64,
    /// Rounded amount.
    pub amount: Nanos,
}

/// The value of an interval that disagrees with the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Who pays.
    Project,
    /// What is priced.
    Resource,
    /// The run's ordinal.
    Run,
    /// Start, within the same second.
    Start,
    /// End, within the same second, or open against closed.
    End,
    /// The log index that closed the run.
    EndIndex,
}

/// One disagreement. Seconds are since the epoch; ranges are half-open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The history itself goes back in index or time: nothing below is proof.
    HistoryOutOfOrder {
        /// Log index of the entry that goes back.
        index: u64,
    },
    /// End before start (in time or log), or end, index and reason not set
    /// together.
    Malformed {
        /// The interval's instance.
        subject: Subject,
        /// The interval's run.
        run: u32,
    },
    /// The ledger holds a run, or a start index, more than once.
    Double {
        /// The interval's instance.
        subject: Subject,
        /// The interval's run.
        run: u32,
        /// Log index of its start.
        start_index: u64,
    },
    /// Two intervals of one instance share seconds.
    Overlap {
        /// The instance billed twice.
        subject: Subject,
        /// Run that began first.
        run: u32,
        /// Run that began while the first was billed.
        other_run: u32,
        /// First shared second.
        from: u64,
        /// End of the shared seconds.
        to: u64,
    },
    /// The history has a run that the ledger lacks.
    Missing {
        /// The instance that ran unbilled.
        subject: Subject,
        /// Log index of its start.
        start_index: u64,
        /// First unbilled second.
        from: u64,
        /// End of the unbilled seconds.
        to: u64,
    },
    /// A known run has billable seconds that the ledger lacks.
    Gap {
        /// The instance.
        subject: Subject,
        /// The run.
        run: u32,
        /// First unbilled second.
        from: u64,
        /// End of the unbilled seconds.
        to: u64,
    },
    /// The ledger bills seconds of a known run that the history does not prove.
    Excess {
        /// The instance.
        subject: Subject,
        /// The run.
        run: u32,
        /// First second without proof.
        from: u64,
        /// End of those seconds.
        to: u64,
    },
    /// The ledger has a run that the history does not know.
    Unproven {
        /// The interval's instance.
        subject: Subject,
        /// The interval's run.
        run: u32,
        /// The start index that no transition has.
        start_index: u64,
    },
    /// A value of an interval is not the history's.
    Differs {
        /// The interval's instance.
        subject: Subject,
        /// The interval's run.
        run: u32,
        /// Which value.
        field: Field,
    },
    /// A rated line is not what the history integrates to.
    Line {
        /// Which line.
        line: LineId,
        /// Integrated from the history.
        history: LineSum,
        /// Rated from the ledger.
        ledger: LineSum,
    },
}

/// The result of a verification.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Runs that the history proves.
    pub runs: usize,
    /// Intervals of the ledger that were compared.
    pub intervals: usize,
    /// Lines that were compared.
    pub lines: usize,
    /// Billable seconds that the history proves.
    pub seconds: u64,
    /// Every disagreement; empty = the bill is what happened.
    pub findings: Vec<Finding>,
}

impl Report {
    /// The bill is what happened.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Compares the ledger with the whole committed history (in log order, from the
/// cluster's first entry) as of an instant.
#[must_use]
pub fn verify(
    transitions: &[Transition],
    ledger: &[UsageInterval],
    book: &PriceBook,
    as_of: TimestampMs,
) -> Report {
    let mut findings = Vec::new();
    let runs = runs(transitions, as_of, &mut findings);
    let ledger: Vec<_> = ledger
        .iter()
        .filter(|interval| interval.start <= as_of)
        .collect();
    compare(&runs, &ledger, as_of, &mut findings);
    let lines = rate(
        ledger.iter().copied(),
        book,
        as_of,
        TimestampMs(0)..TimestampMs(u64::MAX),
    );
    compare_lines(&lines, cells(&runs, book), &mut findings);
    Report {
        runs: runs.len(),
        intervals: ledger.len(),
        lines: lines.len(),
        seconds: runs.iter().map(|run| run.to - run.from).sum(),
        findings,
    }
}

fn compare_lines(lines: &[RatedLine], mut proven: cells::Cells, findings: &mut Vec<Finding>) {
    for line in lines {
        let ledger = LineSum {
            seconds: line.seconds,
            minimum_seconds_added: line.minimum_seconds_added,
            amount: line.amount,
        };
        let history = proven
            .remove(&(line.project, line.id()))
            .unwrap_or_default();
        if history != ledger {
            findings.push(Finding::Line {
                line: line.id(),
                history,
                ledger,
            });
        }
    }
    let unbilled = proven
        .into_iter()
        .map(|((_, line), history)| Finding::Line {
            line,
            history,
            ledger: LineSum::default(),
        });
    findings.extend(unbilled);
}
