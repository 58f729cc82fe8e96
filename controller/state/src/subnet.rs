//! Subnets: ranges of addresses in a network.
//!
//! A network's first subnet is part of its record, has the digits of the
//! network's id and goes with it; those made later are rows of their own.

use std::net::Ipv4Addr;

use minicbor::{Decode, Encode};
use nube_types::limits::{
    SUBNET_PREFIX_LENGTH_MAX, SUBNET_PREFIX_LENGTH_MIN, SUBNETS_PER_NETWORK_MAX,
};
use nube_types::net::Ipv4Prefix;
use nube_types::{Name, NetworkId, ProjectId, SubnetId, TimestampMs};

use crate::command::CreateSubnet;
use crate::network::{self, Network};
use crate::outcome::{Kind, Outcome, Refusal};
use crate::state::State;
use crate::table::Record;

/// A further range of a network.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Subnet {
    /// Its id.
    #[n(0)]
    pub id: SubnetId,
    /// Its owner.
    #[n(1)]
    pub project: ProjectId,
    /// Where it lies.
    #[n(2)]
    pub network: NetworkId,
    /// Unique in the network.
    #[n(3)]
    pub name: Name,
    /// Overlaps no other subnet of the network.
    #[n(4)]
    pub range: Ipv4Prefix,
    /// Where the search for a free address goes on.
    #[n(5)]
    pub next_offset: u32,
    /// When it was made.
    #[n(6)]
    pub created_at: TimestampMs,
    /// Log index of the last change.
    #[n(7)]
    pub revision: u64,
}

impl Record for Subnet {
    type Key = SubnetId;
    const TABLE: u8 = 19;
    fn key(&self) -> SubnetId {
        self.id
    }
}

/// A subnet as people see it, the first one or a further one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubnetView {
    /// Its id.
    pub id: SubnetId,
    /// Unique in the network.
    pub name: String,
    /// Its range.
    pub range: Ipv4Prefix,
    /// Answered by every host.
    pub gateway: Ipv4Addr,
    /// Addresses that may still be given, those that wait included.
    pub free: u32,
    /// When it was made.
    pub created_at: TimestampMs,
    /// Log index of the last change.
    pub revision: u64,
}

/// The id of a network's first subnet.
#[must_use]
pub fn first_id(network: NetworkId) -> SubnetId {
    SubnetId(network.0)
}

/// A network's subnets: the first one, then the others as they were made.
#[must_use]
pub fn subnets(state: &State, network: NetworkId) -> Vec<SubnetView> {
    let Some(network) = state.networks.get(&network) else {
        return Vec::new();
    };
    let view = |id, name: &str, range: Ipv4Prefix, created_at, revision| {
        let held = held(state, network.id, range);
        SubnetView {
            id,
            name: name.to_owned(),
            range,
            gateway: Ipv4Addr::from_bits(range.address().to_bits() + 1),
            free: network::usable(range).saturating_sub(held),
            created_at,
            revision,
        }
    };
    let first = view(
        first_id(network.id),
        network::DEFAULT,
        network.range(),
        network.created_at,
        network.revision,
    );
    let mut further: Vec<_> = further(state, network.id)
        .map(|s| view(s.id, s.name.as_str(), s.range, s.created_at, s.revision))
        .collect();
    further.sort_by_key(|subnet| (subnet.created_at, subnet.id));
    std::iter::once(first).chain(further).collect()
}

/// Further subnets of a network in order of ids.
pub(crate) fn further(state: &State, network: NetworkId) -> impl Iterator<Item = &Subnet> {
    let all = (network, SubnetId(0))..=(network, SubnetId(u64::MAX));
    let ids = state.derived.network.subnets.range(all);
    ids.filter_map(|(_, id)| state.subnets.get(id))
}

/// Addresses of a range that somebody holds.
fn held(state: &State, network: NetworkId, range: Ipv4Prefix) -> u32 {
    let (first, last) = (range.address().to_bits(), range.last().to_bits());
    let held = state
        .derived
        .addresses
        .range((network, first)..=(network, last));
    u32::try_from(held.count()).unwrap_or(u32::MAX)
}

pub(crate) fn absent(id: SubnetId) -> Refusal {
    Refusal::NotFound {
        kind: Kind::Subnet,
        reference: id.to_string(),
    }
}

fn invalid(field: &str, rule: impl Into<String>) -> Refusal {
    Refusal::Invalid {
        field: field.to_owned(),
        rule: rule.into(),
    }
}

/// Whether a network may have this range: private, of a length that makes sense,
/// and exact. The record's form does not say so.
pub(crate) fn check_range(range: Ipv4Prefix) -> Result<(), Refusal> {
    let (min, max) = (SUBNET_PREFIX_LENGTH_MIN, SUBNET_PREFIX_LENGTH_MAX);
    if !(min..=max).contains(&range.length()) {
        let rule = format!(
            "/{} is not a length of a subnet: /{min} to /{max}",
            range.length()
        );
        return Err(invalid("cidr", rule));
    }
    if Ipv4Prefix::exact(range.address(), range.length()) != Some(range) {
        return Err(invalid("cidr", format!("{range} has host bits set")));
    }
    let private = [
        (Ipv4Addr::new(10, 0, 0, 0), 8),
        (Ipv4Addr::new(172, 16, 0, 0), 12),
        (Ipv4Addr::new(192, 168, 0, 0), 16),
    ];
    let private = private.map(|(address, length)| Ipv4Prefix::around(address, length));
    if !private.iter().any(|private| private.contains(range)) {
        let rule = format!(
            "{range} is not private: choose from 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16"
        );
        return Err(invalid("cidr", rule));
    }
    Ok(())
}

pub(crate) fn create(state: &mut State, command: &CreateSubnet) -> Result<Outcome, Refusal> {
    let network = network::find(state, command.project, command.network)?;
    check_range(command.range)?;
    let name = command.name.clone();
    let existing = subnets(state, network.id);
    if existing.iter().any(|subnet| subnet.name == name.as_str()) {
        let kind = Kind::Subnet;
        return Err(Refusal::NameTaken { kind, name });
    }
    if let Some(other) = existing.iter().find(|s| s.range.overlaps(command.range)) {
        let (range, other_range) = (command.range, other.range);
        let rule = format!("{range} overlaps subnet `{}` ({other_range})", other.name);
        return Err(invalid("cidr", rule));
    }
    if existing.len() >= SUBNETS_PER_NETWORK_MAX {
        let what = "subnets of a network".to_owned();
        let limit = SUBNETS_PER_NETWORK_MAX as u64;
        return Err(Refusal::LimitReached { what, limit });
    }
    if !network::id_is_free(state, command.id.0) {
        return Err(Refusal::IdTaken(command.id.to_string()));
    }
    let subnet = Subnet {
        id: command.id,
        project: command.project,
        network: command.network,
        name,
        range: command.range,
        next_offset: 0,
        created_at: state.time,
        revision: state.index,
    };
    state.derived.network.note_subnet(&subnet);
    state.subnets.put(subnet);
    network::touch(state, command.network);
    Ok(Outcome::Subnet(command.id))
}

pub(crate) fn delete(
    state: &mut State,
    project: ProjectId,
    id: SubnetId,
) -> Result<Outcome, Refusal> {
    let is_first = |network: &Network| network.project == project;
    if state.networks.get(&NetworkId(id.0)).is_some_and(is_first) {
        let rule = "a network's first subnet goes with its network";
        return Err(invalid("subnet", rule));
    }
    let subnet = state.subnets.get(&id);
    let subnet = subnet
        .filter(|subnet| subnet.project == project)
        .ok_or_else(|| absent(id))?
        .clone();
    let count = held(state, subnet.network, subnet.range).into();
    if count > 0 {
        return Err(Refusal::NotEmpty {
            kind: Kind::Subnet,
            name: subnet.name,
            what: "addresses in use".to_owned(),
            count,
        });
    }
    let key = (subnet.network, id);
    state.derived.network.subnets.remove(&key);
    state.subnets.remove(&id);
    network::touch(state, subnet.network);
    Ok(Outcome::Done)
}
