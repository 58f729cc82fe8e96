//! The walk from stage to stage, up to the first no.

use std::net::{IpAddr, Ipv4Addr};

use nube_proto::v1;
use nube_state::security_group::Direction;
use nube_state::{
    Address, AddressTarget, Instance, InstanceState, LoadBalancer, Network, State, load_balancer,
    security_group,
};
use nube_types::NetworkId;

use super::end::{From, To, own_address};
use super::rules::{self, Other};
use super::{Packet, convert};

/// A stage said no: the walk is over.
pub(super) struct Blocked;

type Step<T = ()> = Result<T, Blocked>;

/// What was met so far.
pub(super) struct Walk<'a> {
    state: &'a State,
    packet: Packet,
    steps: Vec<v1::PathStep>,
    /// After a no: what to do so that it passes.
    advice: Option<String>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(state: &'a State, packet: Packet) -> Self {
        Self {
            state,
            packet,
            steps: Vec::new(),
            advice: None,
        }
    }

    pub(super) fn into_parts(self) -> (Vec<v1::PathStep>, Option<String>) {
        (self.steps, self.advice)
    }

    /// All of it.
    pub(super) fn go(&mut self, from: From<'_>, to: To<'_>) -> Step {
        match from {
            From::Port(instance) => self.guest_sends(instance, to),
            From::Internet(address) => self.internet_sends(address, to),
        }
    }

    fn yes(&mut self, stage: &str, detail: impl Into<String>) {
        self.steps.push(v1::PathStep {
            stage: stage.to_owned(),
            passes: true,
            detail: detail.into(),
        });
    }

    fn no<T>(
        &mut self,
        stage: &str,
        detail: impl Into<String>,
        advice: impl Into<String>,
    ) -> Step<T> {
        self.steps.push(v1::PathStep {
            stage: stage.to_owned(),
            passes: false,
            detail: detail.into(),
        });
        self.advice = Some(advice.into());
        Err(Blocked)
    }

    fn guest_sends(&mut self, from: &Instance, to: To<'_>) -> Step {
        self.source(from)?;
        match to {
            To::Port(to, address) => self.guest_receives(from, to, address),
            To::Balancer(balancer) => {
                let (target, packet) = self.balancer(balancer)?;
                let target = self.target(target)?;
                let own = own_address(target).into();
                let other = Other::port(self.state, target, own);
                self.egress(from, packet, &other)?;
                self.route(from, target)
            }
            To::Elastic(held) => {
                let address = Ipv4Addr::from_bits(held.address);
                let leaves = self.leave(from, Some(address))?;
                self.arrive(held, leaves)
            }
            To::Internet(address) => self.leave(from, address).map(drop),
            // From inside an instance is named by its own address.
            To::Outside(to, _) => self.guest_receives(from, to, own_address(to).into()),
            To::Service(address) => {
                let detail = format!("{address} is answered by {}'s own host", from.name);
                self.yes("route", detail);
                Ok(())
            }
            To::Nobody(address) => {
                let detail = format!("no instance of the network has {address}");
                self.no("route", detail, "nobody has that address")
            }
        }
    }

    fn guest_receives(&mut self, from: &Instance, to: &Instance, address: IpAddr) -> Step {
        let near = from.network == to.network;
        let own = match address {
            IpAddr::V4(_) => IpAddr::from(own_address(from)),
            IpAddr::V6(_) => nube_types::net::address_v6(from.network, own_address(from)).into(),
        };
        let (source, other) = match near {
            true => (
                Other::port(self.state, from, own),
                Other::port(self.state, to, address),
            ),
            false => (Other::internet(Some(own)), Other::internet(Some(address))),
        };
        self.egress(from, self.packet, &other)?;
        self.route(from, to)?;
        self.ingress(to, &source)?;
        self.alive(to)
    }

    fn internet_sends(&mut self, source: Option<Ipv4Addr>, to: To<'_>) -> Step {
        const STAGE: &str = "elastic address";
        let from = source.map_or("any address".to_owned(), |address| address.to_string());
        self.yes("source", format!("{from} of the internet"));
        match to {
            To::Elastic(held) | To::Outside(_, Some(held)) => self.arrive(held, source),
            To::Outside(to, None) | To::Port(to, _) => {
                let name = &to.name;
                let detail = format!("{name} has none: nothing from outside finds it");
                let advice = format!(
                    "`cloudctl address allocate`, then `cloudctl address associate ADDRESS {name}`"
                );
                self.no(STAGE, detail, advice)
            }
            To::Balancer(balancer) => {
                let detail = format!("{} has none", balancer.name);
                self.no(STAGE, detail, "make it with an elastic address")
            }
            To::Internet(_) => Ok(()),
            To::Service(address) | To::Nobody(address) => {
                let detail = format!("{address} is no elastic address of this project");
                self.no(STAGE, detail, "nobody here has that address")
            }
        }
    }

    fn source(&mut self, from: &Instance) -> Step {
        const STAGE: &str = "source";
        let detail = format!(
            "{} ({}) {} in network {} is {}",
            from.name,
            from.id,
            own_address(from),
            self.network_name(from.network),
            from.state.word()
        );
        match from.state {
            InstanceState::Running => {
                self.yes(STAGE, detail);
                Ok(())
            }
            _ => self.no(STAGE, detail, format!("{} does not run", from.name)),
        }
    }

    fn egress(&mut self, from: &Instance, packet: Packet, other: &Other) -> Step {
        self.rules(from, Direction::Egress, packet, other)
    }

    fn ingress(&mut self, to: &Instance, source: &Other) -> Step {
        self.rules(to, Direction::Ingress, self.packet, source)
    }

    fn rules(&mut self, of: &Instance, way: Direction, packet: Packet, other: &Other) -> Step {
        let groups = security_group::of_instance(self.state, of);
        let judged = rules::judge(&groups, way, packet, other);
        let (word, side, peer) = match way {
            Direction::Ingress => ("ingress", "--ingress", "--from"),
            Direction::Egress => ("egress", "--egress", "--to"),
        };
        let stage = format!("{word} rules of {}", of.name);
        if judged.passes {
            self.yes(&stage, judged.detail);
            return Ok(());
        }
        let group = groups.first().map_or("GROUP", |group| group.name.as_str());
        let protocol = convert::protocol_word(packet.protocol);
        let port = match packet.port {
            0 => String::new(),
            port => format!(" --port {port}"),
        };
        let range = other
            .address
            .map_or("0.0.0.0/0".to_owned(), |address| address.to_string());
        let advice = format!(
            "`cloudctl security-group add-rule {group} {side} --protocol {protocol}{port} \
             {peer} {range}` would let it pass"
        );
        self.no(&stage, judged.detail, advice)
    }

    /// Between two guests: one network, and a way between their hosts.
    fn route(&mut self, from: &Instance, to: &Instance) -> Step {
        const STAGE: &str = "route";
        let (here, there) = (
            self.network_name(from.network),
            self.network_name(to.network),
        );
        if from.network != to.network {
            let detail = format!(
                "{} is in network {here}, {} in {there}: networks have no route to each other",
                from.name, to.name
            );
            let advice = "use an elastic address, or put both into one network";
            return self.no(STAGE, detail, advice);
        }
        if from.node == to.node {
            let detail = format!("both are in network {here} on one host");
            self.yes(STAGE, detail);
            return Ok(());
        }
        let overlay = |instance: &Instance| {
            let node = self.state.nodes.get(&instance.node);
            node.and_then(|node| node.facts.overlay_address).is_some()
        };
        let lacking = [from, to].into_iter().find(|one| !overlay(one));
        if let Some(lacking) = lacking {
            let detail = format!("the host of {} has no overlay address", lacking.name);
            let advice = "an operator has to give every host an overlay address";
            return self.no(STAGE, detail, advice);
        }
        let detail = format!("both are in network {here}, on two hosts, by VXLAN");
        self.yes(STAGE, detail);
        Ok(())
    }

    /// Out of a network; answers the address that others see.
    fn leave(&mut self, from: &Instance, to: Option<Ipv4Addr>) -> Step<Option<Ipv4Addr>> {
        let other = Other::internet(to.map(IpAddr::from));
        self.egress(from, self.packet, &other)?;
        self.gateway(from.network)?;
        let elastic = convert::elastic_of(self.state, from.id);
        let detail = match elastic {
            Some(address) => format!("{} leaves as {address}", from.name),
            None => format!("{} has none and leaves as its host", from.name),
        };
        self.yes("elastic address", detail);
        Ok(elastic)
    }

    fn gateway(&mut self, network: NetworkId) -> Step {
        const STAGE: &str = "internet gateway";
        let name = self.network_name(network);
        let isolated = self.network(network).is_none_or(|network| network.isolated);
        if isolated {
            let advice = format!("`cloudctl network attach-gateway {name}`");
            return self.no(STAGE, format!("network {name} has none"), advice);
        }
        self.yes(STAGE, format!("network {name} has one"));
        Ok(())
    }

    /// In by an elastic address.
    fn arrive(&mut self, held: &Address, source: Option<Ipv4Addr>) -> Step {
        const STAGE: &str = "elastic address";
        let address = Ipv4Addr::from_bits(held.address);
        match held.target {
            None => {
                let detail = format!("{address} ({}) points at nothing", held.name);
                let advice = format!("`cloudctl address associate {} INSTANCE`", held.name);
                self.no(STAGE, detail, advice)
            }
            Some(AddressTarget::Instance(id)) => {
                let to = self.target(id)?;
                self.yes(STAGE, format!("{address} points at {}", to.name));
                self.gateway(to.network)?;
                self.ingress(to, &Other::internet(source.map(IpAddr::from)))?;
                self.alive(to)
            }
            Some(AddressTarget::LoadBalancer(id)) => {
                let Some(balancer) = self.state.load_balancers.get(&id) else {
                    return self.no(STAGE, format!("{id} is gone"), "it points at nothing");
                };
                let name = &balancer.name;
                self.yes(STAGE, format!("{address} points at load balancer {name}"));
                self.gateway(balancer.network)?;
                self.balancer(balancer).map(drop)
            }
        }
    }

    /// The target that a new connection may get, and the packet that it sees.
    /// Targets let what a load balancer sends pass, whatever their rules.
    fn balancer(&mut self, balancer: &LoadBalancer) -> Step<(nube_types::InstanceId, Packet)> {
        const STAGE: &str = "load balancer";
        let (name, packet) = (&balancer.name, self.packet);
        let listens = |one: &&nube_state::load_balancer::Listener| {
            (one.protocol, one.port) == (packet.protocol, packet.port)
        };
        let Some(listener) = balancer.listeners.iter().find(listens) else {
            let known = balancer.listeners.iter().map(|one| {
                let word = convert::protocol_word(one.protocol);
                format!("{word} {}", one.port)
            });
            let known: Vec<String> = known.collect();
            let detail = format!("{name} listens on {} only", known.join(", "));
            let advice = format!("nothing listens for {} there", packet.words());
            return self.no(STAGE, detail, advice);
        };
        let targets = load_balancer::targets(self.state, balancer);
        let Some(first) = targets.iter().find(|target| target.takes_new) else {
            let detail = format!(
                "{name} has no target that takes new connections (of {})",
                targets.len()
            );
            let advice = format!("`cloudctl load-balancer show {name}` says why");
            return self.no(STAGE, detail, advice);
        };
        let taking = targets.iter().filter(|target| target.takes_new).count();
        let detail = format!(
            "{name} spreads it over {taking} of {} targets, port {}; their rules let it pass",
            targets.len(),
            listener.target_port
        );
        self.yes(STAGE, detail);
        Ok((first.instance, packet.to_port(listener.target_port)))
    }

    fn alive(&mut self, to: &Instance) -> Step {
        const STAGE: &str = "state";
        let (name, word) = (&to.name, to.state.word());
        if to.state != InstanceState::Running {
            let advice = format!("`cloudctl start {name}`");
            return self.no(STAGE, format!("{name} is {word}"), advice);
        }
        let node = self.state.nodes.get(&to.node);
        if !node.is_some_and(|node| node.reachable) {
            let detail = format!("{name} was {word}, and its host is silent");
            return self.no(STAGE, detail, "nobody can tell whether it still runs");
        }
        self.yes(STAGE, format!("{name} is {word}"));
        Ok(())
    }

    fn target(&mut self, id: nube_types::InstanceId) -> Step<&'a Instance> {
        match self.state.instances.get(&id) {
            Some(instance) => Ok(instance),
            None => self.no(
                "state",
                format!("{id} is gone"),
                "it does not exist any more",
            ),
        }
    }

    fn network(&self, id: NetworkId) -> Option<&'a Network> {
        self.state.networks.get(&id)
    }

    fn network_name(&self, id: NetworkId) -> &'a str {
        self.network(id).map_or("?", Network::name)
    }
}
