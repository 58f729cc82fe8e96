//! An OTLP collector that remembers what it was sent.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// The batch exporter sends every five seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// A span that arrived.
#[derive(Clone)]
pub struct Seen(pub Span);

impl Seen {
    /// A string among its attributes.
    pub fn text(&self, key: &str) -> Option<String> {
        let found = self.0.attributes.iter().find(|found| found.key == key)?;
        match found.value.as_ref()?.value.as_ref()? {
            Value::StringValue(text) => Some(text.clone()),
            _ => None,
        }
    }
}

#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Spans {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans;
        let scopes = resources.into_iter().flat_map(|from| from.scope_spans);
        let spans = scopes.flat_map(|scope| scope.spans);
        self.0.lock().expect("spans").extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A running collector.
pub struct Collector {
    /// For `otlp_endpoint`.
    pub endpoint: String,
    spans: Spans,
}

impl Collector {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let spans = Spans::default();
        let service = TraceServiceServer::new(spans.clone());
        let serving = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(serving);
        Self {
            endpoint: format!("http://{address}"),
            spans,
        }
    }

    async fn find(&self, what: &str, fits: impl Fn(&Span) -> bool) -> Seen {
        let found = async {
            loop {
                let spans = self.spans.0.lock().expect("spans").clone();
                if let Some(span) = spans.into_iter().find(|span| fits(span)) {
                    return Seen(span);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, found).await {
            Ok(span) => span,
            Err(_) => panic!("no span `{what}` has arrived"),
        }
    }

    /// A span by its name.
    pub async fn span(&self, name: &str) -> Seen {
        self.find(name, |span| span.name == name).await
    }

    /// A span by its name, inside another one.
    pub async fn span_below(&self, above: &Seen, name: &str) -> Seen {
        let below = |span: &Span| span.parent_span_id == above.0.span_id;
        self.find(name, |span| span.name == name && below(span))
            .await
    }
}
