//! What the core keeps of one instance.

use nube_types::InstanceId;

use crate::driver::{GuestSpec, ImageSpec};
use crate::instance::record::{Found, Record};
use crate::instance::{Desire, Ending, Machine, Phase, Verb, Wish};

/// One instance here and what is wanted of it.
#[derive(Debug)]
pub struct Slot {
    pub machine: Machine,
    pub wish: Option<Wish>,
    /// What is on disk.
    pub durable: Option<Record>,
    /// It may run only under a lease; so it stays while it runs.
    pub leased: bool,
    /// Needed even when no wish is known: the overlay of a stopped guest.
    pub image: Option<ImageSpec>,
    /// Look again at this time.
    pub wake_at_ms: Option<u64>,
    /// The token of a fetch that may be overtaken.
    pub fetch: Option<u64>,
    /// What is on its way to the disk. Until it is there, nothing else happens.
    pub writing: Option<Writing>,
    /// News came while it was written: look again.
    pub changed_since: bool,
}

/// A record on its way to the disk, and what follows it.
#[derive(Debug)]
pub struct Writing {
    pub record: Option<Record>,
    pub next: Next,
}

/// What follows a record.
#[derive(Debug)]
pub enum Next {
    /// Nothing; the state is shown.
    Rest,
    /// Another look.
    Look,
    /// The step that the record announces.
    Begin { verb: Verb, wish: Wish, token: u64 },
    /// The instance is forgotten.
    Drop,
}

impl Slot {
    pub fn new(id: InstanceId) -> Self {
        Self {
            machine: Machine::new(id),
            wish: None,
            durable: None,
            leased: false,
            image: None,
            wake_at_ms: None,
            fetch: None,
            writing: None,
            changed_since: false,
        }
    }

    pub fn recovered(
        id: InstanceId,
        record: Option<Record>,
        found: Found,
        spec: Option<Box<GuestSpec>>,
    ) -> Self {
        let durable = record.clone();
        let machine = Machine::recovered(id, record, found);
        Self {
            machine,
            durable,
            leased: spec.as_ref().is_some_and(|spec| spec.leased),
            image: spec.map(|spec| spec.image),
            ..Self::new(id)
        }
    }

    pub fn wake_by(&mut self, at_ms: u64) {
        let sooner = |already: u64| already.min(at_ms);
        self.wake_at_ms = Some(self.wake_at_ms.map_or(at_ms, sooner));
    }

    pub fn is_durable(&self) -> bool {
        self.machine.record() == self.durable
    }

    pub fn has_failed(&self) -> bool {
        matches!(self.machine.phase, Phase::Failed(_))
    }

    /// Whether the end of a lease concerns it.
    pub fn may_be_fenced(&self) -> bool {
        self.leased && (self.machine.is_on() || matches!(self.machine.phase, Phase::Starting(_)))
    }

    /// For a power cut that nobody wished.
    pub fn nobodys_wish(&self) -> Wish {
        Wish {
            instance: self.machine.id,
            version: self.machine.accepted,
            desire: Desire::Stopped,
            reboot_count: 0,
            force: true,
        }
    }

    /// Whether it is next and only the lease is missing.
    pub fn waits_for_lease(&self) -> bool {
        let wished = self.wish.as_ref().map(|wish| &wish.desire);
        let ready = matches!(
            self.machine.phase,
            Phase::Prepared { fresh: true } | Phase::Stopped(Ending::FoundDead { told: true })
        );
        ready && self.machine.busy.is_none() && matches!(wished, Some(Desire::Running(_)))
    }

    pub fn is_being_dropped(&self) -> bool {
        let next = self.writing.as_ref().map(|writing| &writing.next);
        matches!(next, Some(Next::Drop))
    }
}
