//! Spans to an OTLP collector over gRPC, when one is configured. Plain HTTP/2:
//! a collector beside the process, or one on a trusted network.
//!
//! A trace goes on across processes by the W3C `traceparent` header.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use opentelemetry::KeyValue;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tonic::transport::Uri;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The header that carries the caller's span.
pub const TRACEPARENT: &str = "traceparent";
/// One batch; a collector that is slower loses spans, nothing waits for it.
const EXPORT: Duration = Duration::from_secs(5);
/// The last batch, at the end of the process.
const FLUSH: Duration = Duration::from_secs(2);

static ON: AtomicBool = AtomicBool::new(false);

/// Sends spans until it is dropped.
pub struct Exporter {
    pub(crate) provider: SdkTracerProvider,
}

/// Checks an `otlp_endpoint`; the text names the rule.
pub fn check(endpoint: &str) -> Result<(), String> {
    let rule = "`http://HOST:PORT` of an OTLP collector (gRPC) is needed";
    let uri: Uri = endpoint.parse().map_err(|_| rule.to_owned())?;
    let plain = uri.scheme_str() == Some("http") && uri.port_u16().is_some();
    let bare = matches!(
        uri.path_and_query().map(|rest| rest.as_str()),
        None | Some("/")
    );
    if plain && bare && uri.host().is_some_and(|host| !host.is_empty()) {
        return Ok(());
    }
    Err(rule.to_owned())
}

impl Exporter {
    /// Prepares an exporter; it connects when there is something to send. Call
    /// within a runtime that outlives it.
    pub fn start(endpoint: &str, service: &'static str, instance: String) -> anyhow::Result<Self> {
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(EXPORT)
            .build()
            .context("otlp_endpoint")?;
        let resource = Resource::builder_empty()
            .with_service_name(service)
            .with_attribute(KeyValue::new("service.instance.id", instance))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource)
            .build();
        ON.store(true, Ordering::Relaxed);
        Ok(Self { provider })
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        ON.store(false, Ordering::Relaxed);
        if let Err(error) = self.provider.shutdown_with_timeout(FLUSH) {
            tracing::debug!(%error, "the last spans were not sent");
        }
    }
}

/// Whether there is an exporter.
#[must_use]
pub fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// The header's value for a call made in this span; `None` without an exporter.
#[must_use]
pub fn parent_of(span: &Span) -> Option<String> {
    if !is_on() {
        return None;
    }
    let mut headers = HashMap::new();
    TraceContextPropagator::new().inject_context(&span.context(), &mut headers);
    headers.remove(TRACEPARENT)
}

/// Makes a new span part of the caller's trace. A header that is no
/// `traceparent` changes nothing.
pub fn follow(span: &Span, traceparent: Option<&str>) {
    let (Some(text), true) = (traceparent, is_on()) else {
        return;
    };
    let headers = HashMap::from([(TRACEPARENT.to_owned(), text.to_owned())]);
    let context = TraceContextPropagator::new().extract(&headers);
    // Fails for a span that nobody records: then there is nothing to continue.
    let _ = span.set_parent(context);
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn endpoints_are_plain_urls_with_a_port() {
        for good in [
            "http://127.0.0.1:4317",
            "http://collector:4317/",
            "http://[::1]:1",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "collector:4317",
            "https://collector:4317",
            "http://collector",
            "http://:4317",
            "http://collector:4317/v1/traces",
            "http://collector:99999",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn without_an_exporter_nothing_is_passed_on() {
        assert_eq!(parent_of(&Span::none()), None);
        follow(&Span::none(), Some("00-nonsense"));
    }
}
