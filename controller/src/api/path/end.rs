//! The two ends of a path, as they were named, found on a view.

use std::net::{IpAddr, Ipv4Addr};

use nube_state::{
    Address, Instance, InstanceState, LoadBalancer, Network, State, address, load_balancer, network,
};
use nube_types::{Name, ProjectId, net};
use tonic::Status;

use crate::api::{resolve, status};

const INTERNET: &str = "internet";
const RULE: &str = "an instance (name or id), an address, or `internet`";

/// Where a packet begins.
#[derive(Debug, Clone, Copy)]
pub(super) enum From<'a> {
    Port(&'a Instance),
    /// Absent: anybody.
    Internet(Option<Ipv4Addr>),
}

/// Where it shall go.
#[derive(Debug, Clone, Copy)]
pub(super) enum To<'a> {
    /// A guest's own address, of either family.
    Port(&'a Instance, IpAddr),
    /// An instance, from outside: by its elastic address, if it has one.
    Outside(&'a Instance, Option<&'a Address>),
    /// The load balancer's address in its network.
    Balancer(&'a LoadBalancer),
    Elastic(&'a Address),
    /// Absent: any address there.
    Internet(Option<Ipv4Addr>),
    /// The hosts answer it themselves.
    Service(IpAddr),
    /// In the network's ranges, and nobody's; or of no network.
    Nobody(IpAddr),
}

/// An instance's address in its network.
pub(super) fn own_address(instance: &Instance) -> Ipv4Addr {
    Ipv4Addr::from_bits(instance.address)
}

fn own_address_v6(instance: &Instance) -> IpAddr {
    net::address_v6(instance.network, own_address(instance)).into()
}

/// The project's living instances that have an address.
fn holders(state: &State, project: ProjectId, address: IpAddr) -> Vec<&Instance> {
    let all = state.instances_of(project, None);
    all.filter(|one| one.state != InstanceState::Deleted)
        .filter(|one| match address {
            IpAddr::V4(address) => own_address(one) == address,
            IpAddr::V6(_) => own_address_v6(one) == address,
        })
        .collect()
}

fn is_public(address: Ipv4Addr) -> bool {
    !(address.is_private() || address.is_link_local() || net::TRANSIT.has(address))
}

fn instance<'a>(
    state: &'a State,
    project: ProjectId,
    field: &str,
    reference: &str,
) -> Result<&'a Instance, Status> {
    let is_id = reference.starts_with(nube_types::InstanceId::PREFIX);
    if !is_id && Name::new(reference).is_err() {
        return Err(status::invalid(field, RULE));
    }
    resolve::instance(state, project, reference)
}

impl<'a> From<'a> {
    pub(super) fn read(
        state: &'a State,
        project: ProjectId,
        reference: &str,
    ) -> Result<Self, Status> {
        const FIELD: &str = "from";
        if reference == INTERNET {
            return Ok(Self::Internet(None));
        }
        let Ok(address) = reference.parse::<IpAddr>() else {
            return instance(state, project, FIELD, reference).map(Self::Port);
        };
        match (holders(state, project, address).as_slice(), address) {
            ([one], _) => Ok(Self::Port(one)),
            ([], IpAddr::V4(address)) if is_public(address) => Ok(Self::Internet(Some(address))),
            ([], _) => Err(status::not_found("instance", reference)),
            (several, _) => {
                let rule = format!("{} instances have it: name one", several.len());
                Err(status::invalid(FIELD, rule))
            }
        }
    }

    pub(super) fn words(self) -> String {
        match self {
            Self::Port(instance) => instance.name.to_string(),
            Self::Internet(None) => "the internet".to_owned(),
            Self::Internet(Some(address)) => address.to_string(),
        }
    }
}

impl<'a> To<'a> {
    pub(super) fn read(
        state: &'a State,
        project: ProjectId,
        from: From<'a>,
        reference: &str,
    ) -> Result<Self, Status> {
        const FIELD: &str = "to";
        let address = reference.parse::<IpAddr>();
        match (from, address) {
            (From::Internet(_), _) if reference == INTERNET => {
                Err(status::invalid(FIELD, "`from` is the internet already"))
            }
            _ if reference == INTERNET => Ok(Self::Internet(None)),
            (From::Port(from), Ok(address)) => Ok(Self::from_port(state, from, address)),
            (From::Internet(_), Ok(address)) => Ok(Self::from_outside(state, project, address)),
            (From::Port(from), Err(_)) => {
                let to = instance(state, project, FIELD, reference)?;
                if to.id == from.id {
                    return Err(status::invalid(FIELD, "the same instance as `from`"));
                }
                Ok(Self::Port(to, own_address(to).into()))
            }
            (From::Internet(_), Err(_)) => {
                let to = instance(state, project, FIELD, reference)?;
                Ok(Self::Outside(to, address::of_instance(state, to.id)))
            }
        }
    }

    /// What an address means inside of a guest's network.
    fn from_port(state: &'a State, from: &Instance, address: IpAddr) -> Self {
        let Some(place) = state.networks.get(&from.network) else {
            return Self::Nobody(address);
        };
        let own = network::instances(state, place.id).find(|one| match address {
            IpAddr::V4(address) => own_address(one) == address,
            IpAddr::V6(_) => own_address_v6(one) == address,
        });
        if let Some(own) = own {
            return Self::Port(own, address);
        }
        let IpAddr::V4(v4) = address else {
            let service = address == IpAddr::V6(net::METADATA_V6);
            return match service {
                true => Self::Service(address),
                false => Self::Nobody(address),
            };
        };
        let mut balancers = load_balancer::of_network(state, place.id);
        if let Some(own) = balancers.find(|one| one.address == v4.to_bits()) {
            return Self::Balancer(own);
        }
        match v4 {
            net::METADATA | net::RESOLVER => Self::Service(address),
            _ if is_inside(state, place, v4) => Self::Nobody(address),
            _ if v4.is_link_local() || net::TRANSIT.has(v4) => Self::Nobody(address),
            _ => Self::elastic(state, place.project, v4)
                .map_or(Self::Internet(Some(v4)), Self::Elastic),
        }
    }

    fn from_outside(state: &'a State, project: ProjectId, address: IpAddr) -> Self {
        let IpAddr::V4(v4) = address else {
            return Self::Nobody(address);
        };
        match (
            Self::elastic(state, project, v4),
            holders(state, project, address).first(),
        ) {
            (Some(elastic), _) => Self::Elastic(elastic),
            (None, Some(instance)) => {
                Self::Outside(instance, address::of_instance(state, instance.id))
            }
            (None, None) => Self::Nobody(address),
        }
    }

    /// Another project's addresses are the internet like any other.
    fn elastic(state: &'a State, project: ProjectId, address: Ipv4Addr) -> Option<&'a Address> {
        address::by_number(state, address.to_bits()).filter(|held| held.project == project)
    }

    pub(super) fn words(self) -> String {
        match self {
            Self::Port(instance, address) => format!("{} ({address})", instance.name),
            Self::Outside(instance, _) => instance.name.to_string(),
            Self::Balancer(balancer) => format!("load balancer {}", balancer.name),
            Self::Elastic(held) => Ipv4Addr::from_bits(held.address).to_string(),
            Self::Internet(None) => "the internet".to_owned(),
            Self::Internet(Some(address)) => address.to_string(),
            Self::Service(address) | Self::Nobody(address) => address.to_string(),
        }
    }
}

fn is_inside(state: &State, place: &Network, address: Ipv4Addr) -> bool {
    let subnets = network::subnets(state, place.id);
    subnets.iter().any(|subnet| subnet.range.has(address))
}
