//! Explains one line: from the amount back to runs, log indexes, price version
//! and rounding. Steps are data; text is made by whoever shows them. A line that
//! does not follow from its own parts and the book is not explained but refused.
//! Called by the API (`bill explain`).

use nube_types::{Nanos, TimestampMs};

use crate::interval::UsageInterval;
use crate::line::{LineId, RatedLine};
use crate::price::PriceBook;
use crate::rate::rate;
use crate::round::{Rounded, price_of};

/// One step from usage to amount, in reading order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A run contributed seconds of use.
    Run {
        /// Ordinal of the run.
        run: u32,
        /// First second.
        from: TimestampMs,
        /// End, not included.
        to: TimestampMs,
        /// `to - from`.
        seconds: u64,
        /// Log index of the committed `running`.
        start_index: u64,
        /// Log index of the end; `None` while the run was open.
        end_index: Option<u64>,
    },
    /// A run was shorter than the minimum charge.
    Minimum {
        /// Ordinal of the run.
        run: u32,
        /// The minimum of this price version.
        minimum_seconds: u32,
        /// Seconds charged beyond use.
        added: u64,
    },
    /// What is charged: use plus minimum.
    Charged {
        /// Seconds of use.
        seconds: u64,
        /// Seconds of minimum charge.
        minimum_seconds_added: u64,
        /// Their sum.
        charged_seconds: u64,
    },
    /// The price that held.
    Price {
        /// Version of the book.
        version: u32,
        /// Since when it held.
        effective_from: TimestampMs,
        /// Nano-units per hour.
        nanos_per_hour: u64,
    },
    /// The book had no price: nothing is charged.
    Unpriced,
    /// Seconds × price ÷ 3600, with the exact remainder.
    Round(Rounded),
}

/// The walk from usage to the amount of one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The explained line.
    pub line: LineId,
    /// In reading order.
    pub steps: Vec<Step>,
    /// Where the steps lead: equals the line's amount.
    pub amount: Nanos,
}

/// Why a line cannot be explained: it does not follow from parts and prices.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// The line's seconds are not the sum of its parts.
    #[error("line `{line}` says {line_seconds} s and its runs say {part_seconds} s")]
    SecondsDiffer {
        /// The line.
        line: LineId,
        /// Charged seconds of the line.
        line_seconds: u64,
        /// Charged seconds of its parts.
        part_seconds: u64,
    },
    /// The book has another price, or none, under this version.
    #[error("line `{line}` says {line_price} nano-units an hour and the price book does not")]
    PriceDiffers {
        /// The line.
        line: LineId,
        /// Nano-units per hour of the line.
        line_price: u64,
    },
    /// Seconds × price does not give the line's amount.
    #[error("line `{line}` says {line_amount} and its steps give {amount}")]
    AmountDiffers {
        /// The line.
        line: LineId,
        /// The line's amount.
        line_amount: Nanos,
        /// What the steps give.
        amount: Nanos,
    },
}

/// Walks back from a line to what it was made of, and checks every step.
pub fn explain(line: &RatedLine, book: &PriceBook) -> Result<Explanation, ExplainError> {
    let mut steps = run_steps(line, book);
    steps.push(charged_step(line)?);
    steps.push(price_step(line, book)?);
    let rounded = price_of(line.charged_seconds(), line.price_nanos_per_hour);
    if rounded.amount != line.amount {
        return Err(ExplainError::AmountDiffers {
            line: line.id(),
            line_amount: line.amount,
            amount: rounded.amount,
        });
    }
    steps.push(Step::Round(rounded));
    Ok(Explanation {
        line: line.id(),
        steps,
        amount: rounded.amount,
    })
}

/// Rates the one line that an id names: `None` when the ledger has no such
/// usage. Other instances' intervals may be given; they are passed over.
#[must_use]
pub fn find_line<'a>(
    id: &LineId,
    intervals: impl IntoIterator<Item = &'a UsageInterval>,
    book: &PriceBook,
    as_of: TimestampMs,
) -> Option<RatedLine> {
    let own = intervals
        .into_iter()
        .filter(|interval| interval.subject == id.subject);
    let lines = rate(own, book, as_of, id.day.start()..id.day.end());
    lines.into_iter().find(|line| line.id() == *id)
}

fn run_steps(line: &RatedLine, book: &PriceBook) -> Vec<Step> {
    let minimum_seconds = book
        .version(line.price_version)
        .map_or(0, |version| version.minimum_seconds);
    let mut steps = Vec::new();
    for part in &line.parts {
        steps.push(Step::Run {
            run: part.run,
            from: part.from,
            to: part.to,
            seconds: part.seconds(),
            start_index: part.start_index,
            end_index: part.end_index,
        });
        if part.minimum_seconds_added > 0 {
            steps.push(Step::Minimum {
                run: part.run,
                minimum_seconds,
                added: part.minimum_seconds_added,
            });
        }
    }
    steps
}

fn charged_step(line: &RatedLine) -> Result<Step, ExplainError> {
    let seconds: u64 = line.parts.iter().map(|part| part.seconds()).sum();
    let added: u64 = line
        .parts
        .iter()
        .map(|part| part.minimum_seconds_added)
        .sum();
    if (seconds, added) != (line.seconds, line.minimum_seconds_added) {
        return Err(ExplainError::SecondsDiffer {
            line: line.id(),
            line_seconds: line.charged_seconds(),
            part_seconds: seconds.saturating_add(added),
        });
    }
    Ok(Step::Charged {
        seconds,
        minimum_seconds_added: added,
        charged_seconds: line.charged_seconds(),
    })
}

fn price_step(line: &RatedLine, book: &PriceBook) -> Result<Step, ExplainError> {
    if !line.is_priced() && line.price_nanos_per_hour == 0 {
        return Ok(Step::Unpriced);
    }
    let version = book.version(line.price_version);
    version
        .filter(|version| version.entries.get(&line.resource) == Some(&line.price_nanos_per_hour))
        .map(|version| Step::Price {
            version: version.version,
            effective_from: version.effective_from,
            nanos_per_hour: line.price_nanos_per_hour,
        })
        .ok_or_else(|| ExplainError::PriceDiffers {
            line: line.id(),
            line_price: line.price_nanos_per_hour,
        })
}
