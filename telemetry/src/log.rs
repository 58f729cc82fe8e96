//! Lines on standard error: one per event, for people or as one JSON object,
//! with the fields of the spans they happened in. Strings among the fields are
//! written quoted and escaped, whatever they hold.

use opentelemetry::trace::TracerProvider;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::trace::Exporter;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For machines: one object per line.
    Json,
}

/// What is said: the environment's word, or a default.
#[derive(Debug, Clone, Copy)]
pub struct Filter {
    /// A variable in the form of `RUST_LOG`.
    pub variable: &'static str,
    /// Without it.
    pub default: &'static str,
}

/// Starts logging, and tracing where there is an exporter. Once per process;
/// keep what is returned until the end: its drop sends the last spans.
#[must_use]
pub fn start(format: Format, filter: Filter, exporter: Option<Exporter>) -> Option<Exporter> {
    let chosen =
        EnvFilter::try_from_env(filter.variable).unwrap_or_else(|_| EnvFilter::new(filter.default));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match format {
        Format::Text => lines.with_filter(chosen).boxed(),
        Format::Json => lines.json().with_filter(chosen).boxed(),
    };
    let spans = exporter.as_ref().map(|exporter| {
        tracing_opentelemetry::layer()
            .with_tracer(exporter.provider.tracer("nube"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            // Ours alone: the exporter's own calls must not make spans.
            .with_filter(
                Targets::new()
                    .with_target("nube", tracing::Level::INFO)
                    .with_target("cloud", tracing::Level::INFO),
            )
    });
    tracing_subscriber::registry()
        .with(lines)
        .with(spans)
        .init();
    exporter
}
