//! `status`: the whole cloud on one screen.

use std::collections::BTreeMap;

use nube_proto::v1::{Bill, Cluster, Instance, Node};
use serde_json::json;

use super::{App, bill, cluster, instance, node};
use crate::error::Result;
use crate::output::json::value;
use crate::output::table::Look;
use crate::output::text::{enum_word, escape, money, plural, time};

/// `status`.
pub async fn run(app: &App) -> Result<()> {
    app.output.refuse_csv()?;
    let client = app.client()?;
    let cluster = cluster::get_from_all(&client).await?;
    let nodes = node::list_all(&client).await?.nodes;
    let instances = instance::list_all(&client, BTreeMap::new(), false).await?;
    let bill = bill::get(&client, Default::default()).await?;
    let states = by_state(&instances.instances);
    let listed: Result<Vec<_>> = nodes.iter().map(value).collect();
    let answer = json!({
        "cluster": value(&cluster)?,
        "nodes": listed?,
        "instances_by_state": states,
        "bill": {
            "currency": bill.currency,
            "as_of_ms": bill.as_of_ms.to_string(),
            "total_nanos": bill.total_nanos.to_string(),
        },
    });
    let view = |look| view(look, &cluster, &nodes, &states, &bill);
    app.output.value(&answer, view)
}

fn by_state(instances: &[Instance]) -> BTreeMap<String, usize> {
    let mut states = BTreeMap::new();
    for instance in instances {
        let word = enum_word(instance.state().as_str_name(), "INSTANCE_STATE");
        *states.entry(word).or_insert(0) += 1;
    }
    states
}

fn view(
    look: Look,
    cluster: &Cluster,
    nodes: &[Node],
    states: &BTreeMap<String, usize>,
    bill: &Bill,
) -> String {
    let counts: Vec<_> = states
        .iter()
        .map(|(word, n)| format!("{n} {word}"))
        .collect();
    let total: usize = states.values().sum();
    let instances = match total {
        0 => "no instances".to_owned(),
        _ => format!("{}: {}", plural(total, "instance"), counts.join(", ")),
    };
    let amount = money(bill.total_nanos, 2);
    let bill = format!(
        "bill this month: {amount} {} as of {}",
        escape(&bill.currency),
        time(bill.as_of_ms)
    );
    format!(
        "{}\n{}\n{instances}\n{bill}\n",
        cluster::members(look, cluster),
        node::table(look, nodes),
    )
}

#[cfg(test)]
mod test {
    use super::*;
    use nube_proto::v1::{InstanceState, NodeState};

    #[test]
    fn one_screen_tells_all() {
        let running = instance::test::sample("web", InstanceState::Running);
        let stopped = instance::test::sample("db", InstanceState::Stopped);
        let states = by_state(&[running.clone(), running, stopped]);
        let nodes = [
            node::test::sample("node-1", NodeState::Ready),
            node::test::sample("node-2", NodeState::Ready),
        ];
        let bill = Bill {
            currency: "USD".into(),
            as_of_ms: 1_790_000_000_000,
            total_nanos: 33_333_333,
            ..Bill::default()
        };
        let cluster = cluster::test::sample();
        let text = view(Look::default(), &cluster, &nodes, &states, &bill);
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        crate::golden::check("status", &text);
    }
}
