//! `list`, `show`, `start`, `stop`, `reboot`, `delete`.

use std::time::Duration;

use nube_proto::v1::instance_service_client::InstanceServiceClient;
use nube_proto::v1::{
    ChangeInstanceRequest, DesiredState, GetInstanceRequest, HostFailurePolicy, Instance,
    InstanceStage, InstanceState, ListInstancesRequest, ListInstancesResponse,
};

use super::{App, wait};
use crate::args::instance::{Change, List, Show};
use crate::client::Client;
use crate::error::Result;
use crate::output::table::{Fields, Look, Table, Tone, Value};
use crate::output::text::{age, enum_word, mib, money, now_ms, or_dash, time};

/// Which change is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    Start,
    Stop,
    Reboot,
    Delete,
}

impl Wish {
    fn verb(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Reboot => "reboot",
            Self::Delete => "delete",
        }
    }

    /// The state that ends `--wait`.
    pub fn goal(self) -> InstanceState {
        match self {
            Self::Start | Self::Reboot => InstanceState::Running,
            Self::Stop => InstanceState::Stopped,
            Self::Delete => InstanceState::Deleted,
        }
    }
}

/// `list`.
pub async fn list(app: &App, args: List) -> Result<()> {
    let client = app.client()?;
    let all = list_all(&client, args.labels.into_iter().collect(), args.all).await?;
    let table = |look| list_table(look, &all.instances, now_ms());
    app.output.message(&all, table)
}

/// Every page, merged into one answer.
pub async fn list_all(
    client: &Client,
    labels: std::collections::BTreeMap<String, String>,
    include_deleted: bool,
) -> Result<ListInstancesResponse> {
    let mut merged = ListInstancesResponse::default();
    loop {
        let request = ListInstancesRequest {
            page_size: nube_types::limits::PAGE_SIZE_MAX,
            page_token: std::mem::take(&mut merged.next_page_token),
            labels: labels.clone(),
            include_deleted,
        };
        let list = |channel| {
            let request = request.clone();
            async move {
                InstanceServiceClient::new(channel)
                    .list_instances(request)
                    .await
            }
        };
        let page = client.call("list", list).await?;
        merged.instances.extend(page.instances);
        merged.revision = page.revision;
        merged.next_page_token = page.next_page_token;
        if merged.next_page_token.is_empty() {
            return Ok(merged);
        }
    }
}

/// `show`.
pub async fn show(app: &App, args: Show) -> Result<()> {
    let instance = get(&app.client()?, &args.instance).await?;
    app.output.message(&instance, |_| details(&instance))
}

/// One instance by name or id.
pub async fn get(client: &Client, name: &str) -> Result<Instance> {
    let request = GetInstanceRequest {
        instance: name.to_owned(),
    };
    let get = |channel| {
        let request = request.clone();
        async move {
            InstanceServiceClient::new(channel)
                .get_instance(request)
                .await
        }
    };
    client.call("show", get).await
}

/// `start`, `stop`, `reboot`, `delete`: one mutation per name.
pub async fn change(app: &App, wish: Wish, args: Change, force: bool) -> Result<()> {
    app.output.refuse_csv()?;
    let client = app.client()?;
    client.allow_mutations(args.instances.len())?;
    let mut changed = ListInstancesResponse::default();
    for name in &args.instances {
        let request = ChangeInstanceRequest {
            request_id: client.request_id(),
            instance: name.clone(),
            force,
        };
        let instance = ask(&client, wish, request).await?;
        changed.revision = changed.revision.max(instance.revision);
        changed.instances.push(instance);
    }
    if args.wait {
        settle(&client, wish, &mut changed.instances, args.wait_timeout).await?;
    }
    let table = |look| list_table(look, &changed.instances, now_ms());
    match changed.instances.as_slice() {
        [one] => app.output.message(one, table),
        _ => app.output.message(&changed, table),
    }
}

async fn ask(client: &Client, wish: Wish, request: ChangeInstanceRequest) -> Result<Instance> {
    let change = |channel| {
        let request = request.clone();
        async move {
            let mut client = InstanceServiceClient::new(channel);
            match wish {
                Wish::Start => client.start_instance(request).await,
                Wish::Stop => client.stop_instance(request).await,
                Wish::Reboot => client.reboot_instance(request).await,
                Wish::Delete => client.delete_instance(request).await,
            }
        }
    };
    client.call(wish.verb(), change).await
}

async fn settle(
    client: &Client,
    wish: Wish,
    instances: &mut [Instance],
    timeout: Duration,
) -> Result<()> {
    for instance in instances {
        let reached = wait::until(client, instance, wish.goal(), |_| {});
        *instance = wait::limited(timeout, instance.name.clone(), reached).await?;
    }
    Ok(())
}

/// The state as a word with its colour.
pub fn state_value(instance: &Instance) -> Value {
    let state = instance.state();
    let word = enum_word(state.as_str_name(), "INSTANCE_STATE");
    let tone = match state {
        InstanceState::Running if !instance.node_reachable => Tone::Busy,
        InstanceState::Running => Tone::Good,
        InstanceState::Failed => Tone::Bad,
        InstanceState::Pending
        | InstanceState::Starting
        | InstanceState::Stopping
        | InstanceState::Deleting => Tone::Busy,
        _ => Tone::Plain,
    };
    // A silent host: the guest is believed to run, and the word says so.
    let doubt = state == InstanceState::Running && !instance.node_reachable;
    Value::new(if doubt { format!("{word}?") } else { word }, tone)
}

/// The list for people.
pub fn list_table(look: Look, instances: &[Instance], now_ms: u64) -> String {
    let header = [
        "NAME", "TYPE", "STATE", "ADDRESS", "NODE", "IMAGE", ">PRICE/H", ">AGE", "+ID", "+>VCPUS",
        "+>MEMORY", "+>DISK", "+LABELS", "+NETWORK", "+ELASTIC",
    ];
    let mut table = Table::new(look, &header);
    for instance in instances {
        table.row([
            instance.name.as_str().into(),
            instance.instance_type.as_str().into(),
            state_value(instance),
            or_dash(&instance.private_ip).into(),
            or_dash(&instance.node_name).into(),
            or_dash(&instance.image_name).into(),
            money(instance.price_nanos_per_hour, 4).into(),
            age(instance.created_at_ms, now_ms).into(),
            instance.id.as_str().into(),
            instance.vcpus.to_string().into(),
            mib(instance.memory_mib).into(),
            mib(instance.disk_mib).into(),
            or_dash(&labels(instance)).into(),
            or_dash(&instance.network_name).into(),
            or_dash(&instance.elastic_address).into(),
        ]);
    }
    let mut text = table.render_or("no instances; `cloudctl launch IMAGE` makes one");
    for instance in instances.iter().filter(|i| !i.reason.is_empty()) {
        let line = format!("{}: {}", instance.name, instance.reason);
        text.push_str(&format!("{}\n", crate::output::text::escape(&line)));
    }
    text
}

fn labels(instance: &Instance) -> String {
    let pairs = instance.labels.iter().map(|(k, v)| format!("{k}={v}"));
    pairs.collect::<Vec<_>>().join(",")
}

/// All fields for people.
fn details(i: &Instance) -> String {
    let mut fields = Fields::default();
    fields.add("name", &i.name);
    fields.add("id", &i.id);
    fields.add("project", &i.project_id);
    fields.add("state", state_line(i));
    fields.add("reason", &i.reason);
    fields.add("type", size_line(i));
    let price = money(i.price_nanos_per_hour, 4);
    fields.add(
        "price",
        format!("{price} {} per hour of running", i.currency),
    );
    fields.add("image", format!("{} ({})", i.image_name, i.image_id));
    fields.add("node", node_line(i));
    let policy = i.on_host_failure();
    if policy != HostFailurePolicy::Unspecified {
        let word = enum_word(policy.as_str_name(), "HOST_FAILURE_POLICY");
        fields.add("if lost", word);
    }
    fields.add(
        "address",
        format!("{} in {}", or_dash(&i.private_ip), i.network_id),
    );
    let network = match i.network_name.as_str() {
        "" => String::new(),
        name => format!("{name} ({})", i.subnet_id),
    };
    fields.add("network", network);
    fields.add("ipv6", &i.ipv6);
    fields.add("elastic", &i.elastic_address);
    fields.add("groups", i.security_groups.join(", "));
    if i.internet_bytes_out > 0 || i.internet_bytes_in > 0 {
        let (out, into) = (i.internet_bytes_out, i.internet_bytes_in);
        fields.add("internet", format!("{out} bytes out, {into} in"));
    }
    fields.add("mac", &i.mac_address);
    fields.add("login user", &i.user);
    fields.add("ssh keys", i.ssh_key_ids.join(", "));
    fields.add("host key", &i.ssh_host_key_fingerprint);
    fields.add("labels", labels(i));
    fields.add("created", time(i.created_at_ms));
    fields.add("changed", time(i.state_changed_at_ms));
    let generations = format!("{} wished, {} applied", i.generation, i.applied_generation);
    fields.add("generation", generations);
    fields.add("revision", i.revision.to_string());
    fields.render()
}

fn state_line(i: &Instance) -> String {
    let mut line = enum_word(i.state().as_str_name(), "INSTANCE_STATE");
    let moving = matches!(i.state(), InstanceState::Pending | InstanceState::Starting);
    if moving && i.stage() != InstanceStage::Unspecified {
        let stage = enum_word(i.stage().as_str_name(), "INSTANCE_STAGE");
        line.push_str(&format!(" (stage {stage})"));
    }
    let desired = enum_word(i.desired_state().as_str_name(), "DESIRED_STATE");
    if i.desired_state() != DesiredState::Unspecified && desired != line {
        line.push_str(&format!(", wished {desired}"));
    }
    if !i.node_reachable && i.state() == InstanceState::Running {
        line.push_str("; its host is silent, so nobody can tell");
    }
    line
}

fn size_line(i: &Instance) -> String {
    format!(
        "{}: {} vCPU, {} memory, {} disk",
        i.instance_type,
        i.vcpus,
        mib(i.memory_mib),
        mib(i.disk_mib)
    )
}

fn node_line(i: &Instance) -> String {
    let silent = if i.node_reachable { "" } else { ", silent" };
    let placed = i.placement_epoch;
    format!(
        "{} ({}), placement {placed}{silent}",
        or_dash(&i.node_name),
        or_dash(&i.node_id)
    )
}

#[cfg(test)]
pub mod test {
    use super::*;

    /// An instance as the controllers would show it.
    pub fn sample(name: &str, state: InstanceState) -> Instance {
        Instance {
            id: "i-00c0ffee00c0ffee".into(),
            name: name.into(),
            project_id: "p-0000000000000001".into(),
            instance_type: "n1.micro".into(),
            image_id: "img-00000000000000aa".into(),
            image_name: "micro".into(),
            desired_state: DesiredState::Running as i32,
            state: state as i32,
            vcpus: 1,
            memory_mib: 256,
            disk_mib: 1024,
            node_id: "n-0000000000000001".into(),
            node_name: "node-1".into(),
            placement_epoch: 1,
            network_id: "net-0000000000000001".into(),
            private_ip: "10.64.0.2".into(),
            mac_address: "02:00:00:00:00:01".into(),
            ssh_key_ids: vec!["key-0000000000000007".into()],
            ssh_host_key_fingerprint: "SHA256:abc".into(),
            user: "nube".into(),
            labels: [("team".to_owned(), "web".to_owned())].into(),
            created_at_ms: 1_790_000_000_000,
            state_changed_at_ms: 1_790_000_003_000,
            price_nanos_per_hour: 2_000_000,
            currency: "USD".into(),
            revision: 42,
            generation: 1,
            applied_generation: 1,
            node_reachable: true,
            on_host_failure: HostFailurePolicy::Keep as i32,
            ..Instance::default()
        }
    }

    fn samples() -> Vec<Instance> {
        let mut failed = sample("db", InstanceState::Failed);
        failed.reason = "the image's digest differs\u{1b}[2J; import it again".into();
        let mut silent = sample("a-much-longer-name-of-a-host", InstanceState::Running);
        silent.node_reachable = false;
        vec![sample("web", InstanceState::Running), silent, failed]
    }

    #[test]
    fn lists_are_golden() {
        let now = 1_790_000_060_000;
        let text = list_table(Look::default(), &samples(), now);
        crate::golden::check("instance_list", &text);
        let wide = Look {
            wide: true,
            ..Look::default()
        };
        crate::golden::check("instance_list_wide", &list_table(wide, &samples(), now));
        let usual = list_table(Look::default(), &samples()[..1], now);
        assert!(
            usual.lines().all(|line| line.chars().count() <= 80),
            "{usual}"
        );
    }

    #[test]
    fn details_are_golden() {
        let mut starting = sample("web", InstanceState::Starting);
        starting.stage = InstanceStage::Image as i32;
        let text = details(&sample("web", InstanceState::Running)) + &details(&starting);
        crate::golden::check("instance_show", &text);
    }
}
