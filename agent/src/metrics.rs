//! Figures of this host: what is counted as it happens, and what is looked up
//! when somebody asks. One process is one agent, so the counters belong to the
//! process. Instances are counted, never named.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use nube_proto::v1::InstanceState;
use nube_telemetry::endpoint::{self, Source};
use nube_telemetry::process::field;
use nube_telemetry::prometheus_client::metrics::counter::Counter;
use nube_telemetry::prometheus_client::metrics::family::Family;
use nube_telemetry::prometheus_client::metrics::gauge::Gauge;
use nube_telemetry::prometheus_client::metrics::histogram::Histogram;
use nube_telemetry::prometheus_client::registry::Registry;
use nube_telemetry::sheet::{Sheet, figures};
use tokio::sync::watch;

use crate::config::Config;
use crate::instance::Verb;
use crate::report::View;
use crate::session::rules::LinkId;

type VerbLabel = [(&'static str, &'static str); 1];
type VerbResult = [(&'static str, &'static str); 2];
type Kind = [(&'static str, &'static str); 1];
type Controller = [(&'static str, String); 1];

/// From a record that is there already to a large image over a slow link.
const SECONDS: [f64; 12] = [
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0,
];

/// The counters of this process.
pub struct Events {
    verbs: Family<VerbResult, Counter>,
    verb_seconds: Family<VerbLabel, Histogram, fn() -> Histogram>,
    sessions: Family<Controller, Gauge>,
    network_changes: Family<Kind, Counter>,
    /// 1 while a leader is obeyed.
    pub leader: Gauge,
    /// The newest term that was obeyed.
    pub obeyed_term: Gauge,
    /// Reports handed to the leader's session, repetitions too.
    pub reports_sent: Counter,
    /// Totals of traffic and verdicts about targets handed to the leader.
    pub network_reports_sent: Counter,
    /// Reports that a leader has committed.
    pub reports_acknowledged: Counter,
    /// 1 while a report waits for its acknowledgement.
    pub reports_unacknowledged: Gauge,
    /// Proofs of life, to all controllers together.
    pub heartbeats_sent: Counter,
    /// Those that were answered.
    pub heartbeats_acknowledged: Counter,
}

/// The one set.
pub fn events() -> &'static Events {
    static EVENTS: LazyLock<Events> = LazyLock::new(Events::new);
    &EVENTS
}

/// A session that is open, until it is dropped.
pub struct Open(Gauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.set(0);
    }
}

/// A verb as a label.
pub fn word(verb: Verb) -> &'static str {
    match verb {
        Verb::Fetch => "fetch",
        Verb::Prepare => "prepare",
        Verb::Start => "start",
        Verb::PowerButton => "power_button",
        Verb::PowerCut => "power_cut",
        Verb::Remove => "remove",
    }
}

impl Events {
    fn new() -> Self {
        Self {
            verbs: Family::default(),
            verb_seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            sessions: Family::default(),
            network_changes: Family::default(),
            leader: Gauge::default(),
            obeyed_term: Gauge::default(),
            reports_sent: Counter::default(),
            network_reports_sent: Counter::default(),
            reports_acknowledged: Counter::default(),
            reports_unacknowledged: Gauge::default(),
            heartbeats_sent: Counter::default(),
            heartbeats_acknowledged: Counter::default(),
        }
    }

    /// A verb has ended: `done` or `failed`.
    pub fn verb(&self, verb: &'static str, result: &'static str, took: Duration) {
        let verb = ("verb", verb);
        self.verbs.get_or_create(&[verb, ("result", result)]).inc();
        let seconds = took.as_secs_f64();
        self.verb_seconds.get_or_create(&[verb]).observe(seconds);
    }

    /// Something of tenants' networks was made, replaced or taken away.
    pub fn network_changes(&self, kind: &'static str, count: u64) {
        let counter = self.network_changes.get_or_create(&[("kind", kind)]);
        counter.inc_by(count);
    }

    /// A controller's session, counted from 1 as in `controllers`.
    fn session(&self, link: LinkId) -> Gauge {
        let number = (link + 1).to_string();
        self.sessions.get_or_create_owned(&[("controller", number)])
    }

    /// A session has opened.
    pub fn session_open(&self, link: LinkId) -> Open {
        let gauge = self.session(link);
        gauge.set(1);
        Open(gauge)
    }

    fn register(&self, registry: &mut Registry) {
        let name = "nube_agent_verbs";
        registry.register(name, "Ended steps of instances", self.verbs.clone());
        let (name, help) = ("nube_agent_verb_duration_seconds", "How long steps took");
        registry.register(name, help, self.verb_seconds.clone());
        let (name, help) = (
            "nube_agent_session_open",
            "1 for each controller, by its place in the config, that talks with this agent",
        );
        registry.register(name, help, self.sessions.clone());
        let (name, help) = (
            "nube_agent_network_changes",
            "Addresses, routes, neighbours, rules of networks that were changed on this host",
        );
        registry.register(name, help, self.network_changes.clone());
        for (name, help, gauge) in [
            (
                "nube_agent_has_leader",
                "1 while a leader is obeyed",
                &self.leader,
            ),
            (
                "nube_agent_obeyed_term",
                "Newest term obeyed",
                &self.obeyed_term,
            ),
            (
                "nube_agent_reports_unacknowledged",
                "1 while a report waits for its acknowledgement",
                &self.reports_unacknowledged,
            ),
        ] {
            registry.register(name, help, gauge.clone());
        }
        for (name, help, counter) in [
            (
                "nube_agent_reports_sent",
                "Reports sent, repetitions too",
                &self.reports_sent,
            ),
            (
                "nube_agent_network_reports_sent",
                "Reports of traffic and of target health sent",
                &self.network_reports_sent,
            ),
            (
                "nube_agent_reports_acknowledged",
                "Reports that a leader has committed",
                &self.reports_acknowledged,
            ),
            (
                "nube_agent_heartbeats_sent",
                "Proofs of life sent",
                &self.heartbeats_sent,
            ),
            (
                "nube_agent_heartbeats_acknowledged",
                "Proofs of life answered",
                &self.heartbeats_acknowledged,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
    }
}

/// Serves this agent's figures for the life of the process, if it shall.
pub fn start(config: &Config, view: watch::Receiver<View>) {
    for link in 0..config.controllers.len() {
        // Absent and closed look alike otherwise.
        drop(events().session(link));
    }
    if let Some(address) = config.metrics_listen {
        let source = source(config.data_dir.clone(), view);
        tokio::spawn(endpoint::run(address, source));
    }
}

fn source(data_dir: PathBuf, view: watch::Receiver<View>) -> Arc<Source> {
    let mut registry = Registry::default();
    events().register(&mut registry);
    let version = env!("CARGO_PKG_VERSION");
    let process = nube_telemetry::process::collector(version, data_dir.clone());
    registry.register_collector(process);
    registry.register_collector(figures(move |sheet| {
        guests(sheet, &view.borrow());
        host(sheet);
        sheet.gauge(
            "nube_agent_image_cache_bytes",
            "Image files of this host, parts of unfinished ones too",
            bytes_in(&data_dir.join("images")),
        );
    }));
    Source::new(registry, || match events().leader.get() {
        1 => Ok(()),
        _ => Err("no leader".to_owned()),
    })
}

fn guests(sheet: &mut Sheet<'_>, view: &View) {
    const STATES: [InstanceState; 8] = [
        InstanceState::Pending,
        InstanceState::Starting,
        InstanceState::Running,
        InstanceState::Stopping,
        InstanceState::Stopped,
        InstanceState::Deleting,
        InstanceState::Deleted,
        InstanceState::Failed,
    ];
    let word = |state: InstanceState| {
        let name = state.as_str_name().trim_start_matches("INSTANCE_STATE_");
        name.to_ascii_lowercase()
    };
    let mut counts: BTreeMap<String, u64> = STATES.map(|state| (word(state), 0)).into();
    for seen in view.instances.values() {
        *counts.entry(word(seen.state())).or_default() += 1;
    }
    let help = "Instances on this host by state, as reported";
    sheet.gauges("nube_agent_instances", help, "state", counts);
    let live = |state| matches!(state, InstanceState::Running | InstanceState::Stopping);
    let machines = view.instances.values();
    let machines = machines.filter(|seen| live(seen.state()) && !seen.run_id.is_empty());
    sheet.gauge(
        "nube_agent_machines",
        "Machine processes (QEMU) that are known to live",
        machines.count(),
    );
    sheet.gauge(
        "nube_agent_unknown_resources",
        "Things on this host that no instance explains",
        view.unknown.len(),
    );
}

fn host(sheet: &mut Sheet<'_>) {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let bytes = |key: &str| field(&text, key).unwrap_or_default() * 1024;
    let total = bytes("MemTotal:");
    sheet.gauge("nube_agent_host_memory_bytes", "Memory of this host", total);
    sheet.gauge(
        "nube_agent_host_memory_available_bytes",
        "Memory that this host could still give away",
        bytes("MemAvailable:"),
    );
}

/// Of the files of one directory; the cache has no deeper ones.
fn bytes_in(dir: &std::path::Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return 0;
    };
    let sizes = entries.filter_map(|entry| entry.ok()?.metadata().ok());
    sizes
        .filter(std::fs::Metadata::is_file)
        .map(|file| file.len())
        .sum()
}

#[cfg(test)]
mod test {
    use super::*;
    use nube_proto::agent::v1::ObservedInstance;
    use nube_types::InstanceId;

    #[test]
    fn a_hosts_figures_follow_its_view() {
        let seen = |n, state: InstanceState, run: &str| {
            let seen = ObservedInstance {
                state: state.into(),
                run_id: run.to_owned(),
                ..Default::default()
            };
            (InstanceId(n), seen)
        };
        let view = View {
            instances: BTreeMap::from([
                seen(1, InstanceState::Running, "r1"),
                seen(2, InstanceState::Running, "r2"),
                seen(3, InstanceState::Stopped, "r3"),
            ]),
            unknown: vec!["tap of nobody".to_owned()],
        };
        let mut registry = Registry::default();
        registry.register_collector(figures(move |sheet| {
            guests(sheet, &view);
            host(sheet);
        }));
        events().register(&mut registry);
        let open = events().session_open(0);
        let mut text = String::new();
        let written = nube_telemetry::prometheus_client::encoding::text::encode;
        written(&mut text, &registry).expect("a string");
        for line in [
            "nube_agent_instances{state=\"running\"} 2\n",
            "nube_agent_instances{state=\"failed\"} 0\n",
            "nube_agent_machines 2\n",
            "nube_agent_unknown_resources 1\n",
            "nube_agent_session_open{controller=\"1\"} 1\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
        drop(open);
        assert!(!text.contains("tap of nobody"));
        assert_eq!(events().session(0).get(), 0);
    }

    #[test]
    fn dashboards_name_only_what_agents_export() {
        use nube_telemetry::names;
        events().verb("start", "done", Duration::from_millis(1));
        drop(events().session(0));
        let (_sender, view) = watch::channel(View::default());
        let source = source("/nonexistent".into(), view);
        let exported = names::exported(&source.page().expect("a page"));
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/dashboards");
        for file in ["nube.json", "alerts.yml"] {
            let text = std::fs::read_to_string(dir.join(file)).expect("readable");
            let ours = names::used(&text);
            let ours = ours.iter().filter(|name| name.starts_with("nube_agent_"));
            // The dashboard's own description speaks of the prefix.
            let absent: Vec<_> = ours
                .filter(|name| *name != "nube_agent_" && !exported.contains(*name))
                .collect();
            assert!(absent.is_empty(), "{file}: {absent:?}");
        }
    }

    #[test]
    fn the_cache_is_its_files() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("a"), [0; 10]).expect("written");
        std::fs::write(dir.path().join("b.part"), [0; 5]).expect("written");
        assert_eq!(bytes_in(dir.path()), 15);
        assert_eq!(bytes_in(&dir.path().join("absent")), 0);
    }
}
