//! A map of networks as a tree of lines.

use std::fmt::Write;

use nube_proto::v1::{MappedLoadBalancer, MappedNetwork, MappedPort, NetworkMap};

use crate::output::text::escape;

/// The tree, each line ended.
pub fn text(map: &NetworkMap) -> String {
    let mut out = String::from("internet\n");
    for network in &map.networks {
        one(&mut out, network);
    }
    out
}

fn one(out: &mut String, mapped: &MappedNetwork) {
    let network = mapped.network.clone().unwrap_or_default();
    let link = match network.internet_gateway {
        true => "├── gateway ── network",
        false => "│   (no gateway) network",
    };
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{link} {}", escape(&network.name));
    for subnet in &network.subnets {
        let (name, cidr) = (escape(&subnet.name), escape(&subnet.cidr));
        let _ = writeln!(out, "│   ├── subnet {name} {cidr}");
        let inside = |port: &&MappedPort| port.subnet_id == subnet.id;
        for port in mapped.ports.iter().filter(inside) {
            let _ = writeln!(out, "│   │   ├── {}", port_line(port));
        }
    }
    for balancer in &mapped.load_balancers {
        balancer_lines(out, mapped, balancer);
    }
}

fn port_line(port: &MappedPort) -> String {
    let mut line = format!("{} {} {}", port.instance_name, port.private_ip, port.state);
    if !port.host.is_empty() {
        let _ = write!(line, " on {}", port.host);
    }
    if !port.elastic_address.is_empty() {
        let _ = write!(line, " ═ {}", port.elastic_address);
    }
    escape(&line)
}

fn balancer_lines(out: &mut String, mapped: &MappedNetwork, balancer: &MappedLoadBalancer) {
    let _ = writeln!(out, "│   ├── load balancer {}", escape(&balancer.name));
    for listener in &balancer.listeners {
        let _ = writeln!(out, "│   │   ├── {}", escape(listener));
    }
    for target in &balancer.targets {
        let mut ports = mapped.ports.iter();
        let known = ports.find(|port| port.instance_id == *target);
        let name = known.map_or(target, |port| &port.instance_name);
        let _ = writeln!(out, "│   │   └─► {}", escape(name));
    }
}
