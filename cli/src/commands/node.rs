//! `node list`, `show`, `drain`, `uncordon`, `label`.

use nube_proto::v1::node_service_client::NodeServiceClient;
use nube_proto::v1::{
    ChangeNodeRequest, GetNodeRequest, JoinRole, ListNodesRequest, ListNodesResponse, Node,
    NodeState, SetNodeLabelsRequest,
};

use super::{App, member};
use crate::args::node::{LabelEdit, Node as Verb};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::output::table::{Fields, Look, Table, Tone, Value};
use crate::output::text::{enum_word, gib_of, or_dash, plural, time};

/// `node …`.
pub async fn run(app: &App, verb: Verb) -> Result<()> {
    app.output.refuse_csv()?;
    let client = app.client()?;
    let node = match verb {
        Verb::List => {
            let all = list_all(&client).await?;
            return app.output.message(&all, |look| table(look, &all.nodes));
        }
        Verb::Add { name } => return member::add(app, &client, JoinRole::Agent, &name).await,
        Verb::Show { node } => get(&client, node).await?,
        Verb::Drain { node } => change(&client, node, true).await?,
        Verb::Uncordon { node } => change(&client, node, false).await?,
        Verb::Label { node, labels } => label(&client, node, labels).await?,
    };
    app.output.message(&node, |_| details(&node))
}

/// Every page, merged into one answer.
pub async fn list_all(client: &Client) -> Result<ListNodesResponse> {
    let mut merged = ListNodesResponse::default();
    loop {
        let request = ListNodesRequest {
            page_size: nube_types::limits::PAGE_SIZE_MAX,
            page_token: std::mem::take(&mut merged.next_page_token),
        };
        let list = |channel| {
            let request = request.clone();
            async move { NodeServiceClient::new(channel).list_nodes(request).await }
        };
        let page = client.call("list nodes", list).await?;
        merged.nodes.extend(page.nodes);
        merged.revision = page.revision;
        merged.next_page_token = page.next_page_token;
        if merged.next_page_token.is_empty() {
            return Ok(merged);
        }
    }
}

async fn get(client: &Client, node: String) -> Result<Node> {
    let request = GetNodeRequest { node };
    let get = |channel| {
        let request = request.clone();
        async move { NodeServiceClient::new(channel).get_node(request).await }
    };
    client.call("show node", get).await
}

async fn change(client: &Client, node: String, drain: bool) -> Result<Node> {
    let request = ChangeNodeRequest {
        request_id: client.request_id(),
        node,
    };
    let change = |channel| {
        let request = request.clone();
        async move {
            let mut client = NodeServiceClient::new(channel);
            match drain {
                true => client.drain_node(request).await,
                false => client.uncordon_node(request).await,
            }
        }
    };
    client
        .call(if drain { "drain" } else { "uncordon" }, change)
        .await
}

async fn label(client: &Client, node: String, edits: Vec<LabelEdit>) -> Result<Node> {
    let mut request = SetNodeLabelsRequest {
        request_id: client.request_id(),
        node,
        ..SetNodeLabelsRequest::default()
    };
    for edit in edits {
        match edit {
            LabelEdit::Set(key, value) => {
                request.labels.insert(key, value);
            }
            LabelEdit::Remove(key) => request.remove.push(key),
        }
    }
    // Which of both would win is nobody's to guess.
    if let Some(key) = request
        .remove
        .iter()
        .find(|k| request.labels.contains_key(*k))
    {
        return Err(Error::usage(format!("`{key}` is both set and removed")));
    }
    call!(client, "label", NodeServiceClient.set_node_labels(request))
}

/// The state as a word with its colour.
pub fn state_value(node: &Node) -> Value {
    let word = enum_word(node.state().as_str_name(), "NODE_STATE");
    match node.state() {
        NodeState::Ready if node.drained => Value::new("drained", Tone::Busy),
        NodeState::Ready if node.evictions > 0 => Value::new("clearing", Tone::Busy),
        NodeState::Ready => Value::new(word, Tone::Good),
        _ if node.fenced && node.drained => Value::new("fenced, drained", Tone::Bad),
        _ if node.fenced => Value::new("fenced", Tone::Bad),
        _ if node.drained => Value::new(format!("{word}, drained"), Tone::Bad),
        _ => Value::new(word, Tone::Bad),
    }
}

/// Virtual CPUs in use, of what the cores hold with overcommit.
fn vcpus(node: &Node) -> String {
    let percent = u64::from(node.vcpu_overcommit_percent.max(100));
    let rentable = u64::from(node.vcpus_total) * percent / 100;
    format!("{}/{rentable}", node.vcpus_used)
}

/// The list for people.
pub fn table(look: Look, nodes: &[Node]) -> String {
    let header = [
        "NODE",
        "STATE",
        ">VCPUS",
        ">MEMORY GIB",
        ">DISK GIB",
        "ACCEL",
        ">INSTANCES",
        "+ZONE",
        "+ISOLATION",
        "+ID",
        "+AGENT",
        "+HYPERVISOR",
        "+KERNEL",
    ];
    let mut table = Table::new(look, &header);
    for node in nodes {
        let isolation = node.isolation();
        table.row([
            node.name.as_str().into(),
            state_value(node),
            vcpus(node).into(),
            gib_of(node.memory_mib_used, node.memory_mib_total).into(),
            gib_of(node.disk_mib_used, node.disk_mib_total).into(),
            or_dash(&node.accelerator).into(),
            node.instances.to_string().into(),
            or_dash(&node.zone).into(),
            enum_word(isolation.as_str_name(), "ISOLATION_CLASS_OFFERED").into(),
            node.id.as_str().into(),
            or_dash(&node.agent_version).into(),
            or_dash(&node.hypervisor_version).into(),
            or_dash(&node.kernel_version).into(),
        ]);
    }
    table.render_or("no nodes; an agent joins with its first session")
}

fn times(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        _ => format!("{count} times"),
    }
}

fn details(n: &Node) -> String {
    let mut fields = Fields::default();
    fields.add("name", &n.name);
    fields.add("id", &n.id);
    fields.add("zone", &n.zone);
    let drained = if n.drained { ", drained" } else { "" };
    let state = enum_word(n.state().as_str_name(), "NODE_STATE");
    let fenced = if n.fenced { ", fenced" } else { "" };
    fields.add("state", format!("{state}{fenced}{drained}"));
    if n.evictions > 0 {
        let left = plural(n.evictions as usize, "instance");
        fields.add("to clear away", format!("{left} that began anew elsewhere"));
    }
    if n.fence_epoch > 0 {
        fields.add("taken for lost", times(n.fence_epoch));
    }
    fields.add("last seen", time(n.last_seen_at_ms));
    let cores = n.vcpus_total;
    let percent = n.vcpu_overcommit_percent;
    fields.add(
        "vcpus",
        format!("{} used ({cores} cores at {percent} %)", vcpus(n)),
    );
    let gib = |used, total| format!("{} GiB used", gib_of(used, total));
    fields.add("memory", gib(n.memory_mib_used, n.memory_mib_total));
    fields.add("disk", gib(n.disk_mib_used, n.disk_mib_total));
    fields.add("instances", n.instances.to_string());
    let why = match n.accelerator_reason.as_str() {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    fields.add("accelerator", format!("{}{why}", n.accelerator));
    let isolation = enum_word(n.isolation().as_str_name(), "ISOLATION_CLASS_OFFERED");
    fields.add("isolation", isolation);
    fields.add("drivers", n.drivers.join(", "));
    let labels: Vec<_> = n.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    fields.add("labels", labels.join(","));
    fields.add("agent", &n.agent_version);
    fields.add("hypervisor", &n.hypervisor_version);
    fields.add("kernel", &n.kernel_version);
    fields.add("boot id", &n.boot_id);
    fields.add("unknown", n.unknown_resources.join(", "));
    fields.add("revision", n.revision.to_string());
    fields.render()
}

#[cfg(test)]
pub mod test {
    use super::*;
    use nube_proto::v1::IsolationClassOffered;

    /// A node as the controllers would show it.
    pub fn sample(name: &str, state: NodeState) -> Node {
        Node {
            id: "n-0000000000000001".into(),
            name: name.into(),
            zone: "local".into(),
            state: state as i32,
            vcpus_total: 2,
            vcpus_used: 1,
            vcpu_overcommit_percent: 400,
            memory_mib_total: 4096,
            memory_mib_used: 256,
            disk_mib_total: 40_960,
            disk_mib_used: 1024,
            accelerator: "tcg".into(),
            accelerator_reason: "guest code hangs under KVM here".into(),
            isolation: IsolationClassOffered::None as i32,
            instances: 1,
            agent_version: "0.1.0".into(),
            hypervisor_version: "7.2.22".into(),
            kernel_version: "6.1.0".into(),
            drivers: vec!["qemu".into()],
            ..Node::default()
        }
    }

    #[test]
    fn nodes_are_golden() {
        let mut drained = sample("node-2", NodeState::Ready);
        drained.drained = true;
        let nodes = [
            sample("node-1", NodeState::Ready),
            drained,
            sample("node-3", NodeState::Unreachable),
        ];
        let text = table(Look::default(), &nodes);
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        crate::golden::check("node_list", &text);
        crate::golden::check("node_show", &details(&nodes[0]));
        let mut lost = sample("node-3", NodeState::Unreachable);
        (lost.fenced, lost.fence_epoch) = (true, 2);
        let mut back = sample("node-4", NodeState::Ready);
        (back.fence_epoch, back.evictions) = (1, 3);
        let nodes = [lost, back];
        let text = format!(
            "{}\n{}\n{}",
            table(Look::default(), &nodes),
            details(&nodes[0]),
            details(&nodes[1])
        );
        crate::golden::check("node_lost", &text);
    }
}
