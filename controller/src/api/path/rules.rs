//! Rules of security groups against one packet: which one lets it pass, or why
//! each does not.

use std::net::IpAddr;

use nube_state::security_group::{Direction, Peer, Protocol};
use nube_state::{Instance, SecurityGroup, SecurityRule, State, security_group};
use nube_types::SecurityGroupId;

use super::Packet;
use crate::api::convert;

/// Rules that are told one by one; the rest is counted.
const TOLD_MAX: usize = 8;

/// The other side of the packet, as a rule sees it.
pub(super) struct Other {
    /// Absent: any address of the internet.
    pub address: Option<IpAddr>,
    /// Those of a port of the same network.
    pub groups: Vec<SecurityGroupId>,
}

impl Other {
    pub(super) fn internet(address: Option<IpAddr>) -> Self {
        Self {
            address,
            groups: Vec::new(),
        }
    }

    /// A guest of the same network.
    pub(super) fn port(state: &State, instance: &Instance, address: IpAddr) -> Self {
        let groups = security_group::of_instance(state, instance);
        Self {
            address: Some(address),
            groups: groups.iter().map(|group| group.id).collect(),
        }
    }

    fn words(&self) -> String {
        match self.address {
            Some(address) => address.to_string(),
            None => "any address".to_owned(),
        }
    }
}

/// What the rules of some groups say.
pub(super) struct Judgement {
    pub passes: bool,
    pub detail: String,
}

/// Asks every rule of one direction.
pub(super) fn judge(
    groups: &[SecurityGroup],
    direction: Direction,
    packet: Packet,
    other: &Other,
) -> Judgement {
    let mut refusals = Vec::new();
    let names: Vec<&str> = groups.iter().map(|group| group.name.as_str()).collect();
    for group in groups {
        for rule in group
            .rules
            .iter()
            .filter(|rule| rule.direction == direction)
        {
            let (id, words) = (rule.id, words(rule, groups));
            match mismatch(rule, packet, other) {
                None => {
                    let detail = format!("{id} of group {} allows {words}", group.name);
                    return Judgement {
                        passes: true,
                        detail,
                    };
                }
                Some(why) => refusals.push(format!("{id} ({words}): {why}")),
            }
        }
    }
    let (towards, names) = (towards(direction), names.join(", "));
    let mut detail = format!(
        "no rule of group {names} allows {} {towards} {}",
        packet.words(),
        other.words()
    );
    let untold = refusals.len().saturating_sub(TOLD_MAX);
    for refusal in refusals.iter().take(TOLD_MAX) {
        detail.push_str(&format!("; {refusal}"));
    }
    if untold > 0 {
        detail.push_str(&format!("; and {untold} more do not match"));
    }
    Judgement {
        passes: false,
        detail,
    }
}

fn towards(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    }
}

fn words(rule: &SecurityRule, groups: &[SecurityGroup]) -> String {
    let ports = match (rule.port_min, rule.port_max) {
        (0, 0) => String::new(),
        (min, max) if min == max => format!(" {min}"),
        (min, max) => format!(" {min}-{max}"),
    };
    let peer = match rule.peer {
        Peer::Range(range) => range.to_string(),
        Peer::Group(id) => match groups.iter().find(|group| group.id == id) {
            Some(group) => format!("group {}", group.name),
            None => format!("group {id}"),
        },
    };
    let protocol = convert::protocol_word(rule.protocol);
    format!("{protocol}{ports} {} {peer}", towards(rule.direction))
}

/// Why a rule is not about this packet.
fn mismatch(rule: &SecurityRule, packet: Packet, other: &Other) -> Option<&'static str> {
    if rule.protocol != Protocol::Any && rule.protocol != packet.protocol {
        return Some("another protocol");
    }
    let all = (rule.port_min, rule.port_max) == (0, 0);
    if !all && !(rule.port_min..=rule.port_max).contains(&packet.port) {
        return Some("another port");
    }
    match (rule.peer, other.address) {
        (Peer::Range(range), Some(address)) if range.has(address) => None,
        // Any address of the internet: only a rule for all of them is sure.
        (Peer::Range(range), None) if range.length() == 0 && range.address().is_ipv4() => None,
        (Peer::Range(range), Some(address)) if range.address().is_ipv4() != address.is_ipv4() => {
            Some("another family")
        }
        (Peer::Range(_), Some(_)) => Some("another range"),
        (Peer::Range(_), None) => Some("not all of the internet"),
        (Peer::Group(group), _) if other.groups.contains(&group) => None,
        (Peer::Group(_), _) => Some("the other side does not carry the group"),
    }
}
