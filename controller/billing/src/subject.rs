//! What usage is about: an instance or an elastic address, by the number of its
//! id. Both kinds draw 64 random bits, and the state machine refuses a number that
//! the ledger knows already. Which kind it is follows from the resource.

use std::fmt;

use minicbor::{Decode, Encode};
use nube_types::{AddressId, InstanceId};

/// The resource of a held elastic address, priced per hour.
pub const ADDRESS: &str = "address";
/// The resource of bytes from instances to the internet, priced per GiB.
pub const INTERNET_OUT: &str = "internet-out";

/// The number of what is billed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub struct Subject(#[n(0)] pub u64);

impl From<InstanceId> for Subject {
    fn from(id: InstanceId) -> Self {
        Self(id.0)
    }
}

impl From<AddressId> for Subject {
    fn from(id: AddressId) -> Self {
        Self(id.0)
    }
}

impl Subject {
    /// The instance, unless the resource says that it is something else.
    #[must_use]
    pub fn instance(self, resource: &str) -> Option<InstanceId> {
        (resource != ADDRESS).then_some(InstanceId(self.0))
    }

    /// The address, if the resource says so.
    #[must_use]
    pub fn address(self, resource: &str) -> Option<AddressId> {
        (resource == ADDRESS).then_some(AddressId(self.0))
    }

    /// Its id as people read it.
    #[must_use]
    pub fn id(self, resource: &str) -> String {
        match self.address(resource) {
            Some(address) => address.to_string(),
            None => InstanceId(self.0).to_string(),
        }
    }

    /// From an id as people write it, which must be of the resource's kind.
    #[must_use]
    pub fn parse(text: &str, resource: &str) -> Option<Self> {
        if resource == ADDRESS {
            return text.parse().ok().map(|AddressId(number)| Self(number));
        }
        text.parse().ok().map(|InstanceId(number)| Self(number))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
