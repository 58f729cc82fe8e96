//! Security groups: what ports of instances may send and receive.
//!
//! A project's default group has the digits of its project's id. It has no record
//! until somebody changes it: until then its rules are the built-in ones, so that
//! a project costs nothing and old logs lead to their old states.

use minicbor::{Decode, Encode};
use nube_types::net::IpPrefix;
use nube_types::{Name, ProjectId, SecurityGroupId, SecurityRuleId, TimestampMs};

use crate::table::Record;

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Direction {
    /// To the instance.
    #[n(0)]
    Ingress,
    /// From the instance.
    #[n(1)]
    Egress,
}

/// Which packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Protocol {
    /// All of them.
    #[n(0)]
    Any,
    /// TCP.
    #[n(1)]
    Tcp,
    /// UDP.
    #[n(2)]
    Udp,
    /// ICMP and ICMPv6.
    #[n(3)]
    Icmp,
}

/// The other side of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Peer {
    /// Addresses of one family.
    #[n(0)]
    Range(#[n(0)] IpPrefix),
    /// Ports of the same network that carry this group.
    #[n(1)]
    Group(#[n(0)] SecurityGroupId),
}

/// One thing that is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct SecurityRule {
    /// Drawn by the proposer; unique in its group.
    #[n(0)]
    pub id: SecurityRuleId,
    /// Which way.
    #[n(1)]
    pub direction: Direction,
    /// Which packets.
    #[n(2)]
    pub protocol: Protocol,
    /// First port of the receiver; 0 together with `port_max` means all. Of no
    /// meaning, and 0, unless the protocol has ports.
    #[n(3)]
    pub port_min: u16,
    /// Last port.
    #[n(4)]
    pub port_max: u16,
    /// With whom.
    #[n(5)]
    pub peer: Peer,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SecurityGroup {
    /// Its id.
    #[n(0)]
    pub id: SecurityGroupId,
    /// Its owner.
    #[n(1)]
    pub project: ProjectId,
    /// Unique in the project.
    #[n(2)]
    pub name: Name,
    /// In the order they were added.
    #[n(3)]
    pub rules: Vec<SecurityRule>,
    /// When it was made.
    #[n(4)]
    pub created_at: TimestampMs,
    /// Log index of the last change.
    #[n(5)]
    pub revision: u64,
}

impl Record for SecurityGroup {
    type Key = SecurityGroupId;
    const TABLE: u8 = 20;
    fn key(&self) -> SecurityGroupId {
        self.id
    }
}
