//! The tower layer around every service: asks `judge`, leaves the caller with
//! the request, or answers at once.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tonic::Status;
use tonic::body::Body;
use tonic::transport::server::TlsConnectInfo;
use tower::{Layer, Service};

use super::{Caller, Credentials, Denied, PROJECT_METADATA, Rule, judge};
use crate::cell::Cell;
use crate::identity::{self, Identity};
use crate::listener::Connection;
use crate::observe;

/// Wraps services.
#[derive(Clone)]
pub struct Authorise(pub Arc<Cell>);

impl<S> Layer<S> for Authorise {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Guard<S> {
        let cell = Arc::clone(&self.0);
        Guard { cell, inner }
    }
}

/// A wrapped service.
#[derive(Clone)]
pub struct Guard<S> {
    cell: Arc<Cell>,
    inner: S,
}

/// What the layer leaves with a request.
enum Passed {
    Nobody,
    Process(Identity),
    Caller(Box<Caller>),
}

impl<S, B> Service<http::Request<B>> for Guard<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        // The clone that was made ready is the one that is called.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let (cell, asked) = (Arc::clone(&self.cell), Asked::of(&request, &self.cell));
        Box::pin(async move {
            let connection = asked.connection.clone();
            let known = matches!(asked.credentials, Credentials::Certificate(_));
            let decided = decide(&cell, asked).await;
            // Who calls what anybody may call has proven nothing by it.
            if known && decided.is_ok() || !matches!(decided, Ok(Passed::Nobody) | Err(_)) {
                connection.iter().for_each(Connection::prove);
            }
            match decided {
                Ok(Passed::Nobody) => {}
                Ok(Passed::Process(identity)) => {
                    observe::caller(&identity.actor());
                    request.extensions_mut().insert(identity);
                }
                Ok(Passed::Caller(caller)) => {
                    observe::caller(&caller.actor);
                    request.extensions_mut().insert(*caller);
                }
                Err(status) => return Ok(status.into_http()),
            }
            inner.call(request).await
        })
    }
}

/// What the decision rests on.
struct Asked {
    rule: Option<Rule>,
    credentials: Credentials,
    project: Option<String>,
    source: Option<String>,
    connection: Option<Connection>,
}

impl Asked {
    fn of<B>(request: &http::Request<B>, cell: &Cell) -> Self {
        let text = |name: &str| {
            let value = request.headers().get(name)?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let info = request.extensions().get::<TlsConnectInfo<Connection>>();
        let certificate = info
            .and_then(TlsConnectInfo::peer_certs)
            .and_then(|chain| identity::from_chain(&chain, &cell.config.cluster_id));
        let credentials = match (text("authorization"), certificate) {
            (Some(header), _) => Credentials::from_header(&header),
            (None, Some(identity)) => Credentials::Certificate(identity),
            (None, None) => Credentials::None,
        };
        let connection = info.map(|info| info.get_ref().clone());
        let remote = connection.as_ref().map(Connection::remote);
        Self {
            rule: Rule::of(request.uri().path()),
            credentials,
            project: text(PROJECT_METADATA),
            source: remote.map(|address| address.ip().to_string()),
            connection,
        }
    }
}

async fn decide(cell: &Cell, asked: Asked) -> Result<Passed, Status> {
    let rule = asked.rule.ok_or_else(|| Denied::NoMethod.status())?;
    match (rule, &asked.credentials) {
        (Rule::Anyone, _) => return Ok(Passed::Nobody),
        (Rule::Process(roles), Credentials::Certificate(identity))
            if roles.contains(&identity.role) =>
        {
            return Ok(Passed::Process(identity.clone()));
        }
        _ => {}
    }
    let (project, source) = (asked.project.as_deref(), asked.source);
    let now = cell.views.now();
    let judged = match judge(&now, rule, &asked.credentials, project, source.clone()) {
        // This controller may be a moment behind the one that made the key or
        // the project; a certificate does not depend on either.
        Err(Denied::Unauthenticated(_)) if matches!(asked.credentials, Credentials::Token(..)) => {
            judge(
                &*cell.read().await?,
                rule,
                &asked.credentials,
                project,
                source,
            )
        }
        Err(Denied::NoProject(_) | Denied::Forbidden(_) | Denied::NotReady)
            if asked.credentials != Credentials::None =>
        {
            judge(
                &*cell.read().await?,
                rule,
                &asked.credentials,
                project,
                source,
            )
        }
        other => other,
    };
    match judged {
        Ok(caller) => Ok(Passed::Caller(Box::new(caller))),
        Err(denied) => Err(denied.status()),
    }
}
