//! Wishes of a leader, short enough for tests. All networks use 10.0.0.0/24.

use std::net::Ipv4Addr;

use nube_proto::agent::v1::{
    DesiredListener, DesiredLoadBalancer, DesiredNetwork, DesiredSecurityGroup,
    DesiredSecurityRule, DesiredSubnet, DesiredTarget, ElasticAddress, NetworkPort,
    desired_security_rule::Peer,
};
use nube_types::net::address_v6;
use nube_types::{InstanceId, LoadBalancerId, SecurityGroupId, SecurityRuleId};

use super::network_id;
use crate::driver::PortSpec;

/// Who may talk with whom, as a group says.
pub fn rule(ingress: bool, protocol: &str, ports: (u32, u32), peer: Peer) -> DesiredSecurityRule {
    DesiredSecurityRule {
        rule_id: SecurityRuleId(1).to_string(),
        ingress,
        protocol: protocol.to_owned(),
        port_min: ports.0,
        port_max: ports.1,
        peer: Some(peer),
    }
}

pub fn range(text: &str) -> Peer {
    Peer::Cidr(text.to_owned())
}

pub fn members(group: u64) -> Peer {
    Peer::SecurityGroupId(SecurityGroupId(group).to_string())
}

pub fn group(id: u64, rules: Vec<DesiredSecurityRule>) -> DesiredSecurityGroup {
    DesiredSecurityGroup {
        security_group_id: SecurityGroupId(id).to_string(),
        rules,
    }
}

/// Out to everywhere, in from its own members.
pub fn default_group(id: u64) -> DesiredSecurityGroup {
    let all = (0, 0);
    group(
        id,
        vec![
            rule(false, "any", all, range("0.0.0.0/0")),
            rule(false, "any", all, range("::/0")),
            rule(true, "any", all, members(id)),
        ],
    )
}

/// A network with the default group 1 and no ports.
pub fn network(number: u32) -> DesiredNetwork {
    DesiredNetwork {
        network_id: network_id(number).to_string(),
        number,
        name: "lab".to_owned(),
        internet_gateway: true,
        mtu: 1450,
        subnets: vec![DesiredSubnet {
            cidr: "10.0.0.0/24".to_owned(),
            gateway: "10.0.0.1".to_owned(),
        }],
        security_groups: vec![default_group(1)],
        ..Default::default()
    }
}

pub fn instance(number: u32, last: u8) -> InstanceId {
    InstanceId(u64::from(number) << 16 | u64::from(last))
}

pub fn port(number: u32, last: u8) -> PortSpec {
    let address = Ipv4Addr::new(10, 0, 0, last);
    PortSpec {
        network: network_id(number),
        network_number: number,
        address,
        prefix_length: 24,
        gateway: Ipv4Addr::new(10, 0, 0, 1),
        mac: [2, 0, 0, 0, number as u8, last],
        mtu: 1450,
        address_v6: Some(address_v6(network_id(number), address)),
        network_name: "lab".to_owned(),
    }
}

pub fn wire_port(
    instance: InstanceId,
    port: &PortSpec,
    host: Ipv4Addr,
    groups: &[u64],
) -> NetworkPort {
    let mac: Vec<String> = port.mac.iter().map(|byte| format!("{byte:02x}")).collect();
    let groups = groups.iter().map(|id| SecurityGroupId(*id).to_string());
    NetworkPort {
        instance_id: instance.to_string(),
        name: format!("g{}", port.address.octets()[3]),
        address: port.address.to_string(),
        ipv6_address: port.address_v6.map(|a| a.to_string()).unwrap_or_default(),
        mac_address: mac.join(":"),
        host_address: host.to_string(),
        placement_epoch: 1,
        local: false,
        security_group_ids: groups.collect(),
    }
}

/// An elastic address of a guest, announced by the host with this address.
pub fn elastic(public: Ipv4Addr, host: Ipv4Addr, instance: InstanceId) -> ElasticAddress {
    ElasticAddress {
        address: format!("{public}@{host}"),
        instance_id: instance.to_string(),
        ..Default::default()
    }
}

/// A balancer at 10.0.0.200: TCP 80 to port 8080 of its targets.
pub fn balancer(targets: &[(InstanceId, bool)]) -> DesiredLoadBalancer {
    let target = |(instance, takes_new): &(InstanceId, bool)| DesiredTarget {
        instance_id: instance.to_string(),
        takes_new: *takes_new,
    };
    DesiredLoadBalancer {
        load_balancer_id: LoadBalancerId(1).to_string(),
        address: "10.0.0.200".to_owned(),
        listeners: vec![DesiredListener {
            protocol: "tcp".to_owned(),
            port: 80,
            target_port: 8080,
        }],
        targets: targets.iter().map(target).collect(),
        health_port: 8080,
        health_interval_ms: 200,
        health_threshold: 2,
    }
}
