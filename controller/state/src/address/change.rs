//! What holders do with elastic addresses. The hours of each are in the ledger from
//! the entry that allocates it to the one that releases it.

use std::net::Ipv4Addr;

use nube_billing::{EndReason, Subject, Transition, TransitionKind, UsageInterval};
use nube_types::{AddressId, InstanceId, LoadBalancerId, ProjectId};

use super::{Address, AddressTarget, RESOURCE, network_of, of_instance, of_project, pool};
use crate::command::{AllocateAddress, AssociateAddress};
use crate::instance::{DesiredState, Instance};
use crate::network;
use crate::outcome::{Kind, Outcome, Refusal};
use crate::state::State;
use crate::{project, traffic};

pub(crate) fn find_or_refuse(
    state: &State,
    project: ProjectId,
    id: AddressId,
) -> Result<Address, Refusal> {
    let address = state.addresses.get(&id);
    let own = address.filter(|address| address.project == project);
    own.cloned().ok_or_else(|| Refusal::NotFound {
        kind: Kind::Address,
        reference: id.to_string(),
    })
}

fn in_use(address: &Address, why: impl Into<String>) -> Refusal {
    Refusal::AddressInUse {
        address: Ipv4Addr::from(address.address).to_string(),
        why: why.into(),
    }
}

fn target_text(state: &State, target: AddressTarget) -> String {
    let holder = match target {
        AddressTarget::Instance(id) => network::Holder::Instance(id),
        AddressTarget::LoadBalancer(id) => network::Holder::LoadBalancer(id),
    };
    network::holder_text(state, holder)
}

/// Writes a changed address; the networks that it led to and leads to hear of it.
fn store(state: &mut State, mut address: Address) {
    address.revision = state.index;
    let before = state.addresses.get(&address.id).cloned();
    let targets = [before.as_ref().and_then(|b| b.target), address.target];
    if let Some(before) = &before {
        state.derived.network.forget_address(before);
    }
    state.derived.network.note_address(&address);
    for target in targets.into_iter().flatten() {
        if let Some(network) = network_of(state, target) {
            network::touch(state, network);
        }
    }
    state.addresses.put(address);
}

pub(crate) fn allocate(state: &mut State, command: &AllocateAddress) -> Result<Outcome, Refusal> {
    let project = command.project;
    project::find(state, project)?;
    if of_project(state, project).any(|address| address.name == command.name) {
        let (kind, name) = (Kind::Address, command.name.clone());
        return Err(Refusal::NameTaken { kind, name });
    }
    // An address runs once, under its own number.
    let subject = Subject::from(command.id);
    let number = InstanceId(command.id.0);
    let taken = state.addresses.get(&command.id).is_some()
        || state.instances.get(&number).is_some()
        || traffic::is_known(state, number)
        || state.usage.get(&(subject, 1)).is_some();
    if taken {
        return Err(Refusal::IdTaken(command.id.to_string()));
    }
    let count = of_project(state, project).count() as u64;
    project::check_one_more(state, project, "addresses", count, |quota| {
        quota.addresses_max()
    })?;
    let (base, number) = pool::next_free(state).ok_or(Refusal::NoElasticAddress)?;
    state.released.remove(&(network::PUBLIC, number));
    state.address_pools.update(&base, |pool| {
        pool.next_offset = (number - base).wrapping_add(1);
    });
    let address = Address {
        id: command.id,
        project,
        name: command.name.clone(),
        address: number,
        target: None,
        created_at: state.time,
        revision: state.index,
    };
    let (time, index) = (state.time, state.index);
    let interval = UsageInterval::open(subject, project, 1, RESOURCE, time, index);
    state.usage.put(interval);
    note(state, &address, TransitionKind::Started);
    store(state, address);
    Ok(Outcome::Address(command.id))
}

fn note(state: &mut State, address: &Address, kind: TransitionKind) {
    let transition = Transition {
        index: state.index,
        at: state.time,
        subject: address.id.into(),
        project: address.project,
        resource: RESOURCE.to_owned(),
        kind,
    };
    state.transitions.put(transition);
}

/// The instance, which must be able to have the address.
fn check_instance(state: &State, command: &AssociateAddress) -> Result<Instance, Refusal> {
    let instance = state.instances.get(&command.instance);
    let instance = instance
        .filter(|instance| instance.project == command.project)
        .filter(|instance| instance.desired != DesiredState::Deleted)
        .cloned()
        .ok_or_else(|| Refusal::NotFound {
            kind: Kind::Instance,
            reference: command.instance.to_string(),
        })?;
    let network = state.networks.get(&instance.network);
    if let Some(network) = network.filter(|network| network.isolated) {
        return Err(Refusal::WrongState {
            name: instance.name,
            state: format!(
                "in network `{}` without an internet gateway",
                network.name()
            ),
            advice: "attach one to the network first".to_owned(),
        });
    }
    let other = of_instance(state, instance.id).filter(|other| other.id != command.address);
    if let Some(other) = other {
        let why = format!(
            "points at instance `{}`, which can have one address; disassociate it first",
            instance.name
        );
        return Err(in_use(other, why));
    }
    Ok(instance)
}

pub(crate) fn associate(state: &mut State, command: &AssociateAddress) -> Result<Outcome, Refusal> {
    let mut address = find_or_refuse(state, command.project, command.address)?;
    let instance = check_instance(state, command)?;
    let wanted = AddressTarget::Instance(instance.id);
    match address.target {
        None => {}
        Some(target @ AddressTarget::LoadBalancer(_)) => {
            let why = format!("is what {} listens on", target_text(state, target));
            return Err(in_use(&address, why));
        }
        Some(target) if !command.take => {
            let why = format!("points at {} already", target_text(state, target));
            return Err(in_use(&address, why));
        }
        // Taken from where it is to where it is.
        Some(target) if target == wanted => return Ok(Outcome::Address(address.id)),
        Some(_) => {}
    }
    address.target = Some(wanted);
    store(state, address);
    Ok(Outcome::Address(command.address))
}

/// A load balancer begins to listen on an address that points at nothing.
pub(crate) fn listen(state: &mut State, mut address: Address, balancer: LoadBalancerId) {
    address.target = Some(AddressTarget::LoadBalancer(balancer));
    store(state, address);
}

/// Refuses an address that points at something.
pub(crate) fn must_be_free(state: &State, address: &Address) -> Result<(), Refusal> {
    match address.target {
        None => Ok(()),
        Some(target) => {
            let why = format!("points at {} already", target_text(state, target));
            Err(in_use(address, why))
        }
    }
}

pub(crate) fn disassociate(
    state: &mut State,
    project: ProjectId,
    id: AddressId,
) -> Result<Outcome, Refusal> {
    let mut address = find_or_refuse(state, project, id)?;
    match address.target {
        Some(target @ AddressTarget::LoadBalancer(_)) => {
            let text = target_text(state, target);
            let why = format!("is what {text} listens on; delete that first");
            return Err(in_use(&address, why));
        }
        None => {}
        Some(AddressTarget::Instance(_)) => {
            address.target = None;
            store(state, address);
        }
    }
    Ok(Outcome::Address(id))
}

/// What points at it points at nothing, for it goes.
pub(crate) fn forget_instance(state: &mut State, instance: InstanceId) {
    if let Some(mut address) = of_instance(state, instance).cloned() {
        address.target = None;
        store(state, address);
    }
}

pub(crate) fn forget_balancer(state: &mut State, balancer: LoadBalancerId) {
    if let Some(mut address) = super::of_load_balancer(state, balancer).cloned() {
        address.target = None;
        store(state, address);
    }
}

pub(crate) fn release(
    state: &mut State,
    project: ProjectId,
    id: AddressId,
) -> Result<Outcome, Refusal> {
    let address = find_or_refuse(state, project, id)?;
    if let Some(target) = address.target {
        let text = target_text(state, target);
        let why = format!("points at {text}; disassociate it first");
        return Err(in_use(&address, why));
    }
    let key = (Subject::from(id), 1);
    if let Some(mut interval) = state.usage.get(&key).cloned()
        && interval.close(state.time, state.index, EndReason::DeleteRequested)
    {
        state.usage.put(interval);
        note(state, &address, TransitionKind::DeleteRequested);
    }
    network::release(state, network::PUBLIC, address.address);
    state.derived.network.forget_address(&address);
    state.addresses.remove(&id);
    Ok(Outcome::Done)
}
