//! Subnets: further ranges of networks.

use std::sync::Arc;

use nube_proto::v1;
use nube_proto::v1::subnet_service_server::SubnetService;
use nube_state::command::CreateSubnet;
use nube_state::{Command, Network, Outcome, State, network};
use nube_types::SubnetId;
use nube_types::net::Ipv4Prefix;
use tonic::{Request, Response, Status};

use super::mutation::{self, Mutation};
use super::{convert, field, resolve, status};
use crate::cell::Cell;

/// Handlers.
pub struct Service(pub Arc<Cell>);

fn of_network(state: &State, network: &Network) -> Vec<v1::Subnet> {
    let subnets = network::subnets(state, network.id);
    let shown = subnets.iter().map(|one| convert::subnet(network.id, one));
    shown.collect()
}

#[tonic::async_trait]
impl SubnetService for Service {
    async fn create_subnet(
        &self,
        request: Request<v1::CreateSubnetRequest>,
    ) -> Result<Response<v1::Subnet>, Status> {
        let (caller, mut message) = mutation::take(request)?;
        let request_id = std::mem::take(&mut message.request_id);
        let name = field::name("name", &message.name)?;
        let range: Ipv4Prefix = field::prefix("cidr", &message.cidr)?;
        let state = self.0.read().await?;
        let mutation = Mutation::begin(caller, &request_id, &message)?;
        let project = mutation.request.project;
        let outcome = match mutation.recall(&state)? {
            Some(outcome) => outcome,
            None => {
                let command = Command::CreateSubnet(CreateSubnet {
                    project,
                    network: resolve::network(&state, project, &message.network)?.id,
                    id: SubnetId(rand::random()),
                    name,
                    range,
                });
                mutation.commit(&self.0, command).await?.1
            }
        };
        let Outcome::Subnet(id) = outcome else {
            return Err(status::fault("making a subnet", &format!("{outcome:?}")));
        };
        let (network, made) = resolve::subnet(&self.0.views.now(), project, "", &id.to_string())?;
        Ok(Response::new(convert::subnet(network, &made)))
    }

    async fn get_subnet(
        &self,
        request: Request<v1::GetSubnetRequest>,
    ) -> Result<Response<v1::Subnet>, Status> {
        let (caller, message) = mutation::take(request)?;
        let state = self.0.read().await?;
        let (network, found) =
            resolve::subnet(&state, caller.project, &message.network, &message.subnet)?;
        Ok(Response::new(convert::subnet(network, &found)))
    }

    async fn list_subnets(
        &self,
        request: Request<v1::ListSubnetsRequest>,
    ) -> Result<Response<v1::ListSubnetsResponse>, Status> {
        let (caller, message) = mutation::take(request)?;
        let state = self.0.read().await?;
        let subnets = match message.network.as_str() {
            "" => network::of_project(&state, caller.project)
                .flat_map(|network| of_network(&state, network))
                .collect(),
            named => of_network(&state, resolve::network(&state, caller.project, named)?),
        };
        Ok(Response::new(v1::ListSubnetsResponse {
            subnets,
            revision: state.index,
        }))
    }

    async fn delete_subnet(
        &self,
        request: Request<v1::DeleteSubnetRequest>,
    ) -> Result<Response<v1::DeleteSubnetResponse>, Status> {
        let (caller, mut message) = mutation::take(request)?;
        let request_id = std::mem::take(&mut message.request_id);
        let state = self.0.read().await?;
        let mutation = Mutation::begin(caller, &request_id, &message)?;
        if mutation.recall(&state)?.is_none() {
            let project = mutation.request.project;
            let (_, found) = resolve::subnet(&state, project, &message.network, &message.subnet)?;
            let command = Command::DeleteSubnet(project, found.id);
            mutation.commit(&self.0, command).await?;
        }
        Ok(Response::new(v1::DeleteSubnetResponse {}))
    }
}
