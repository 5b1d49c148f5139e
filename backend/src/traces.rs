//! Traces: the spans of requests and statements, sent to a collector of OpenTelemetry if the settings name one.
//!
//! Spans are gathered in memory and sent in batches, from a thread of their own and over connections of the engine's
//! runtime. A collector that is away costs spans, which the log says, and never a request.

use std::future::poll_fn;
use std::time::Duration;

use kalamdb_commons::settings::{ServerSettings, TracingSettings};
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanData, SpanExporter};
use tokio::runtime::Handle;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::registry::LookupSpan;

/// How long one batch may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the last batch may take at the end.
const END_TIMEOUT: Duration = Duration::from_secs(3);
/// Where a collector takes traces.
const PATH: &str = "/v1/traces";

/// What sends traces.
#[derive(Debug)]
pub(crate) struct Traces(SdkTracerProvider);

impl Traces {
    /// Begins to, if a collector is named. The error is one line, for people.
    pub(crate) fn begin(
        settings: &TracingSettings,
        server: &ServerSettings,
        runtime: &Handle,
    ) -> Result<Option<Self>, String> {
        if settings.otlp_endpoint.is_empty() {
            return Ok(None);
        }
        let endpoint = format!("{}{PATH}", settings.otlp_endpoint.trim_end_matches('/'));
        let _connections_are_the_runtimes = runtime.enter();
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_endpoint(&endpoint)
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .map_err(|error| format!("traces cannot be sent to {endpoint}: {error}"))?;
        let resource = Resource::builder_empty()
            .with_service_name(settings.service_name.clone())
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", server.node_id.clone()),
            ])
            .build();
        let share = f64::from(settings.sample_percent) / 100.0;
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(OnRuntime { exporter, runtime: runtime.clone() })
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(share))))
            .with_resource(resource)
            .build();
        Ok(Some(Self(provider)))
    }

    /// What takes spans from the program: our own, of level info and above.
    pub(crate) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let tracer = self.0.tracer("kalamdb");
        let ours = ["kalamdb", "kalamdb_server", "kalamdb_core", "kalamdb_store", "kalamdb_filestore", "kalamdb_auth"];
        let ours = Targets::new().with_targets(ours.map(|target| (target, LevelFilter::INFO)));
        tracing_opentelemetry::layer().with_tracer(tracer).with_location(false).with_threads(false).with_filter(ours)
    }

    /// Sends what is left. The runtime must still run.
    pub(crate) fn end(self) {
        if let Err(error) = self.0.shutdown_with_timeout(END_TIMEOUT) {
            tracing::warn!(%error, "the last traces could not be sent");
        }
    }
}

/// An exporter whose connections belong to a runtime, although it is called from another thread.
#[derive(Debug)]
struct OnRuntime {
    exporter: opentelemetry_otlp::SpanExporter,
    runtime: Handle,
}

impl SpanExporter for OnRuntime {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let mut export = std::pin::pin!(self.exporter.export(batch));
        let exported = poll_fn(|context| {
            let _entered = self.runtime.enter();
            export.as_mut().poll(context)
        });
        let exported = exported.await;
        if let Err(error) = &exported {
            tracing::warn!(%error, spans = count, "traces could not be sent");
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
