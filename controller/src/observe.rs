//! The outermost layer of the server: each call gets a span, a count and a time,
//! whatever becomes of it inside. The layers within add what they find out:
//! [`caller`] and [`request`].
//!
//! One line for each mutation at `info`; reads, hosts and peers at `debug`.

mod methods;

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use nube_telemetry::trace;
use tonic::Code;
use tower::{Layer, Service};
use tracing::field::Empty;
use tracing::{Instrument, Span};

use crate::metrics::{Held, events};
use methods::Method;

const STATUS: &str = "grpc-status";

/// Says in the current call's span who calls.
pub fn caller(actor: &str) {
    Span::current().record("actor", actor);
}

/// Says in the current call's span which mutation it is.
pub fn request(id: nube_types::RequestId) {
    Span::current().record("request_id", hex::encode(id.0));
}

/// Makes [`Observed`] services. Must be the first layer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Observe;

impl<S> Layer<S> for Observe {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        Observed { inner }
    }
}

/// A service whose calls are seen.
#[derive(Debug, Clone)]
pub struct Observed<S> {
    inner: S,
}

impl<S, I, O> Service<Request<I>> for Observed<S>
where
    S: Service<Request<I>, Response = Response<O>>,
    S::Future: Send + 'static,
{
    type Response = Response<Watched<O>>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<I>) -> Self::Future {
        let method = methods::of(request.uri().path());
        let span = span(method);
        let parent = request.headers().get(trace::TRACEPARENT);
        trace::follow(&span, parent.and_then(|value| value.to_str().ok()));
        let mut call = Call::new(method, span.clone());
        // Interceptors run before there is a future.
        let answer = span.in_scope(|| self.inner.call(request));
        let answered = async move {
            let response = answer.await?;
            // Without a body the status is among the headers.
            if let Some(code) = code_of(response.headers()) {
                call.end(code);
            }
            Ok(response.map(|body| Watched { body, call }))
        };
        Box::pin(answered.instrument(span))
    }
}

fn span(method: &'static Method) -> Span {
    // Drawn only where no mutation brings its own.
    let drawn = || format!("{:016x}", rand::random::<u64>());
    let span = if method.mutation {
        tracing::info_span!(
            "rpc",
            otel.name = Empty,
            method = method.name,
            request_id = Empty,
            actor = Empty,
            code = Empty,
            duration_ms = Empty
        )
    } else if method.forwards {
        tracing::info_span!(
            "rpc",
            otel.name = Empty,
            method = method.name,
            actor = Empty,
            code = Empty,
            duration_ms = Empty
        )
    } else {
        let span = tracing::debug_span!(
            "rpc",
            otel.name = Empty,
            method = method.name,
            request_id = Empty,
            actor = Empty,
            code = Empty,
            duration_ms = Empty
        );
        if !span.is_disabled() {
            span.record("request_id", drawn());
        }
        span
    };
    if trace::is_on() {
        span.record("otel.name", method.name);
    }
    span
}

/// One call, from its first byte to its end, however it ends.
struct Call {
    method: &'static Method,
    span: Span,
    begun: Instant,
    ended: bool,
    _in_flight: Held,
}

impl Call {
    fn new(method: &'static Method, span: Span) -> Self {
        Self {
            method,
            span,
            begun: Instant::now(),
            ended: false,
            _in_flight: Held::one(&events().rpcs_in_flight),
        }
    }

    /// The first end counts.
    fn end(&mut self, code: Code) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let (took, word) = (self.begun.elapsed(), word(code));
        let method = ("method", self.method.name);
        let events = events();
        events.rpcs.get_or_create(&[method, ("code", word)]).inc();
        events
            .rpc_seconds
            .get_or_create(&[method])
            .observe(took.as_secs_f64());
        self.span.record("code", word);
        self.span
            .record("duration_ms", took.as_secs_f64() * 1_000.0);
        let _entered = self.span.enter();
        match self.method.mutation {
            true => tracing::info!("call ended"),
            false => tracing::debug!("call ended"),
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // Nobody waits for the rest any more.
        self.end(Code::Cancelled);
    }
}

/// A response whose end is seen.
pub struct Watched<B> {
    body: B,
    call: Call,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Watched<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        let polled = {
            let _entered = this.call.span.enter();
            Pin::new(&mut this.body).poll_frame(context)
        };
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    this.call.end(code_of(trailers).unwrap_or(Code::Unknown));
                }
            }
            // A body that ends without its status is cut off.
            Poll::Ready(Some(Err(_)) | None) => this.call.end(Code::Unknown),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn code_of(headers: &HeaderMap) -> Option<Code> {
    let value = headers.get(STATUS)?;
    Some(Code::from_bytes(value.as_bytes()))
}

/// As in the gRPC specification.
fn word(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod test;
