//! Usage intervals: one run of one instance, or one holding of an elastic
//! address, as the log committed it. This is
//! the ledger's record; it carries the log indexes that opened and closed it.
//! Written by the state machine's usage ledger; read by `rate` and `verify`.
//!
//! Law: intervals are half-open and cut on the whole-second grid: their length is
//! the end's whole second minus the start's. Both ends are rounded down, so two
//! runs that touch are disjoint, and nothing between them is lost.

use crate::subject::Subject;
use minicbor::{Decode, Encode};
use nube_types::{ProjectId, TimestampMs};

/// Why a run stopped being billable. Append-only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum EndReason {
    /// The committed stop, whoever asked for it.
    #[n(0)]
    Stopped,
    /// The committed delete request: the tenant does not pay for the clean-up.
    #[n(1)]
    DeleteRequested,
    /// The host was lost: the end is the last proven-running instant, never the
    /// detection.
    #[n(2)]
    HostLost,
    /// The guest ended or failed without being asked to.
    #[n(3)]
    Failed,
}

/// One billable run of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct UsageInterval {
    /// What ran, or was held.
    #[n(0)]
    pub subject: Subject,
    /// Who pays.
    #[n(1)]
    pub project: ProjectId,
    /// Ordinal of this run of the instance, from 1, without holes.
    #[n(2)]
    pub run: u32,
    /// What the price book prices: the instance type's name, or `address`.
    #[n(3)]
    pub resource: String,
    /// Replicated time of the committed `running`.
    #[n(4)]
    pub start: TimestampMs,
    /// Log index of that entry.
    #[n(5)]
    pub start_index: u64,
    /// The first instant that is not billed; `None` while the run goes on.
    #[n(6)]
    pub end: Option<TimestampMs>,
    /// Log index of the entry that closed the run.
    #[n(7)]
    pub end_index: Option<u64>,
    /// Why it was closed. Set together with `end` and `end_index`.
    #[n(8)]
    pub end_reason: Option<EndReason>,
}

impl UsageInterval {
    /// A run that has just been committed as running.
    #[must_use]
    pub fn open(
        subject: Subject,
        project: ProjectId,
        run: u32,
        resource: &str,
        start: TimestampMs,
        start_index: u64,
    ) -> Self {
        Self {
            subject,
            project,
            run,
            resource: resource.to_owned(),
            start,
            start_index,
            end: None,
            end_index: None,
            end_reason: None,
        }
    }

    /// Closes the run. `end` is never before `start`: a host that was lost
    /// before it proved anything gives a run of no seconds. A run closes once:
    /// returns false, and changes nothing, when it is closed already.
    pub fn close(&mut self, end: TimestampMs, end_index: u64, reason: EndReason) -> bool {
        if self.end.is_some() {
            return false;
        }
        self.end = Some(end.max(self.start));
        self.end_index = Some(end_index);
        self.end_reason = Some(reason);
        true
    }

    /// Still running, as the ledger knows.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.end.is_none()
    }

    /// The first billed second, since the epoch.
    #[must_use]
    pub fn start_second(&self) -> u64 {
        self.start.seconds()
    }

    /// The first second that is not billed as of an instant: an open run, or
    /// one that ends later, goes up to that instant.
    #[must_use]
    pub fn end_second(&self, as_of: TimestampMs) -> u64 {
        let end = self.end.map_or(as_of, |end| end.min(as_of));
        end.seconds().max(self.start_second())
    }

    /// Seconds of use as of an instant, without any minimum charge.
    #[must_use]
    pub fn seconds(&self, as_of: TimestampMs) -> u64 {
        self.end_second(as_of) - self.start_second()
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn run(start: u64) -> UsageInterval {
        let (instance, project) = (Subject(1), ProjectId(2));
        UsageInterval::open(instance, project, 1, "n1.micro", TimestampMs(start), 10)
    }

    #[test]
    fn seconds_are_cut_on_the_whole_second_grid() {
        let mut interval = run(1_900);
        assert_eq!(interval.seconds(TimestampMs(4_100)), 3);
        assert!(interval.close(TimestampMs(3_999), 11, EndReason::Stopped));
        assert_eq!(interval.seconds(TimestampMs(9_000)), 2);
        assert_eq!(
            interval.seconds(TimestampMs(2_000)),
            1,
            "as of a past instant"
        );
        assert_eq!(
            interval.seconds(TimestampMs(0)),
            0,
            "as of before the start"
        );
    }

    #[test]
    fn a_run_closes_once_and_never_before_it_started() {
        let mut interval = run(5_000);
        assert!(interval.close(TimestampMs(1_000), 11, EndReason::HostLost));
        assert_eq!(interval.end, Some(TimestampMs(5_000)));
        assert!(!interval.close(TimestampMs(9_000), 12, EndReason::Stopped));
        assert_eq!(
            (interval.end_index, interval.end_reason),
            (Some(11), Some(EndReason::HostLost))
        );
    }

    #[test]
    fn an_interval_reads_back_as_written() {
        let mut interval = run(5_000);
        for closed in [false, true] {
            if closed {
                assert!(interval.close(TimestampMs(9_000), 11, EndReason::DeleteRequested));
            }
            let bytes = minicbor::to_vec(&interval).expect("a Vec takes every write");
            assert_eq!(minicbor::decode(&bytes).ok(), Some(interval.clone()));
        }
    }
}
