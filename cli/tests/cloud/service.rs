//! The answers.

use futures::StreamExt;
use futures::stream::BoxStream;
use nube_proto::v1::access_key_service_server::AccessKeyService;
use nube_proto::v1::change::Object;
use nube_proto::v1::event_service_server::EventService;
use nube_proto::v1::instance_service_server::InstanceService;
use nube_proto::v1::principal_service_server::PrincipalService;
use nube_proto::v1::project_service_server::ProjectService;
use nube_proto::v1::watch_service_server::WatchService;
use nube_proto::v1::*;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt};

use super::{Notes, TOKEN};

type Answer<T> = Result<Response<T>, Status>;
type Stream<T> = BoxStream<'static, Result<T, Status>>;

const WEB: &str = "i-0000000000000001";
const OLD: &str = "i-0000000000000009";

fn ok<T>(message: T) -> Answer<T> {
    Ok(Response::new(message))
}

fn refused(code: Code, reason: &str, text: &str) -> Status {
    let info = ErrorDetails::with_error_info(reason, "nube", []);
    Status::with_error_details(code, text, info)
}

fn absent(name: &str) -> Status {
    let mut details = ErrorDetails::with_error_info("NOT_FOUND", "nube", []);
    details.set_resource_info("instance", name, "", "not found");
    let text = format!("instance `{name}` not found");
    Status::with_error_details(Code::NotFound, text, details)
}

fn instance(id: &str, name: &str) -> Instance {
    Instance {
        id: id.into(),
        name: name.into(),
        state: InstanceState::Running as i32,
        node_name: "host-1".into(),
        node_reachable: true,
        revision: 1042,
        ..Instance::default()
    }
}

fn project() -> Project {
    Project {
        id: "p-0000000000000007".into(),
        name: "web".into(),
        ..Project::default()
    }
}

fn placement() -> PlacementExplanation {
    let host = HostVerdict {
        node_name: "host-1".into(),
        chosen: true,
        score: 7,
        ..HostVerdict::default()
    };
    PlacementExplanation {
        instance_name: "web".into(),
        revision: 1042,
        hosts: vec![host],
        hosts_total: 1,
        hosts_fitting: 1,
        ..PlacementExplanation::default()
    }
}

fn event(id: &str, name: &str, action: &str) -> Event {
    Event {
        id: "1042.0".into(),
        revision: 1042,
        time_ms: 1_790_000_000_000,
        actor: "user/alice".into(),
        action: action.into(),
        resource_kind: "instance".into(),
        resource_id: id.into(),
        resource_name: name.into(),
        ..Event::default()
    }
}

#[tonic::async_trait]
impl AccessKeyService for Notes {
    async fn create_access_key(
        &self,
        request: Request<CreateAccessKeyRequest>,
    ) -> Answer<CreateAccessKeyResponse> {
        let request = request.into_inner();
        let access_key = AccessKey {
            id: "ak-00c0ffee00c0ffee".into(),
            principal_name: "alice".into(),
            project_id: request.project.clone(),
            project_name: request.project,
            role: request.role,
            ..AccessKey::default()
        };
        ok(CreateAccessKeyResponse {
            access_key: Some(access_key),
            token: TOKEN.into(),
        })
    }
    async fn list_access_keys(
        &self,
        _: Request<ListAccessKeysRequest>,
    ) -> Answer<ListAccessKeysResponse> {
        ok(ListAccessKeysResponse::default())
    }
    async fn delete_access_key(
        &self,
        _: Request<DeleteAccessKeyRequest>,
    ) -> Answer<DeleteAccessKeyResponse> {
        ok(DeleteAccessKeyResponse {})
    }
    async fn who_am_i(&self, _: Request<WhoAmIRequest>) -> Answer<WhoAmIResponse> {
        ok(WhoAmIResponse {
            actor: "user/alice".into(),
            project_name: "web".into(),
            ..WhoAmIResponse::default()
        })
    }
}

#[tonic::async_trait]
impl ProjectService for Notes {
    async fn create_project(&self, _: Request<CreateProjectRequest>) -> Answer<Project> {
        ok(project())
    }
    async fn get_project(&self, _: Request<GetProjectRequest>) -> Answer<Project> {
        ok(project())
    }
    async fn list_projects(&self, _: Request<ListProjectsRequest>) -> Answer<ListProjectsResponse> {
        ok(ListProjectsResponse::default())
    }
    async fn set_project_quota(&self, _: Request<SetProjectQuotaRequest>) -> Answer<Project> {
        ok(project())
    }
    async fn delete_project(
        &self,
        request: Request<DeleteProjectRequest>,
    ) -> Answer<DeleteProjectResponse> {
        let mut deleted = self.deleted.lock().expect("no panic while locked");
        deleted.push(request.into_inner().project);
        ok(DeleteProjectResponse {})
    }
}

fn not_admin<T>() -> Answer<T> {
    let text = "this needs admin of the cell";
    Err(refused(Code::PermissionDenied, "PERMISSION_DENIED", text))
}

#[tonic::async_trait]
impl PrincipalService for Notes {
    async fn create_principal(&self, _: Request<CreatePrincipalRequest>) -> Answer<Principal> {
        not_admin()
    }
    async fn get_principal(&self, _: Request<GetPrincipalRequest>) -> Answer<Principal> {
        not_admin()
    }
    async fn list_principals(
        &self,
        _: Request<ListPrincipalsRequest>,
    ) -> Answer<ListPrincipalsResponse> {
        not_admin()
    }
    async fn set_role(&self, _: Request<SetRoleRequest>) -> Answer<Principal> {
        not_admin()
    }
    async fn delete_principal(
        &self,
        _: Request<DeletePrincipalRequest>,
    ) -> Answer<DeletePrincipalResponse> {
        not_admin()
    }
}

#[tonic::async_trait]
impl EventService for Notes {
    async fn list_events(&self, request: Request<ListEventsRequest>) -> Answer<ListEventsResponse> {
        let about = request.into_inner().resource;
        // Newest first.
        let mut events = vec![
            event(OLD, "old", "instance.delete"),
            event(WEB, "web", "instance.launch"),
        ];
        events.retain(|event| about.is_empty() || event.resource_id == about);
        ok(ListEventsResponse {
            events,
            revision: 1042,
            ..ListEventsResponse::default()
        })
    }
}

#[tonic::async_trait]
impl WatchService for Notes {
    type WatchStream = Stream<WatchResponse>;

    async fn watch(&self, request: Request<WatchRequest>) -> Answer<Self::WatchStream> {
        let message = |revision: u64, initial: bool| WatchResponse {
            revision,
            initial,
            initial_end: initial,
            changes: vec![Change {
                kind: "instance".into(),
                id: WEB.into(),
                object: Some(Object::Instance(instance(WEB, "web"))),
                ..Change::default()
            }],
            ..WatchResponse::default()
        };
        match request.into_inner().after_revision {
            0 => {
                let gone = refused(
                    Code::Unauthenticated,
                    "UNAUTHENTICATED",
                    "the key was deleted",
                );
                let news = [Ok(message(1042, true)), Ok(message(1043, false)), Err(gone)];
                ok(futures::stream::iter(news).boxed())
            }
            _ => Err(refused(Code::OutOfRange, "COMPACTED", "forgotten")),
        }
    }
}

#[tonic::async_trait]
impl InstanceService for Notes {
    type WatchInstanceStream = Stream<Instance>;
    type ReadSerialLogStream = Stream<SerialLogChunk>;
    type OpenTunnelStream = Stream<TunnelResponse>;
    type OpenConsoleStream = Stream<ConsoleResponse>;

    async fn launch_instances(
        &self,
        request: Request<LaunchInstancesRequest>,
    ) -> Answer<LaunchInstancesResponse> {
        assert_eq!(request.into_inner().if_revision, 7);
        let text = "revision 7 is out of date";
        Err(refused(Code::Aborted, "REVISION_CHANGED", text))
    }
    async fn preview_launch(
        &self,
        request: Request<LaunchInstancesRequest>,
    ) -> Answer<LaunchPreview> {
        let refusal = match request.into_inner().image.as_str() {
            "full" => "no host fits",
            _ => "",
        };
        ok(LaunchPreview {
            revision: 1042,
            price_nanos_per_hour: 2_000_000,
            price_nanos_per_month: 1_460_000_000,
            currency: "EUR".into(),
            placements: vec![placement()],
            refusal: refusal.into(),
            ..LaunchPreview::default()
        })
    }
    async fn explain_instance(
        &self,
        request: Request<GetInstanceRequest>,
    ) -> Answer<PlacementExplanation> {
        match request.into_inner().instance.as_str() {
            WEB => ok(placement()),
            other => Err(absent(other)),
        }
    }
    async fn get_instance(&self, request: Request<GetInstanceRequest>) -> Answer<Instance> {
        match request.into_inner().instance.as_str() {
            "web" => ok(instance(WEB, "web")),
            other => Err(absent(other)),
        }
    }
    async fn list_instances(
        &self,
        _: Request<ListInstancesRequest>,
    ) -> Answer<ListInstancesResponse> {
        ok(ListInstancesResponse {
            instances: vec![
                instance(WEB, "web"),
                instance("i-0000000000000002", "web-2"),
                instance("i-0000000000000003", "db"),
            ],
            ..ListInstancesResponse::default()
        })
    }
    async fn watch_instance(
        &self,
        _: Request<GetInstanceRequest>,
    ) -> Answer<Self::WatchInstanceStream> {
        Err(Status::unimplemented("not here"))
    }
    async fn start_instance(&self, _: Request<ChangeInstanceRequest>) -> Answer<Instance> {
        Err(Status::unimplemented("not here"))
    }
    async fn stop_instance(&self, _: Request<ChangeInstanceRequest>) -> Answer<Instance> {
        Err(Status::unimplemented("not here"))
    }
    async fn reboot_instance(&self, _: Request<ChangeInstanceRequest>) -> Answer<Instance> {
        Err(Status::unimplemented("not here"))
    }
    async fn delete_instance(&self, _: Request<ChangeInstanceRequest>) -> Answer<Instance> {
        Err(Status::unimplemented("not here"))
    }
    async fn read_serial_log(
        &self,
        _: Request<ReadSerialLogRequest>,
    ) -> Answer<Self::ReadSerialLogStream> {
        Err(Status::unimplemented("not here"))
    }
    async fn open_tunnel(
        &self,
        _: Request<Streaming<TunnelRequest>>,
    ) -> Answer<Self::OpenTunnelStream> {
        Err(Status::unimplemented("not here"))
    }
    async fn open_console(
        &self,
        _: Request<Streaming<ConsoleRequest>>,
    ) -> Answer<Self::OpenConsoleStream> {
        Err(Status::unimplemented("not here"))
    }
}
