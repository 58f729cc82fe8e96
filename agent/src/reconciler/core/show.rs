//! What the core lets others see: machines, what nobody can explain, and which
//! image files are in use.

use std::collections::BTreeSet;

use nube_proto::v1::InstanceState;
use nube_types::InstanceId;

use super::slot::Slot;
use super::{Core, Output};
use crate::image;
use crate::instance::Desire;
use crate::plan::Leave;
use crate::report::{self, Change};

impl Core {
    /// Shows a machine as it is, if the disk knows it so. A failure is shown in
    /// any case: that the disk is full must be said, and a crash that forgets a
    /// failure only means one more try.
    pub(super) fn show(&mut self, id: InstanceId) {
        let Some(slot) = self.slots.get(&id) else {
            return;
        };
        if !slot.is_durable() && !slot.has_failed() {
            return;
        }
        let mut seen = report::observe(&slot.machine);
        if self.leave(slot) != Leave::Start && slot.waits_for_lease() {
            seen.reason = "it starts when a leader grants this host a lease".to_owned();
            // Or it would look like a guest that switched itself off.
            seen.found_dead |= seen.state() == InstanceState::Stopped;
        }
        if self.view.instances.get(&id) != Some(&seen) {
            self.change(Change::Instance(id, Box::new(seen)));
        }
    }

    pub(super) fn show_unknown(&mut self) {
        let mut unknown = self.unexplained.clone();
        let quarantined = |slot: &&Slot| slot.wish.is_none() && !slot.is_being_dropped();
        unknown.extend(self.slots.values().filter(quarantined).map(|slot| {
            format!(
                "instance {} is not in the controllers' list; it is left alone",
                slot.machine.id
            )
        }));
        if self.view.unknown != unknown {
            self.change(Change::Unknown(unknown));
        }
    }

    pub(super) fn change(&mut self, change: Change) {
        self.view.apply(change.clone());
        self.outputs.push(Output::Show(change));
    }

    pub(super) fn pin_images(&mut self) {
        let mut pinned = BTreeSet::new();
        for slot in self.slots.values() {
            let wished = slot.wish.as_ref().and_then(|wish| match &wish.desire {
                Desire::Running(spec) => Some(&spec.image),
                _ => None,
            });
            for image in slot.image.iter().chain(wished) {
                pinned.extend(image::digests(image).cloned());
            }
        }
        self.outputs.push(Output::PinImages(pinned));
    }
}
