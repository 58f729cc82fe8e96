//! The client against small servers in this process, over plain TCP.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nube_proto::v1::instance_type_service_client::InstanceTypeServiceClient;
use nube_proto::v1::instance_type_service_server::{
    InstanceTypeService, InstanceTypeServiceServer,
};
use nube_proto::v1::node_service_client::NodeServiceClient;
use nube_proto::v1::node_service_server::{NodeService, NodeServiceServer};
use nube_proto::v1::{
    ChangeNodeRequest, GetNodeRequest, ListInstanceTypesRequest, ListInstanceTypesResponse,
    ListNodesRequest, ListNodesResponse, Node,
};
use tonic::server::NamedService;
use tonic::transport::server::Router;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status};

use super::{Client, Link, Stamp, Target, tuned};
use crate::config::Secret;
use crate::error::Exit;

/// Refuses the first calls with `fail`, then answers; remembers request ids.
#[derive(Clone, Default)]
struct Fake {
    fail: Vec<tonic::Code>,
    calls: Arc<AtomicU32>,
    request_ids: Arc<Mutex<Vec<String>>>,
    /// `authorization` and `x-nube-project` of each call.
    stamps: Arc<Mutex<Vec<[Option<String>; 2]>>>,
    slow: bool,
}

impl Fake {
    fn next(&self) -> Result<(), Status> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) as usize;
        match self.fail.get(call) {
            Some(code) => Err(Status::new(*code, "not now")),
            None => Ok(()),
        }
    }
}

#[tonic::async_trait]
impl InstanceTypeService for Fake {
    async fn list_instance_types(
        &self,
        request: Request<ListInstanceTypesRequest>,
    ) -> Result<Response<ListInstanceTypesResponse>, Status> {
        let value = |key| {
            let value = request.metadata().get(key);
            value.map(|value| value.to_str().expect("text").to_owned())
        };
        let stamp = [value("authorization"), value("x-nube-project")];
        self.stamps
            .lock()
            .expect("no panic while locked")
            .push(stamp);
        self.next()?;
        if self.slow {
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
        Ok(Response::new(ListInstanceTypesResponse::default()))
    }
}

#[tonic::async_trait]
impl NodeService for Fake {
    async fn get_node(&self, _: Request<GetNodeRequest>) -> Result<Response<Node>, Status> {
        Err(Status::not_found("node `x` not found"))
    }
    async fn list_nodes(
        &self,
        _: Request<ListNodesRequest>,
    ) -> Result<Response<ListNodesResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn set_node_labels(
        &self,
        _: Request<nube_proto::v1::SetNodeLabelsRequest>,
    ) -> Result<Response<Node>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn drain_node(
        &self,
        request: Request<ChangeNodeRequest>,
    ) -> Result<Response<Node>, Status> {
        let mut ids = self.request_ids.lock().expect("no panic while locked");
        ids.push(request.into_inner().request_id);
        drop(ids);
        self.next().map(|()| Response::new(Node::default()))
    }
    async fn uncordon_node(&self, _: Request<ChangeNodeRequest>) -> Result<Response<Node>, Status> {
        Err(Status::unimplemented(""))
    }
}

async fn serve(fake: Fake) -> SocketAddr {
    let server = Server::builder()
        .add_service(InstanceTypeServiceServer::new(fake.clone()))
        .add_service(NodeServiceServer::new(fake));
    spawn(server).await
}

/// Serves one generated service.
pub async fn serve_service<S>(service: S) -> SocketAddr
where
    S: tonic::codegen::Service<
            tonic::codegen::http::Request<tonic::body::Body>,
            Response = tonic::codegen::http::Response<tonic::body::Body>,
            Error = std::convert::Infallible,
        > + NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    spawn(Server::builder().add_service(service)).await
}

async fn spawn(server: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    tokio::spawn(server.serve_with_incoming(incoming));
    address
}

/// Nobody listens on the port when this returns.
async fn dead_address() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    listener.local_addr().expect("an address")
}

/// A client of these addresses that asks the first one first.
pub fn client(addresses: &[SocketAddr], timeout: Option<Duration>) -> Client {
    stamped(addresses, timeout, &Stamp::default())
}

fn stamped(addresses: &[SocketAddr], timeout: Option<Duration>, stamp: &Stamp) -> Client {
    let target = |address: &SocketAddr| {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        Target {
            address: address.to_string(),
            link: Link::new(tuned(endpoint).connect_lazy(), stamp.clone()),
        }
    };
    let client = Client::new(addresses.iter().map(target).collect(), timeout, None);
    client.current.store(0, Ordering::Relaxed);
    client
}

async fn types(client: &Client) -> crate::error::Result<ListInstanceTypesResponse> {
    let list = |channel| async move {
        InstanceTypeServiceClient::new(channel)
            .list_instance_types(ListInstanceTypesRequest {})
            .await
    };
    client.call("list types", list).await
}

#[tokio::test]
async fn the_next_controller_is_asked_when_one_is_dead() {
    let alive = serve(Fake::default()).await;
    let client = client(&[dead_address().await, alive], None);
    assert!(types(&client).await.is_ok());
    assert_eq!(client.current.load(Ordering::Relaxed), 1, "it is kept");
}

#[tokio::test]
async fn a_mutation_keeps_its_request_id_over_all_attempts() {
    use tonic::Code::{Aborted, DeadlineExceeded, Unavailable};
    let fake = Fake {
        fail: vec![Unavailable, Aborted, DeadlineExceeded],
        ..Fake::default()
    };
    let client = client(&[serve(fake.clone()).await], None);
    let request = ChangeNodeRequest {
        request_id: client.request_id(),
        node: "node-1".into(),
    };
    let drain = |channel| {
        let request = request.clone();
        async move { NodeServiceClient::new(channel).drain_node(request).await }
    };
    client
        .call("drain", drain)
        .await
        .expect("the fourth attempt works");
    let ids = fake
        .request_ids
        .lock()
        .expect("no panic while locked")
        .clone();
    assert_eq!(ids.len(), 4);
    assert!(
        ids.iter()
            .all(|id| *id == ids[0] && uuid::Uuid::parse_str(id).is_ok())
    );
}

#[tokio::test]
async fn every_call_says_who_and_for_which_project() {
    let fake = Fake::default();
    let address = serve(fake.clone()).await;
    let token = Secret("nube1.ak-01.c2VjcmV0".to_owned());
    let stamp = Stamp::new(Some(&token), Some("web")).expect("valid");
    assert!(!format!("{stamp:?}").contains("c2VjcmV0"), "{stamp:?}");
    types(&stamped(&[address], None, &stamp))
        .await
        .expect("an answer");
    types(&client(&[address], None)).await.expect("an answer");
    let seen = fake.stamps.lock().expect("no panic while locked").clone();
    let bearer = Some("Bearer nube1.ak-01.c2VjcmV0".to_owned());
    assert_eq!(seen, [[bearer, Some("web".to_owned())], [None, None]]);
    for project in ["a\nb", "\u{e9}", &"x".repeat(64)] {
        let error = Stamp::new(None, Some(project)).expect_err("refused");
        assert_eq!(error.exit(), Exit::Usage);
    }
}

#[tokio::test]
async fn a_refusal_is_final() {
    let client = client(&[serve(Fake::default()).await], None);
    let get = |channel| async move {
        let node = "x".to_owned();
        NodeServiceClient::new(channel)
            .get_node(GetNodeRequest { node })
            .await
    };
    let error = client.call("show", get).await.expect_err("not found");
    assert_eq!(error.exit(), Exit::NotFound);
    assert!(
        error
            .render()
            .starts_with("error: show: node `x` not found\n")
    );
}

#[tokio::test]
async fn the_deadline_ends_the_attempts_and_names_the_reason() {
    let client = client(&[dead_address().await], Some(Duration::from_millis(300)));
    let error = types(&client).await.expect_err("nobody there");
    assert_eq!(error.exit(), Exit::Unavailable);
    let text = error.render();
    assert!(text.contains("Connection refused"), "{text}");
    assert!(text.contains("cloudctl up"), "{text}");
}

#[tokio::test]
async fn a_silent_controller_is_left() {
    let silent = serve(Fake {
        slow: true,
        ..Fake::default()
    });
    let alive = serve(Fake::default());
    let client = client(&[silent.await, alive.await], None);
    let list = |channel| async move {
        InstanceTypeServiceClient::new(channel)
            .list_instance_types(ListInstanceTypesRequest {})
            .await
    };
    let answer = client.call_slow("list types", Duration::from_millis(200), list);
    assert!(answer.await.is_ok());
}

#[test]
fn one_request_id_is_for_one_mutation() {
    let id = "00112233-4455-6677-8899-aabbccddeeff".to_owned();
    let client = Client::new(Vec::new(), None, Some(id.clone()));
    assert_eq!(client.request_id(), id);
    assert!(client.allow_mutations(1).is_ok());
    assert!(client.allow_mutations(2).is_err());
}
