//! Elastic addresses: held, pointed, given back; and the ranges they come from.

use std::sync::Arc;

use nube_proto::v1;
use nube_proto::v1::address_service_server::AddressService;
use nube_state::command::{AllocateAddress, AssociateAddress};
use nube_state::{Command, Outcome, State, address};
use nube_types::AddressId;
use nube_types::net::Ipv4Prefix;
use tonic::{Request, Response, Status};

use super::mutation::{self, Mutation};
use super::{convert, field, page, resolve, status};
use crate::cell::Cell;

/// Handlers.
pub struct Service(pub Arc<Cell>);

const FIELD: &str = "address";

fn show(state: &State, id: AddressId) -> Result<v1::Address, Status> {
    let held = state.addresses.get(&id);
    let held = held.ok_or_else(|| status::not_found("address", &id.to_string()))?;
    Ok(convert::address(state, held))
}

fn pool(state: &State, range: Ipv4Prefix) -> Result<v1::AddressPool, Status> {
    let found = state.address_pools.get(&range.address().to_bits());
    let found = found.filter(|pool| pool.range == range);
    let found = found.ok_or_else(|| status::not_found("address pool", &range.to_string()))?;
    Ok(convert::address_pool(state, found))
}

impl Service {
    fn made(&self, outcome: &Outcome) -> Result<Response<v1::Address>, Status> {
        match outcome {
            Outcome::Address(id) => show(&self.0.views.now(), *id).map(Response::new),
            other => Err(status::fault("changing an address", &format!("{other:?}"))),
        }
    }
}

#[tonic::async_trait]
impl AddressService for Service {
    async fn allocate_address(
        &self,
        request: Request<v1::AllocateAddressRequest>,
    ) -> Result<Response<v1::Address>, Status> {
        let (caller, mut message) = mutation::take(request)?;
        let request_id = std::mem::take(&mut message.request_id);
        let name = match message.name.as_str() {
            "" => field::name("name", &format!("ip-{:08x}", rand::random::<u32>()))?,
            name => field::name("name", name)?,
        };
        let mutation = Mutation::begin(caller, &request_id, &message)?;
        let command = Command::AllocateAddress(AllocateAddress {
            project: mutation.request.project,
            id: AddressId(rand::random()),
            name,
        });
        let (_, outcome) = mutation.commit(&self.0, command).await?;
        self.made(&outcome)
    }

    async fn get_address(
        &self,
        request: Request<v1::GetAddressRequest>,
    ) -> Result<Response<v1::Address>, Status> {
        let (caller, message) = mutation::take(request)?;
        let state = self.0.read().await?;
        let held = resolve::address(&state, caller.project, FIELD, &message.address)?;
        Ok(Response::new(convert::address(&state, held)))
    }

    async fn list_addresses(
        &self,
        request: Request<v1::ListAddressesRequest>,
    ) -> Result<Response<v1::ListAddressesResponse>, Status> {
        let (caller, message) = mutation::take(request)?;
        let state = self.0.read().await?;
        let held = address::of_project(&state, caller.project);
        let (page, next_page_token) =
            page::cut(held, |held| held.id, message.page_size, &message.page_token)?;
        let shown = page.into_iter().map(|held| convert::address(&state, held));
        Ok(Response::new(v1::ListAddressesResponse {
            addresses: shown.collect(),
            next_page_token,
            revision: state.index,
        }))
    }

    async fn associate_address(
        &self,
        request: Request<v1::AssociateAddressRequest>,
    ) -> Result<Response<v1::Address>, Status> {
        let (caller, mut message) = mutation::take(request)?;
        let request_id = std::mem::take(&mut message.request_id);
        let state = self.0.read().await?;
        let mutation = Mutation::begin(caller, &request_id, &message)?;
        let outcome = match mutation.recall(&state)? {
            Some(outcome) => outcome,
            None => {
                let project = mutation.request.project;
                let address = resolve::address(&state, project, FIELD, &message.address)?.id;
                let instance = resolve::instance(&state, project, &message.instance)?.id;
                let command = Command::AssociateAddress(AssociateAddress {
                    project,
                    address,
                    instance,
                    take: message.r#move,
                });
                mutation.commit(&self.0, command).await?.1
            }
        };
        self.made(&outcome)
    }

    async fn disassociate_address(
        &self,
        request: Request<v1::DisassociateAddressRequest>,
    ) -> Result<Response<v1::Address>, Status> {
        let (caller, mut message) = mutation::take(request)?;
        let request_id = std::mem::take(&mut message.request_id);
        let state = self.0.read().await?;
        let mutation = Mutation::begin(caller, &request_id, &message)?;
        let outcome = match mutation.recall(&state)? {
            Some(outcome) => outcome,
            None => {
                let project = mutation.request.project;
                let address = resolve::address(&state, project, FIELD, &message.address)?.id;
                let command = Command::DisassociateAddress(project, address);
                mutation.commit(&self.0, command).await?.1
            }
        };
        self.made(&outcome)
    }

    async fn release_address(
        &self,
        request: Request<v1::ReleaseAddressRequest>,
    ) -> Result<Response<v1::ReleaseAddressResponse>, Status> {
        let (caller, mut message) = mutation::take(request)?;
        let request_id = std::mem::take(&mut message.request_id);
        let state = self.0.read().await?;
        let mutation = Mutation::begin(caller, &request_id, &message)?;
        if mutation.recall(&state)?.is_none() {
            let project = mutation.request.project;
            let address = resolve::address(&state, project, FIELD, &message.address)?.id;
            let command = Command::ReleaseAddress(project, address);
            mutation.commit(&self.0, command).await?;
        }
        Ok(Response::new(v1::ReleaseAddressResponse {}))
    }

    async fn add_address_pool(
        &self,
        request: Request<v1::AddAddressPoolRequest>,
    ) -> Result<Response<v1::AddressPool>, Status> {
        let (caller, mut message) = mutation::take(request)?;
        let request_id = std::mem::take(&mut message.request_id);
        let range = field::prefix("cidr", &message.cidr)?;
        let mutation = Mutation::begin(caller, &request_id, &message)?;
        let command = Command::AddAddressPool(range);
        mutation.commit(&self.0, command).await?;
        pool(&self.0.views.now(), range).map(Response::new)
    }

    async fn list_address_pools(
        &self,
        request: Request<v1::ListAddressPoolsRequest>,
    ) -> Result<Response<v1::ListAddressPoolsResponse>, Status> {
        drop(request);
        let state = self.0.read().await?;
        let pools = state.address_pools.iter();
        Ok(Response::new(v1::ListAddressPoolsResponse {
            pools: pools
                .map(|one| convert::address_pool(&state, one))
                .collect(),
            revision: state.index,
        }))
    }

    async fn remove_address_pool(
        &self,
        request: Request<v1::RemoveAddressPoolRequest>,
    ) -> Result<Response<v1::RemoveAddressPoolResponse>, Status> {
        let (caller, mut message) = mutation::take(request)?;
        let request_id = std::mem::take(&mut message.request_id);
        let range = field::prefix("cidr", &message.cidr)?;
        let mutation = Mutation::begin(caller, &request_id, &message)?;
        let command = Command::RemoveAddressPool(range);
        mutation.commit(&self.0, command).await?;
        Ok(Response::new(v1::RemoveAddressPoolResponse {}))
    }
}
