//! What is on this host, what is wanted, and what comes next. Without I/O: time
//! and news come in, things to do come out, and the same inputs always give the
//! same outputs. The shell (`reconciler.rs`) and the simulator both run it.
//!
//! ```text
//! Desired, Told, GuestEnded, VerbFinished, Recorded, Wake
//!    ─► machine ─► plan ─► WriteRecord ─► (Recorded) ─► Begin, Show
//! ```
//!
//! Outputs are carried out in order. After `WriteRecord` or `Forget` nothing
//! more comes of that instance until `Recorded` says how it went; so whoever
//! runs this core cannot begin a step, or show a state, that is not durable.

mod exchange;
mod show;
mod slot;
mod terms;
#[cfg(test)]
mod test;

use std::collections::{BTreeMap, BTreeSet};

use nube_types::InstanceId;

use crate::driver::{GuestEnded, GuestExit, Recovered};
use crate::instance::record::{Found, Record};
use crate::instance::{Desire, Done, Verb, Wish};
use crate::plan::{Action, Leave, Plan, plan};
use crate::report::{self, Change, View};
pub use exchange::{Input, Output};
use slot::{Next, Slot, Writing};
use terms::Terms;

/// A record that could not be written is tried again this soon.
const RECORD_RETRY_MS: u64 = 1_000;

/// Decides for every machine of this host.
#[derive(Debug)]
pub struct Core {
    slots: BTreeMap<InstanceId, Slot>,
    /// What the driver cannot explain.
    unexplained: Vec<String>,
    /// Whether the leader's list has come.
    listed: bool,
    terms: Terms,
    next_token: u64,
    /// As shown so far.
    view: View,
    /// Of the input that is being handled.
    now_ms: u64,
    outputs: Vec<Output>,
}

/// What a step left behind.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    /// Look again at once.
    Again,
    /// Nothing more to do now.
    Rest,
    /// A record is on its way to the disk.
    Waits,
}

impl Core {
    /// After a start of the agent: what is on disk, and what the driver found.
    /// `unexplained` is what it found and cannot explain, for people. What was
    /// found is shown at once: the next start would find it again.
    #[must_use]
    pub fn recover(
        mut records: BTreeMap<InstanceId, Record>,
        found: Vec<Recovered>,
        unexplained: Vec<String>,
    ) -> Self {
        let mut slots = BTreeMap::new();
        for found in found {
            let (spec, found) = match found {
                Recovered::Prepared(spec) => {
                    let found = Found::Prepared(spec.epoch);
                    (spec, found)
                }
                Recovered::Running(spec, run) => {
                    let found = Found::Running(spec.epoch, run);
                    (spec, found)
                }
            };
            let id = spec.instance;
            slots.insert(
                id,
                Slot::recovered(id, records.remove(&id), found, Some(spec)),
            );
        }
        for (id, record) in records {
            slots.insert(id, Slot::recovered(id, Some(record), Found::Absent, None));
        }
        let shown = |(id, slot): (&InstanceId, &Slot)| (*id, report::observe(&slot.machine));
        let view = View {
            instances: slots.iter().map(shown).collect(),
            unknown: unexplained.clone(),
        };
        Self {
            slots,
            unexplained,
            listed: false,
            terms: Terms::default(),
            next_token: 0,
            view,
            now_ms: 0,
            outputs: Vec::new(),
        }
    }

    /// Until when the fencers let leased guests run, as an earlier life of the
    /// agent on this boot of the host had told them last. Nothing starts on it.
    #[must_use]
    pub fn with_deadline(self, deadline_ms: u64) -> Self {
        Self {
            terms: Terms::with_deadline(deadline_ms),
            ..self
        }
    }

    /// All that was shown so far.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Takes one piece of news. `now_ms` never goes back within a life.
    pub fn handle(&mut self, now_ms: u64, input: Input) -> Vec<Output> {
        self.now_ms = now_ms;
        match input {
            Input::Started => {
                self.pin_images();
                self.settle_all();
            }
            Input::Desired {
                wishes,
                fence_epoch,
            } => self.desired(wishes, fence_epoch),
            Input::Lease(held) => {
                self.terms.granted(held);
                self.prolong();
                self.settle_leased();
            }
            Input::Told(ids) => self.told(ids),
            Input::GuestEnded(ended) => self.guest_ended(ended),
            Input::VerbFinished {
                instance,
                token,
                done,
            } => self.verb_finished(instance, token, done),
            Input::Recorded { instance, durable } => self.recorded(instance, durable),
            Input::Wake => self.wake(),
        }
        let fenced = self.slots.values().any(Slot::may_be_fenced);
        let deadline_ms = self.terms.ends_at_ms(now_ms).filter(|_| fenced);
        let wakes = self.slots.values().filter_map(|slot| slot.wake_at_ms);
        let next = wakes.chain(deadline_ms).min();
        self.outputs.extend(next.map(Output::WakeAt));
        std::mem::take(&mut self.outputs)
    }

    fn desired(&mut self, wishes: Vec<Wish>, fence_epoch: u64) {
        self.listed = true;
        self.terms.listed(fence_epoch);
        let listed: BTreeSet<_> = wishes.iter().map(|wish| wish.instance).collect();
        for wish in wishes {
            let id = wish.instance;
            let slot = self.slots.entry(id).or_insert_with(|| Slot::new(id));
            if slot.machine.take(&wish) {
                if let Desire::Running(spec) = &wish.desire {
                    slot.leased |= spec.leased;
                }
                slot.wish = Some(wish);
            } else {
                tracing::warn!(instance = %id, wish = ?wish.version, "refused an older wish");
            }
        }
        for (id, slot) in &mut self.slots {
            if !listed.contains(id) {
                slot.wish = None;
            }
        }
        self.pin_images();
        self.prolong();
        self.settle_all();
        self.show_unknown();
    }

    fn told(&mut self, ids: Vec<InstanceId>) {
        for id in ids {
            if let Some(slot) = self.slots.get_mut(&id) {
                slot.machine.told_dead();
                self.settle(id);
            }
        }
    }

    fn guest_ended(&mut self, ended: GuestEnded) {
        if let Some(slot) = self.slots.get_mut(&ended.instance) {
            let crashed = matches!(ended.exit, GuestExit::Crashed(_));
            if crashed && slot.leased && self.terms.is_over(self.now_ms) {
                slot.machine.ended_by_fencer(&ended.run);
            } else {
                slot.machine.ended(&ended.run, ended.exit);
            }
            self.settle(ended.instance);
        }
    }

    fn verb_finished(&mut self, id: InstanceId, token: u64, done: Done) {
        let now_ms = self.now_ms;
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        slot.fetch.take_if(|fetch| *fetch == token);
        slot.machine
            .finished(token, done, slot.wish.as_ref(), now_ms);
        self.settle(id);
    }

    fn wake(&mut self) {
        let (now_ms, over) = (self.now_ms, self.terms.is_over(self.now_ms));
        self.settle_those(|slot| {
            let due = slot.wake_at_ms.is_some_and(|at_ms| at_ms <= now_ms);
            due || over && slot.may_be_fenced()
        });
    }

    fn settle_all(&mut self) {
        self.settle_those(|_| true);
    }

    fn settle_leased(&mut self) {
        self.settle_those(|slot| slot.leased);
    }

    fn settle_those(&mut self, which: impl Fn(&Slot) -> bool) {
        let chosen = self.slots.iter().filter(|(_, slot)| which(slot));
        let ids: Vec<_> = chosen.map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.settle(id));
    }

    /// Lets leased guests run as long as the lease does. Without any nobody asks.
    fn prolong(&mut self) {
        if self.slots.values().any(|slot| slot.leased)
            && let Some(deadline_ms) = self.terms.prolong()
        {
            self.outputs.push(Output::Prolong { deadline_ms });
        }
    }

    /// What an instance may do now.
    fn leave(&self, slot: &Slot) -> Leave {
        match slot.leased {
            true => self.terms.leave(self.now_ms),
            false => Leave::Start,
        }
    }

    /// Takes steps until nothing is left to do now, then shows what is.
    fn settle(&mut self, id: InstanceId) {
        loop {
            match self.take_step(id) {
                Turn::Again => {}
                Turn::Waits => return,
                Turn::Rest => return self.show(id),
            }
        }
    }

    /// One turn of plan and note; the record and the act follow.
    fn take_step(&mut self, id: InstanceId) -> Turn {
        let (now_ms, listed) = (self.now_ms, self.listed);
        let leave = self.slots.get(&id).map(|slot| self.leave(slot));
        let (Some(slot), Some(leave)) = (self.slots.get_mut(&id), leave) else {
            return Turn::Rest;
        };
        slot.wake_at_ms = None;
        if slot.writing.is_some() {
            slot.changed_since = true;
            return Turn::Waits;
        }
        let mut planned = plan(slot.wish.as_ref(), &slot.machine, leave, now_ms);
        if !listed && planned.action != Some(Action::Fence) {
            // Nobody has said yet what is wanted; a lease ends all the same.
            planned = Plan::default();
        }
        let Some(action) = planned.action else {
            slot.wake_at_ms = planned.wake_at_ms;
            return self.write_record(id, Next::Rest);
        };
        if action == Action::Forget {
            slot.writing = Some(Writing {
                record: None,
                next: Next::Drop,
            });
            self.outputs.push(Output::Forget(id));
            return Turn::Waits;
        }
        let wish = match (&slot.wish, &action) {
            (_, Action::Fence) => slot.nobodys_wish(),
            (Some(wish), _) => wish.clone(),
            (None, _) => return Turn::Rest,
        };
        self.next_token += 1;
        let token = self.next_token;
        slot.machine.begin(&action, &wish, token, now_ms);
        let verb = match action {
            Action::Do(verb) => Some(verb),
            Action::Fence => Some(Verb::PowerCut),
            _ => None,
        };
        let next = verb.map_or(Next::Look, |verb| Next::Begin { verb, wish, token });
        self.write_record(id, next)
    }

    /// Brings the disk up to date with the machine before what comes next.
    fn write_record(&mut self, id: InstanceId, next: Next) -> Turn {
        let Some(slot) = self.slots.get_mut(&id) else {
            return Turn::Rest;
        };
        let record = slot.machine.record();
        if record == slot.durable {
            return self.go_on(id, next, true);
        }
        self.outputs.push(match record.clone() {
            Some(record) => Output::WriteRecord(Box::new(record)),
            None => Output::Forget(id),
        });
        slot.writing = Some(Writing { record, next });
        Turn::Waits
    }

    fn recorded(&mut self, id: InstanceId, durable: bool) {
        let now_ms = self.now_ms;
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        let Some(Writing { record, next }) = slot.writing.take() else {
            return;
        };
        let changed = std::mem::take(&mut slot.changed_since);
        if durable {
            slot.durable = record;
        } else {
            slot.wake_by(now_ms.saturating_add(RECORD_RETRY_MS));
        }
        match self.go_on(id, next, durable) {
            Turn::Again => self.settle(id),
            Turn::Rest if changed => self.settle(id),
            Turn::Rest => self.show(id),
            Turn::Waits => {}
        }
    }

    /// After the record. Without a durable one nothing new is made; what ends
    /// or removes goes on, or a full disk could never be emptied.
    fn go_on(&mut self, id: InstanceId, next: Next, durable: bool) -> Turn {
        let now_ms = self.now_ms;
        let leave = self.slots.get(&id).map(|slot| self.leave(slot));
        let Some(slot) = self.slots.get_mut(&id) else {
            return Turn::Rest;
        };
        match next {
            Next::Rest => Turn::Rest,
            Next::Look if durable => Turn::Again,
            Next::Look => Turn::Rest,
            Next::Begin { verb, wish, token } => {
                if !durable && matches!(verb, Verb::Prepare | Verb::Start) {
                    let reason = "the agent cannot write its journal (is the host's disk full?)";
                    let done = Done::Failed(reason.to_owned());
                    slot.machine.finished(token, done, Some(&wish), now_ms);
                    return Turn::Again;
                }
                if verb == Verb::Start && leave != Some(Leave::Start) {
                    // The lease ended while the record was written.
                    slot.machine.put_off_start(token);
                    return Turn::Again;
                }
                self.begin(id, verb, wish, token);
                Turn::Rest
            }
            Next::Drop if durable => {
                // It may have been listed again meanwhile.
                let planned = plan(slot.wish.as_ref(), &slot.machine, Leave::Start, now_ms);
                if planned.action != Some(Action::Forget) {
                    return Turn::Again;
                }
                self.slots.remove(&id);
                if self.view.instances.contains_key(&id) {
                    self.change(Change::Gone(id));
                }
                Turn::Rest
            }
            Next::Drop => Turn::Rest,
        }
    }

    fn begin(&mut self, id: InstanceId, verb: Verb, wish: Wish, token: u64) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        if slot.fetch.take().is_some() {
            self.outputs.push(Output::AbortFetch(id));
        }
        slot.fetch = (verb == Verb::Fetch).then_some(token);
        if let Desire::Running(spec) = &wish.desire {
            slot.image = Some(spec.image.clone());
            if verb == Verb::Start {
                slot.leased = spec.leased;
            }
        }
        self.outputs.push(Output::Begin {
            instance: id,
            token,
            verb,
            wish: Box::new(wish),
        });
    }
}
