//! Instances: launch, the four wishes, lists, and following one.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use nube_proto::v1;
use nube_proto::v1::instance_service_server::InstanceService;
use nube_state::command::{ChangeInstance, Wish};
use nube_state::{Command, InstanceState, Outcome, State};
use nube_types::InstanceId;
use tonic::{Request, Response, Status, Streaming};

use super::mutation::{self, Mutation};
use super::{convert, launch, page, preview, resolve, serial, status, stream};
use crate::authorise::{self, guarded};
use crate::cell::Cell;

/// Handlers.
pub struct Service(pub Arc<Cell>);

type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Service {
    async fn change(
        &self,
        request: Request<v1::ChangeInstanceRequest>,
        wish: Wish,
        method: i32,
    ) -> Result<Response<v1::Instance>, Status> {
        let (caller, mut message) = mutation::take(request)?;
        let sees_hosts = caller.sees_hosts();
        let request_id = std::mem::take(&mut message.request_id);
        let state = self.0.read().await?;
        // The same message means four things: the method is a parameter too.
        let parameters = v1::ChangeInstanceRequest {
            request_id: method.to_string(),
            ..message
        };
        let mutation = Mutation::begin(caller, &request_id, &parameters)?;
        let project = mutation.request.project;
        // A repetition first: its name may mean nothing, or another one, by now.
        if let Some(Outcome::Instances(ids)) = mutation.recall(&state)? {
            let id = ids.first().copied().unwrap_or(InstanceId(0));
            return show(&state, id, sees_hosts).map(Response::new);
        }
        let instance = resolve::instance(&state, project, &parameters.instance)?.id;
        let command = ChangeInstance {
            project,
            instance,
            wish,
            force: parameters.force,
        };
        mutation
            .commit(&self.0, Command::ChangeInstance(command))
            .await?;
        show(&self.0.views.now(), instance, sees_hosts).map(Response::new)
    }
}

fn show(state: &State, id: InstanceId, sees_hosts: bool) -> Result<v1::Instance, Status> {
    let instance = state.instances.get(&id);
    let instance = instance.ok_or_else(|| status::not_found("instance", &id.to_string()))?;
    Ok(convert::instance(state, instance, sees_hosts))
}

/// The instance now and after each change, to the end of its life.
fn follow(cell: Arc<Cell>, id: InstanceId, sees_hosts: bool) -> BoxStream<v1::Instance> {
    Box::pin(async_stream::try_stream! {
        let mut views = cell.views.clone();
        let mut seen = None;
        loop {
            let state = views.take();
            let Some(instance) = state.instances.get(&id) else { break };
            let reachable = state.nodes.get(&instance.node).map(|node| node.reachable);
            let now = Some((instance.revision, reachable));
            if seen != now {
                seen = now;
                yield convert::instance(&state, instance, sees_hosts);
            }
            if instance.state == InstanceState::Deleted {
                break;
            }
            drop(state);
            if !views.changed().await {
                break;
            }
        }
    })
}

#[tonic::async_trait]
impl InstanceService for Service {
    type WatchInstanceStream = BoxStream<v1::Instance>;
    type ReadSerialLogStream = BoxStream<v1::SerialLogChunk>;
    type OpenTunnelStream = BoxStream<v1::TunnelResponse>;
    type OpenConsoleStream = BoxStream<v1::ConsoleResponse>;

    async fn preview_launch(
        &self,
        request: Request<v1::LaunchInstancesRequest>,
    ) -> Result<Response<v1::LaunchPreview>, Status> {
        let (caller, message) = mutation::take(request)?;
        let preview = preview::preview(&self.0, &caller, &message).await?;
        Ok(Response::new(preview))
    }

    async fn explain_instance(
        &self,
        request: Request<v1::GetInstanceRequest>,
    ) -> Result<Response<v1::PlacementExplanation>, Status> {
        let (caller, message) = mutation::take(request)?;
        let state = self.0.read().await?;
        preview::explain(&state, &caller, &message.instance).map(Response::new)
    }

    async fn open_console(
        &self,
        request: Request<Streaming<v1::ConsoleRequest>>,
    ) -> Result<Response<Self::OpenConsoleStream>, Status> {
        let (caller, messages) = mutation::take(request)?;
        let console = serial::console(&self.0, caller.project, messages).await?;
        Ok(Response::new(guarded(Arc::clone(&self.0), caller, console)))
    }

    async fn launch_instances(
        &self,
        request: Request<v1::LaunchInstancesRequest>,
    ) -> Result<Response<v1::LaunchInstancesResponse>, Status> {
        let (caller, mut message) = mutation::take(request)?;
        let sees_hosts = caller.sees_hosts();
        let request_id = std::mem::take(&mut message.request_id);
        let mutation = Mutation::begin(caller, &request_id, &message)?;
        let (revision, ids) = launch::launch(&self.0, &mutation, &message).await?;
        let state = self.0.views.now();
        let instances = ids
            .into_iter()
            .map(|id| show(&state, id, sees_hosts))
            .collect::<Result<_, _>>()?;
        Ok(Response::new(v1::LaunchInstancesResponse {
            instances,
            revision,
        }))
    }

    async fn get_instance(
        &self,
        request: Request<v1::GetInstanceRequest>,
    ) -> Result<Response<v1::Instance>, Status> {
        let caller = authorise::caller(&request)?;
        let state = self.0.read().await?;
        let project = caller.project;
        let instance = resolve::instance(&state, project, &request.get_ref().instance)?;
        Ok(Response::new(convert::instance(
            &state,
            instance,
            caller.sees_hosts(),
        )))
    }

    async fn list_instances(
        &self,
        request: Request<v1::ListInstancesRequest>,
    ) -> Result<Response<v1::ListInstancesResponse>, Status> {
        let (caller, message) = mutation::take(request)?;
        let state = self.0.read().await?;
        let after = page::after(&message.page_token)?;
        let wanted = state
            .instances_of(caller.project, after)
            .filter(|instance| {
                let carries = |(key, value)| instance.labels.get(key) == Some(value);
                let visible = message.include_deleted || instance.state != InstanceState::Deleted;
                visible && message.labels.iter().all(carries)
            });
        let (page, next_page_token) = page::cut(
            wanted,
            |instance| instance.id,
            message.page_size,
            &message.page_token,
        )?;
        let instances = page
            .into_iter()
            .map(|i| convert::instance(&state, i, caller.sees_hosts()))
            .collect();
        let revision = state.index;
        Ok(Response::new(v1::ListInstancesResponse {
            instances,
            next_page_token,
            revision,
        }))
    }

    async fn watch_instance(
        &self,
        request: Request<v1::GetInstanceRequest>,
    ) -> Result<Response<Self::WatchInstanceStream>, Status> {
        let caller = authorise::caller(&request)?;
        let state = self.0.read().await?;
        let project = caller.project;
        let id = resolve::instance(&state, project, &request.get_ref().instance)?.id;
        let stream = follow(Arc::clone(&self.0), id, caller.sees_hosts());
        Ok(Response::new(guarded(Arc::clone(&self.0), caller, stream)))
    }

    async fn start_instance(
        &self,
        request: Request<v1::ChangeInstanceRequest>,
    ) -> Result<Response<v1::Instance>, Status> {
        self.change(request, Wish::Start, 1).await
    }

    async fn stop_instance(
        &self,
        request: Request<v1::ChangeInstanceRequest>,
    ) -> Result<Response<v1::Instance>, Status> {
        self.change(request, Wish::Stop, 2).await
    }

    async fn reboot_instance(
        &self,
        request: Request<v1::ChangeInstanceRequest>,
    ) -> Result<Response<v1::Instance>, Status> {
        self.change(request, Wish::Reboot, 3).await
    }

    async fn delete_instance(
        &self,
        request: Request<v1::ChangeInstanceRequest>,
    ) -> Result<Response<v1::Instance>, Status> {
        self.change(request, Wish::Delete, 4).await
    }

    async fn read_serial_log(
        &self,
        request: Request<v1::ReadSerialLogRequest>,
    ) -> Result<Response<Self::ReadSerialLogStream>, Status> {
        let (caller, message) = mutation::take(request)?;
        let log = serial::log(&self.0, caller.project, message).await?;
        Ok(Response::new(guarded(Arc::clone(&self.0), caller, log)))
    }

    async fn open_tunnel(
        &self,
        request: Request<Streaming<v1::TunnelRequest>>,
    ) -> Result<Response<Self::OpenTunnelStream>, Status> {
        let (caller, messages) = mutation::take(request)?;
        let tunnel = stream::tunnel(&self.0, caller.project, messages).await?;
        Ok(Response::new(guarded(Arc::clone(&self.0), caller, tunnel)))
    }
}
