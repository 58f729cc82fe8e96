//! Typed ids. An id is 64 bits drawn by the proposer and printed with a prefix
//! (`i-00c0ffee00c0ffee`), so an id of the wrong kind never parses as another.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};

/// Why a text is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not an id of the form {prefix}0123456789abcdef")]
pub struct ParseIdError {
    /// The refused text, cut to a printable length.
    pub value: String,
    /// The prefix that this kind of id carries.
    pub prefix: &'static str,
}

fn parse_prefixed(text: &str, prefix: &'static str) -> Result<u64, ParseIdError> {
    let refuse = || ParseIdError {
        value: text.chars().take(40).collect(),
        prefix,
    };
    let digits = text.strip_prefix(prefix).ok_or_else(refuse)?;
    let canonical = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if digits.len() != 16 || !digits.bytes().all(canonical) {
        return Err(refuse());
    }
    u64::from_str_radix(digits, 16).map_err(|_| refuse())
}

macro_rules! typed_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
        #[cbor(transparent)]
        pub struct $name(#[n(0)] pub u64);

        impl $name {
            /// The text before the sixteen hexadecimal digits.
            pub const PREFIX: &'static str = $prefix;

            /// The sixteen digits alone: safe in device, file and cgroup names.
            #[must_use]
            pub fn hex(self) -> String {
                format!("{:016x}", self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{:016x}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_prefixed(text, $prefix).map(Self)
            }
        }
    };
}

typed_id!(
    /// A tenant's project: the owner of everything that is rented.
    ProjectId, "p-"
);
typed_id!(
    /// A virtual machine or system container.
    InstanceId, "i-"
);
typed_id!(
    /// A bootable image.
    ImageId, "img-"
);
typed_id!(
    /// A registered SSH public key.
    SshKeyId, "key-"
);
typed_id!(
    /// A compute host that runs an agent.
    NodeId, "n-"
);
typed_id!(
    /// A tenant network.
    NetworkId, "net-"
);
typed_id!(
    /// A range of addresses in a network.
    SubnetId, "subnet-"
);
typed_id!(
    /// A set of rules about the traffic of ports.
    SecurityGroupId, "sg-"
);
typed_id!(
    /// One rule of a security group.
    SecurityRuleId, "sgr-"
);
typed_id!(
    /// A public address that a project holds.
    AddressId, "addr-"
);
typed_id!(
    /// A load balancer.
    LoadBalancerId, "lb-"
);
typed_id!(
    /// A person or program that acts.
    PrincipalId, "u-"
);
typed_id!(
    /// A principal's access key.
    AccessKeyId, "ak-"
);

/// How often an instance has been placed. An agent acts only on its own epoch,
/// so a host that was given up can never act for its successor.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Encode,
    Decode,
    serde::Serialize,
    serde::Deserialize,
)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct PlacementEpoch(#[n(0)] pub u32);

/// A client's name for one mutation: the same id has at most one effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct RequestId(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 16]);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn ids_print_and_parse_back() {
        let id = InstanceId(0x00c0_ffee);
        assert_eq!(id.to_string(), "i-0000000000c0ffee");
        assert_eq!("i-0000000000c0ffee".parse(), Ok(id));
        assert_eq!("n-0000000000c0ffee".parse(), Ok(NodeId(0x00c0_ffee)));
    }

    #[test]
    fn foreign_or_malformed_ids_are_refused() {
        for bad in [
            "",
            "i-",
            "i-123",
            "n-0000000000c0ffee",
            "i-0000000000C0FFEE",
            "i-+000000000c0ffee",
            "i-../../../etc/pas",
        ] {
            assert!(bad.parse::<InstanceId>().is_err(), "{bad}");
        }
    }
}
