//! Guests whose ports are on this host, as the driver made them. Whoever makes
//! networks waits here for what changes.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use nube_types::InstanceId;
use tokio::sync::watch;

use crate::driver::{GuestSpec, Run};
use crate::host::process;

/// By instance.
pub type Present = BTreeMap<InstanceId, Guest>;

/// A guest with a port here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    /// What it is made of.
    pub spec: Arc<GuestSpec>,
    /// When its newest run began (`host::clock`); unknown until one does.
    pub started_ms: Option<u64>,
}

impl Deref for Guest {
    type Target = GuestSpec;

    fn deref(&self) -> &GuestSpec {
        &self.spec
    }
}

/// The register.
#[derive(Debug)]
pub struct Guests {
    present: watch::Sender<Present>,
}

impl Default for Guests {
    fn default() -> Self {
        Self {
            present: watch::Sender::new(Present::new()),
        }
    }
}

impl Guests {
    /// A guest's port was made or changed.
    pub fn insert(&self, guest: &GuestSpec) {
        self.present.send_if_modified(|present| {
            let known = present.get(&guest.instance);
            if known.is_some_and(|known| *known.spec == *guest) {
                return false;
            }
            let started_ms = known.and_then(|known| known.started_ms);
            let spec = Arc::new(guest.clone());
            present.insert(guest.instance, Guest { spec, started_ms });
            true
        });
    }

    /// A run of it began, or was found.
    pub fn started(&self, instance: InstanceId, run: &Run) {
        let started_ms = Some(process::started_ms(run));
        self.present.send_if_modified(|present| {
            let Some(guest) = present.get_mut(&instance) else {
                return false;
            };
            let news = guest.started_ms != started_ms;
            guest.started_ms = started_ms;
            news
        });
    }

    /// A guest's port goes.
    pub fn remove(&self, instance: InstanceId) {
        self.present
            .send_if_modified(|present| present.remove(&instance).is_some());
    }

    /// All of them, now and later.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Present> {
        self.present.subscribe()
    }
}
