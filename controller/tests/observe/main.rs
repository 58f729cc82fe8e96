//! One real controller process, watched from outside: its figures are those
//! that dashboard and rules use, a launch is one line with its fields, and its
//! spans reach an OTLP collector.

mod cloud;
mod collector;

use std::path::Path;

use cloud::{Cloud, get};
use collector::Collector;
use nube_telemetry::names;

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_is_seen_in_figures_lines_and_spans() {
    let collector = Collector::start().await;
    let mut cloud = Cloud::start(&collector.endpoint).await;
    let request_id = cloud.launch().await;

    let span = collector
        .span("nube.v1.InstanceService/LaunchInstances")
        .await;
    assert_eq!(span.text("request_id").as_deref(), Some(&*request_id));
    assert_eq!(span.text("actor").as_deref(), Some("operator/admin"));
    assert_eq!(span.text("code").as_deref(), Some("OK"));
    let inner = collector.span_below(&span, "propose").await;
    assert_eq!(inner.0.trace_id, span.0.trace_id);

    figures(&cloud).await;
    let health = get(cloud.metrics, "/healthz").await;
    assert!(health.starts_with("HTTP/1.1 200 "), "{health}");

    let log = cloud.stop().await;
    let lines = log.lines().filter(|line| line.contains("call ended"));
    let launches: Vec<serde_json::Value> = lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .filter(|line: &serde_json::Value| line["span"]["request_id"] == request_id)
        .collect();
    assert_eq!(launches.len(), 1, "one line for one mutation:\n{log}");
    let span = &launches[0]["span"];
    assert_eq!(span["method"], "nube.v1.InstanceService/LaunchInstances");
    assert_eq!(span["actor"], "operator/admin");
    assert_eq!(span["code"], "OK");
    assert!(!log.contains("ListInstances"), "reads are not in the log");
}

async fn figures(cloud: &Cloud) {
    let page = get(cloud.metrics, "/metrics").await;
    let exported = names::exported(&page);
    for file in ["nube.json", "alerts.yml"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/dashboards");
        let text = std::fs::read_to_string(path.join(file)).expect("readable");
        let used = names::used(&text);
        // Those of agents are held to an agent, in its own crate.
        let used = used.iter().filter(|name| !name.starts_with("nube_agent_"));
        let absent: Vec<_> = used.filter(|name| !exported.contains(*name)).collect();
        assert!(absent.is_empty(), "{file}: {absent:?}\n{page}");
    }
    for line in [
        "nube_raft_role{role=\"leader\"} 1\n",
        "nube_raft_has_leader 1\n",
        "nube_instances{state=\"pending\"} 1\n",
        "nube_nodes{state=\"ready\"} 1\n",
        "nube_state_records{table=\"images\"} 1\n",
        "nube_sessions 1\n",
        "nube_raft_leader_changes_total 1\n",
        "nube_rpcs_total{method=\"nube.v1.InstanceService/LaunchInstances\",code=\"OK\"} 1\n",
    ] {
        assert!(page.contains(line), "{line}{page}");
    }
    // Tenants' names stay inside.
    assert!(!page.contains("secret-name"), "{page}");
}
