//! Networks: made, given a way to the internet, drawn, explained and ended.

mod map;

use std::sync::Arc;

use nube_proto::v1;
use nube_proto::v1::network_service_server::NetworkService;
use nube_state::command::CreateNetwork;
use nube_state::{Command, Outcome, State, network};
use nube_types::NetworkId;
use nube_types::net::Ipv4Prefix;
use rand::random;
use tonic::{Request, Response, Status};

use super::mutation::{self, Mutation};
use super::{convert, field, page, path, resolve, status};
use crate::cell::Cell;

/// Handlers.
pub struct Service(pub Arc<Cell>);

/// Of a network's first subnet, when nobody says.
const CIDR: &str = "10.0.0.0/16";

fn show(state: &State, id: NetworkId) -> Result<v1::Network, Status> {
    let network = state.networks.get(&id);
    let network = network.ok_or_else(|| status::not_found("network", &id.to_string()))?;
    Ok(convert::network(state, network))
}

impl Service {
    fn made(&self, outcome: &Outcome) -> Result<Response<v1::Network>, Status> {
        match outcome {
            Outcome::Network(id) => show(&self.0.views.now(), *id).map(Response::new),
            other => Err(status::fault("changing a network", &format!("{other:?}"))),
        }
    }
}

#[tonic::async_trait]
impl NetworkService for Service {
    async fn create_network(
        &self,
        request: Request<v1::CreateNetworkRequest>,
    ) -> Result<Response<v1::Network>, Status> {
        let (caller, mut message) = mutation::take(request)?;
        let request_id = std::mem::take(&mut message.request_id);
        let name = field::name("name", &message.name)?;
        let cidr = match message.cidr.as_str() {
            "" => CIDR,
            cidr => cidr,
        };
        let range: Ipv4Prefix = field::prefix("cidr", cidr)?;
        let mutation = Mutation::begin(caller, &request_id, &message)?;
        let command = Command::CreateNetwork(CreateNetwork {
            project: mutation.request.project,
            id: NetworkId(random()),
            name,
            range,
            isolated: message.isolated,
        });
        let (_, outcome) = mutation.commit(&self.0, command).await?;
        self.made(&outcome)
    }

    async fn get_network(
        &self,
        request: Request<v1::GetNetworkRequest>,
    ) -> Result<Response<v1::Network>, Status> {
        let (caller, message) = mutation::take(request)?;
        let state = self.0.read().await?;
        let network = resolve::named_network(&state, caller.project, &message.network)?;
        Ok(Response::new(convert::network(&state, network)))
    }

    async fn list_networks(
        &self,
        request: Request<v1::ListNetworksRequest>,
    ) -> Result<Response<v1::ListNetworksResponse>, Status> {
        let (caller, message) = mutation::take(request)?;
        let state = self.0.read().await?;
        let networks = network::of_project(&state, caller.project);
        let (networks, next_page_token) =
            page::cut(networks, |n| n.id, message.page_size, &message.page_token)?;
        let networks = networks.into_iter().map(|n| convert::network(&state, n));
        Ok(Response::new(v1::ListNetworksResponse {
            networks: networks.collect(),
            next_page_token,
            revision: state.index,
        }))
    }

    async fn set_internet_gateway(
        &self,
        request: Request<v1::SetInternetGatewayRequest>,
    ) -> Result<Response<v1::Network>, Status> {
        let (caller, mut message) = mutation::take(request)?;
        let request_id = std::mem::take(&mut message.request_id);
        let state = self.0.read().await?;
        let mutation = Mutation::begin(caller, &request_id, &message)?;
        let outcome = match mutation.recall(&state)? {
            Some(outcome) => outcome,
            None => {
                let project = mutation.request.project;
                let id = resolve::named_network(&state, project, &message.network)?.id;
                let command = Command::SetInternetGateway(project, id, message.attached);
                mutation.commit(&self.0, command).await?.1
            }
        };
        self.made(&outcome)
    }

    async fn delete_network(
        &self,
        request: Request<v1::DeleteNetworkRequest>,
    ) -> Result<Response<v1::DeleteNetworkResponse>, Status> {
        let (caller, mut message) = mutation::take(request)?;
        let request_id = std::mem::take(&mut message.request_id);
        let state = self.0.read().await?;
        let mutation = Mutation::begin(caller, &request_id, &message)?;
        if mutation.recall(&state)?.is_none() {
            let project = mutation.request.project;
            let id = resolve::named_network(&state, project, &message.network)?.id;
            let command = Command::DeleteNetwork(project, id);
            mutation.commit(&self.0, command).await?;
        }
        Ok(Response::new(v1::DeleteNetworkResponse {}))
    }

    async fn get_network_map(
        &self,
        request: Request<v1::GetNetworkMapRequest>,
    ) -> Result<Response<v1::NetworkMap>, Status> {
        let (caller, message) = mutation::take(request)?;
        let state = self.0.read().await?;
        let networks = match message.network.as_str() {
            "" => network::of_project(&state, caller.project).collect(),
            named => vec![resolve::named_network(&state, caller.project, named)?],
        };
        let map = map::draw(&state, &networks, caller.sees_hosts());
        Ok(Response::new(map))
    }

    async fn explain_path(
        &self,
        request: Request<v1::ExplainPathRequest>,
    ) -> Result<Response<v1::PathExplanation>, Status> {
        let (caller, message) = mutation::take(request)?;
        let state = self.0.read().await?;
        let explained = path::explain(&state, caller.project, &message)?;
        Ok(Response::new(explained))
    }
}
