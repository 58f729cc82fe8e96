//! Rated lines: one row of a bill, with the parts it was made of, and its
//! stable id. Totals are plain sums of lines: nothing is rounded twice.
//! Made by `rate`; read by the API, invoices and `explain`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::subject::Subject;
use minicbor::{Decode, Encode};
use nube_types::{Nanos, ProjectId, TimestampMs};

use crate::day::UtcDay;

/// The price version of a line that the book does not price: amount zero, shown
/// loudly instead of being left out.
pub const UNPRICED: u32 = 0;

/// What one run added to a line.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct LinePart {
    /// Ordinal of the run (see `UsageInterval::run`).
    #[n(0)]
    pub run: u32,
    /// First second of this part (a whole second).
    #[n(1)]
    pub from: TimestampMs,
    /// End of this part, not included (a whole second).
    #[n(2)]
    pub to: TimestampMs,
    /// Log index that opened the run.
    #[n(3)]
    pub start_index: u64,
    /// Log index that closed the run; `None` while it was open at the rating.
    #[n(4)]
    pub end_index: Option<u64>,
    /// Seconds charged beyond use, because the whole run was shorter than the
    /// minimum. Only in the part that holds the run's start.
    #[n(5)]
    pub minimum_seconds_added: u64,
}

impl LinePart {
    /// Seconds of use in this part.
    #[must_use]
    pub fn seconds(&self) -> u64 {
        self.to.seconds().saturating_sub(self.from.seconds())
    }
}

/// One row of a bill: an instance, a resource, a UTC day, a price version.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RatedLine {
    /// Who pays.
    #[n(0)]
    pub project: ProjectId,
    /// What ran.
    #[n(1)]
    pub subject: Subject,
    /// What is priced: the instance type's name.
    #[n(2)]
    pub resource: String,
    /// The UTC day of use.
    #[n(3)]
    pub day: UtcDay,
    /// The price version, or `UNPRICED`.
    #[n(4)]
    pub price_version: u32,
    /// That version's price: nano-units per hour.
    #[n(5)]
    pub price_nanos_per_hour: u64,
    /// Seconds of use.
    #[n(6)]
    pub seconds: u64,
    /// Seconds charged beyond use: the minimum charge of runs that began today.
    #[n(7)]
    pub minimum_seconds_added: u64,
    /// `(seconds + minimum_seconds_added) × price ÷ 3600`, rounded once.
    #[n(8)]
    pub amount: Nanos,
    /// The runs it is made of, by run and time.
    #[n(9)]
    pub parts: Vec<LinePart>,
}

impl RatedLine {
    /// The stable name of this line.
    #[must_use]
    pub fn id(&self) -> LineId {
        LineId {
            subject: self.subject,
            day: self.day,
            resource: self.resource.clone(),
            price_version: self.price_version,
        }
    }

    /// Use and minimum charge together, in seconds.
    #[must_use]
    pub fn charged_seconds(&self) -> u64 {
        self.seconds.saturating_add(self.minimum_seconds_added)
    }

    /// False when the book had no price for this resource at that time.
    #[must_use]
    pub fn is_priced(&self) -> bool {
        self.price_version != UNPRICED
    }
}

/// The name of a line: `i-00c0ffee00c0ffee/2026-11-22/n1.micro/v1`. It never
/// changes, also while the line still grows, and names at most one line. The
/// resource is part of it: an instance may change its type within a day.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LineId {
    /// What ran.
    pub subject: Subject,
    /// The UTC day of use.
    pub day: UtcDay,
    /// What is priced.
    pub resource: String,
    /// The price version, or `UNPRICED`.
    pub price_version: u32,
}

/// Why a text is not a line id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not a line id of the form i-0123456789abcdef/2026-11-22/n1.micro/v1")]
pub struct ParseLineIdError {
    /// The refused text, escaped and cut to a printable length.
    pub value: String,
}

impl fmt::Display for LineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            subject,
            day,
            resource,
            price_version,
        } = self;
        let id = subject.id(resource);
        write!(f, "{id}/{day}/{resource}/v{price_version}")
    }
}

impl FromStr for LineId {
    type Err = ParseLineIdError;

    /// Accepts exactly what `Display` prints.
    fn from_str(text: &str) -> Result<Self, ParseLineIdError> {
        parse_line_id(text)
            .filter(|id| id.to_string() == text)
            .ok_or_else(|| ParseLineIdError {
                value: text
                    .chars()
                    .take(120)
                    .collect::<String>()
                    .escape_debug()
                    .to_string(),
            })
    }
}

fn parse_line_id(text: &str) -> Option<LineId> {
    let (subject, rest) = text.split_once('/')?;
    let (day, rest) = rest.split_once('/')?;
    let (resource, version) = rest.rsplit_once("/v")?;
    if resource.is_empty() {
        return None;
    }
    Some(LineId {
        subject: Subject::parse(subject, resource)?,
        day: day.parse().ok()?,
        resource: resource.to_owned(),
        price_version: version.parse().ok()?,
    })
}

/// What the lines of one instance add up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InstanceTotal {
    /// Seconds of use.
    pub seconds: u64,
    /// Seconds of minimum charge beyond use.
    pub minimum_seconds_added: u64,
    /// The sum of the lines' rounded amounts.
    pub amount: Nanos,
}

/// Sums lines by project and instance. No second rounding.
#[must_use]
pub fn totals_by_instance(lines: &[RatedLine]) -> BTreeMap<(ProjectId, Subject), InstanceTotal> {
    let mut totals: BTreeMap<_, InstanceTotal> = BTreeMap::new();
    for line in lines {
        let sum = totals.entry((line.project, line.subject)).or_default();
        sum.seconds = sum.seconds.saturating_add(line.seconds);
        sum.minimum_seconds_added = sum
            .minimum_seconds_added
            .saturating_add(line.minimum_seconds_added);
        sum.amount = sum.amount.saturating_add(line.amount);
    }
    totals
}

/// The sum of the lines' rounded amounts.
#[must_use]
pub fn total(lines: &[RatedLine]) -> Nanos {
    lines.iter().map(|line| line.amount).sum()
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn line_ids_print_and_parse_back() {
        let id = LineId {
            subject: Subject(0x00c0_ffee),
            day: UtcDay(20_779),
            resource: "n1.micro".to_owned(),
            price_version: 12,
        };
        let text = "i-0000000000c0ffee/2026-11-22/n1.micro/v12";
        assert_eq!(id.to_string(), text);
        assert_eq!(text.parse(), Ok(id));
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in [
            "",
            "i-0000000000c0ffee",
            "i-0000000000c0ffee/2026-11-22/v1",
            "i-0000000000c0ffee/2026-11-22//v1",
            "i-0000000000c0ffee/2026-11-31/n1.micro/v1",
            "i-0000000000c0ffee/2026-11-22/n1.micro/v01",
            "i-0000000000c0ffee/2026-11-22/n1.micro/v-1",
            "n-0000000000c0ffee/2026-11-22/n1.micro/v1",
        ] {
            assert!(bad.parse::<LineId>().is_err(), "{bad}");
        }
    }
}
