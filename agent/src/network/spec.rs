//! From the wire to checked values: everything that devices, routes, rules and
//! answers to guests are made of. A network that makes no sense is left out as a
//! whole, with the reason; the others are not touched by it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use nube_proto::agent::v1::{
    DesiredListener, DesiredLoadBalancer, DesiredNetwork, DesiredSecurityRule, ElasticAddress,
    NetworkPort, desired_security_rule,
};
use nube_types::limits::{
    LISTENERS_PER_LOAD_BALANCER_MAX, PORTS_PER_NETWORK_MAX, RULES_PER_SECURITY_GROUP_MAX,
    SUBNETS_PER_NETWORK_MAX, TARGETS_PER_LOAD_BALANCER_MAX,
};
use nube_types::net::{IpPrefix, Ipv4Prefix};
use nube_types::{
    InstanceId, LoadBalancerId, Name, NetworkId, PlacementEpoch, SecurityGroupId, SecurityRuleId,
};

use crate::convert::mac;

/// VXLAN has 24 bits.
const NUMBER_MAX: u32 = (1 << 24) - 1;
/// Ethernet's least for IPv6, and what fits any link.
const MTU: std::ops::RangeInclusive<u32> = 1_280..=9_000;

/// One network as this host must know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Which.
    pub id: NetworkId,
    /// VXLAN network identifier; names devices and namespaces.
    pub number: u32,
    /// Middle label of DNS names.
    pub name: Name,
    /// Guests reach the internet, and elastic addresses reach guests.
    pub internet_gateway: bool,
    /// Of guests' interfaces and of the overlay's inside.
    pub mtu: u16,
    /// In order of their ranges; they do not overlap.
    pub subnets: Vec<SubnetSpec>,
    /// Every port, by instance.
    pub ports: BTreeMap<InstanceId, NetworkPortSpec>,
    /// Rules, by group.
    pub groups: BTreeMap<SecurityGroupId, Vec<RuleSpec>>,
    /// Elastic addresses that point into the network.
    pub elastic: BTreeMap<Ipv4Addr, ElasticSpec>,
    /// Load balancers.
    pub load_balancers: BTreeMap<LoadBalancerId, LoadBalancerSpec>,
}

/// A range and the address that hosts answer in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SubnetSpec {
    /// The range.
    pub range: Ipv4Prefix,
    /// In the range.
    pub gateway: Ipv4Addr,
}

/// A port, on whatever host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkPortSpec {
    /// First label of the DNS name.
    pub name: Name,
    /// Its only IPv4 address.
    pub address: Ipv4Addr,
    /// Its only routed IPv6 address.
    pub address_v6: Option<Ipv6Addr>,
    /// Its only MAC.
    pub mac: [u8; 6],
    /// Overlay address of its host; `None`: nothing can be sent there.
    pub host: Option<Ipv4Addr>,
    /// Of the placement.
    pub epoch: PlacementEpoch,
    /// It is on this host.
    pub local: bool,
    /// Sorted; each is in `groups`.
    pub groups: Vec<SecurityGroupId>,
}

/// Which packets a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// All.
    Any,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP and ICMPv6.
    Icmp,
}

/// The other side of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// A range of one family.
    Range(IpPrefix),
    /// Ports of the network that carry this group; it is in `groups`.
    Group(SecurityGroupId),
}

/// One thing that is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleSpec {
    /// For explanations and counters.
    pub id: SecurityRuleId,
    /// To the guest; otherwise from it.
    pub ingress: bool,
    /// Which packets.
    pub protocol: Protocol,
    /// First and last port of the receiver; `None`: all. Only with TCP and UDP.
    pub ports: Option<(u16, u16)>,
    /// With whom.
    pub peer: Peer,
}

/// What an elastic address points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElasticTarget {
    /// A port of the network.
    Instance(InstanceId),
    /// A load balancer of the network.
    LoadBalancer(LoadBalancerId),
}

/// An elastic address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ElasticSpec {
    /// Where it leads.
    pub target: ElasticTarget,
    /// This host answers for it.
    pub announced: bool,
}

/// One listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerSpec {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Its own port.
    pub port: u16,
    /// Of the targets.
    pub target_port: u16,
}

/// One load balancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadBalancerSpec {
    /// Of its own; no port has it.
    pub address: Ipv4Addr,
    /// At least one.
    pub listeners: Vec<ListenerSpec>,
    /// Ports of the network, and whether new connections go there.
    pub targets: BTreeMap<InstanceId, bool>,
    /// TCP port that must accept.
    pub health_port: u16,
    /// Between two looks.
    pub health_interval_ms: u32,
    /// Equal answers in a row that change the verdict.
    pub health_threshold: u8,
}

/// One network, or why it makes no sense.
pub fn network(wire: DesiredNetwork) -> Result<NetworkSpec, String> {
    let number = Some(wire.number).filter(|number| (1..=NUMBER_MAX).contains(number));
    let mtu = Some(wire.mtu).filter(|mtu| MTU.contains(mtu));
    let groups = groups(&wire)?;
    let ports = ports(&wire.ports, &groups)?;
    let load_balancers = wire
        .load_balancers
        .iter()
        .map(|balancer| load_balancer(balancer, &ports))
        .collect::<Result<BTreeMap<_, _>, _>>()?;
    let elastic = wire
        .addresses
        .iter()
        .map(|address| elastic(address, &ports, &load_balancers))
        .collect::<Result<BTreeMap<_, _>, _>>()?;
    Ok(NetworkSpec {
        id: id("network_id", &wire.network_id)?,
        number: number
            .ok_or_else(|| format!("number: {} is not 1 to {NUMBER_MAX}", wire.number))?,
        name: name(&wire.name)?,
        internet_gateway: wire.internet_gateway,
        mtu: u16::try_from(mtu.ok_or_else(|| format!("mtu: {}", wire.mtu))?).expect("in range"),
        subnets: subnets(&wire)?,
        ports,
        groups,
        elastic,
        load_balancers,
    })
}

fn id<T: std::str::FromStr>(field: &str, text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("{field}: `{}` is no id", text.escape_debug()))
}

fn name(text: &str) -> Result<Name, String> {
    Name::new(text).map_err(|error| format!("name: {error}"))
}

fn address<T: std::str::FromStr>(field: &str, text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("{field}: `{}` is no address", text.escape_debug()))
}

fn subnets(wire: &DesiredNetwork) -> Result<Vec<SubnetSpec>, String> {
    if wire.subnets.len() > SUBNETS_PER_NETWORK_MAX + 1 {
        return Err("subnets: too many".to_owned());
    }
    let mut subnets = Vec::new();
    for subnet in &wire.subnets {
        let range: Ipv4Prefix = subnet.cidr.parse().map_err(|e| format!("cidr: {e}"))?;
        let gateway: Ipv4Addr = address("gateway", &subnet.gateway)?;
        if !range.has(gateway) {
            return Err(format!("gateway: {gateway} is not in {range}"));
        }
        subnets.push(SubnetSpec { range, gateway });
    }
    subnets.sort();
    let overlap = |pair: &[SubnetSpec]| pair[0].range.overlaps(pair[1].range);
    if subnets.windows(2).any(overlap) {
        return Err("subnets: two of them overlap".to_owned());
    }
    Ok(subnets)
}

fn groups(wire: &DesiredNetwork) -> Result<BTreeMap<SecurityGroupId, Vec<RuleSpec>>, String> {
    let mut groups = BTreeMap::new();
    for group in &wire.security_groups {
        if group.rules.len() > RULES_PER_SECURITY_GROUP_MAX {
            return Err("rules: too many".to_owned());
        }
        let rules: Vec<RuleSpec> = group.rules.iter().map(rule).collect::<Result<_, _>>()?;
        groups.insert(id("security_group_id", &group.security_group_id)?, rules);
    }
    let known: BTreeSet<_> = groups.keys().copied().collect();
    for rules in groups.values() {
        let strange = |rule: &&RuleSpec| matches!(rule.peer, Peer::Group(g) if !known.contains(&g));
        if let Some(rule) = rules.iter().find(strange) {
            return Err(format!("rule {}: names a group that is not here", rule.id));
        }
    }
    Ok(groups)
}

fn rule(wire: &DesiredSecurityRule) -> Result<RuleSpec, String> {
    let protocol = protocol(&wire.protocol)?;
    let has_ports = matches!(protocol, Protocol::Tcp | Protocol::Udp);
    let ports = match (wire.port_min, wire.port_max) {
        (0, 0) => None,
        (min, max) if has_ports && min <= max => Some((port(min)?, port(max)?)),
        (min, max) => return Err(format!("ports: {min} to {max}")),
    };
    let peer = match &wire.peer {
        Some(desired_security_rule::Peer::Cidr(cidr)) => {
            Peer::Range(cidr.parse().map_err(|e| format!("cidr: {e}"))?)
        }
        Some(desired_security_rule::Peer::SecurityGroupId(group)) => {
            Peer::Group(id("security_group_id", group)?)
        }
        None => return Err("peer: a rule without one".to_owned()),
    };
    Ok(RuleSpec {
        id: id("rule_id", &wire.rule_id)?,
        ingress: wire.ingress,
        protocol,
        ports,
        peer,
    })
}

fn protocol(text: &str) -> Result<Protocol, String> {
    match text {
        "any" => Ok(Protocol::Any),
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        "icmp" => Ok(Protocol::Icmp),
        other => Err(format!("protocol: `{}`", other.escape_debug())),
    }
}

fn port(number: u32) -> Result<u16, String> {
    u16::try_from(number)
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| format!("port: {number} is not 1 to 65535"))
}

fn ports(
    wire: &[NetworkPort],
    groups: &BTreeMap<SecurityGroupId, Vec<RuleSpec>>,
) -> Result<BTreeMap<InstanceId, NetworkPortSpec>, String> {
    if wire.len() > PORTS_PER_NETWORK_MAX {
        return Err("ports: too many".to_owned());
    }
    let mut taken = BTreeSet::new();
    let mut ports = BTreeMap::new();
    for wire in wire {
        let port = network_port(wire)?;
        if !taken.insert(port.address) {
            return Err(format!("ports: two have {}", port.address));
        }
        if port.groups.is_empty() || port.groups.iter().any(|group| !groups.contains_key(group)) {
            return Err(format!("ports: {} has no known groups", port.address));
        }
        ports.insert(id("instance_id", &wire.instance_id)?, port);
    }
    Ok(ports)
}

fn network_port(wire: &NetworkPort) -> Result<NetworkPortSpec, String> {
    let mut groups = wire
        .security_group_ids
        .iter()
        .map(|group| id("security_group_ids", group))
        .collect::<Result<Vec<_>, _>>()?;
    groups.sort_unstable();
    groups.dedup();
    let optional = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Ok(NetworkPortSpec {
        name: name(&wire.name)?,
        address: address("address", &wire.address)?,
        address_v6: optional(&wire.ipv6_address)
            .map(|text| address("ipv6_address", &text))
            .transpose()?,
        mac: mac(&wire.mac_address)
            .ok_or_else(|| format!("mac_address: {}", wire.mac_address.escape_debug()))?,
        host: optional(&wire.host_address)
            .map(|text| address("host_address", &text))
            .transpose()?,
        epoch: PlacementEpoch(wire.placement_epoch),
        local: wire.local,
        groups,
    })
}

fn load_balancer(
    wire: &DesiredLoadBalancer,
    ports: &BTreeMap<InstanceId, NetworkPortSpec>,
) -> Result<(LoadBalancerId, LoadBalancerSpec), String> {
    let count = wire.listeners.len();
    if count == 0 || count > LISTENERS_PER_LOAD_BALANCER_MAX {
        return Err(format!("listeners: {count}"));
    }
    if wire.targets.len() > TARGETS_PER_LOAD_BALANCER_MAX {
        return Err("targets: too many".to_owned());
    }
    let mut targets = BTreeMap::new();
    for target in &wire.targets {
        let instance = id("instance_id", &target.instance_id)?;
        if !ports.contains_key(&instance) {
            return Err(format!("targets: {instance} has no port here"));
        }
        targets.insert(instance, target.takes_new);
    }
    let spec = LoadBalancerSpec {
        address: address("address", &wire.address)?,
        listeners: wire
            .listeners
            .iter()
            .map(listener)
            .collect::<Result<_, _>>()?,
        targets,
        health_port: port(wire.health_port)?,
        health_interval_ms: wire.health_interval_ms.clamp(200, 300_000),
        health_threshold: u8::try_from(wire.health_threshold.clamp(1, 10)).expect("in range"),
    };
    Ok((id("load_balancer_id", &wire.load_balancer_id)?, spec))
}

fn listener(wire: &DesiredListener) -> Result<ListenerSpec, String> {
    let protocol = protocol(&wire.protocol)?;
    if !matches!(protocol, Protocol::Tcp | Protocol::Udp) {
        return Err("listener: neither tcp nor udp".to_owned());
    }
    Ok(ListenerSpec {
        protocol,
        port: port(wire.port)?,
        target_port: port(wire.target_port)?,
    })
}

fn elastic(
    wire: &ElasticAddress,
    ports: &BTreeMap<InstanceId, NetworkPortSpec>,
    load_balancers: &BTreeMap<LoadBalancerId, LoadBalancerSpec>,
) -> Result<(Ipv4Addr, ElasticSpec), String> {
    let public: Ipv4Addr = address("address", &wire.address)?;
    let target = match (wire.instance_id.as_str(), wire.load_balancer_id.as_str()) {
        (instance, "") => {
            let instance = id("instance_id", instance)?;
            ports
                .contains_key(&instance)
                .then_some(ElasticTarget::Instance(instance))
        }
        ("", balancer) => {
            let balancer = id("load_balancer_id", balancer)?;
            load_balancers
                .contains_key(&balancer)
                .then_some(ElasticTarget::LoadBalancer(balancer))
        }
        _ => None,
    };
    let target = target.ok_or_else(|| format!("addresses: {public} points at nothing here"))?;
    let announced = wire.announced;
    Ok((public, ElasticSpec { target, announced }))
}
