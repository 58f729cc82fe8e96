//! A6: one leader per term, whatever happened to the members' disks and messages.

use std::collections::BTreeMap;

use nube_consensus::Role;

use super::hold;

/// Who led when.
#[derive(Default)]
pub struct Terms(BTreeMap<u64, u64>);

impl Terms {
    /// A member says what it is.
    pub fn role(&mut self, id: u64, role: Role, term: u64) {
        if role == Role::Leader {
            let leader = *self.0.entry(term).or_insert(id);
            hold("A6", leader == id, || {
                format!("members {leader} and {id} both lead in term {term}")
            });
        }
    }
}
