//! `cluster …`. What makes files or processes of this machine is elsewhere:
//! `cluster/backup.rs`, and `up/restore.rs`.

mod backup;

use nube_proto::v1::cluster_service_client::ClusterServiceClient;
use nube_proto::v1::{
    Cluster, GetClusterRequest, JoinRole, Member, MemberRole, TransferLeadershipRequest,
};

use super::{App, member};
use crate::args::cluster::Cluster as Verb;
use crate::client::Client;
use crate::error::Result;
use crate::output::table::{Fields, Look, Table, Tone, Value};
use crate::output::text::{enum_word, or_dash, time};

/// `cluster …`.
pub async fn run(app: &App, verb: Verb) -> Result<()> {
    app.output.refuse_csv()?;
    match verb {
        Verb::Status { stale } => {
            let client = app.client()?;
            let cluster = match stale {
                true => get(&client, true).await?,
                false => get_from_all(&client).await?,
            };
            app.output.message(&cluster, |look| view(look, &cluster))
        }
        Verb::Backup(args) => backup::run(app, &args).await,
        Verb::Restore(args) => super::up::restore(app, args).await,
        Verb::Members => {
            let cluster = get_from_all(&app.client()?).await?;
            app.output.message(&cluster, |look| members(look, &cluster))
        }
        Verb::Add { name } => member::add(app, &app.client()?, JoinRole::Controller, &name).await,
        Verb::Remove { member } => member::remove(app, &app.client()?, member).await,
        Verb::Promote { member } => member::promote(app, &app.client()?, member).await,
        Verb::TransferLeader { member } => {
            let client = app.client()?;
            let request = TransferLeadershipRequest { member_id: member };
            let transfer = |channel| async move {
                ClusterServiceClient::new(channel)
                    .transfer_leadership(request)
                    .await
            };
            let done = client.call("transfer leadership", transfer).await?;
            let say = |_| format!("controller {member} leads\n");
            app.output.message(&done, say)
        }
    }
}

/// A controller that has not answered by then counts as silent.
const MEMBER_SILENT: std::time::Duration = std::time::Duration::from_secs(2);

/// Members, leader and log indexes.
pub async fn get(client: &Client, stale: bool) -> Result<Cluster> {
    let get = |channel| async move {
        ClusterServiceClient::new(channel)
            .get_cluster(GetClusterRequest { stale })
            .await
    };
    client.call("cluster status", get).await
}

/// Members, leader and log indexes, with every controller asked whether it
/// answers: a single one knows that of the others only while it leads.
pub async fn get_from_all(client: &Client) -> Result<Cluster> {
    let mut cluster = get(client, false).await?;
    let asked: Vec<_> = client
        .each()
        .map(|(address, channel)| async move {
            let mut service = ClusterServiceClient::new(channel);
            let call = service.get_cluster(GetClusterRequest { stale: true });
            let answer = tokio::time::timeout(MEMBER_SILENT, call).await;
            (address, answer.ok().and_then(Result::ok))
        })
        .collect();
    let answers = futures::future::join_all(asked).await;
    // What only the leader knows: those that this client has no address of.
    let leader = answers.iter().find_map(|(_, answer)| {
        let answer = answer.as_ref()?.get_ref();
        (answer.answered_by == cluster.leader_id).then_some(answer)
    });
    for member in &mut cluster.members {
        let asked = answers
            .iter()
            .find(|(address, _)| *address == member.address);
        let seen = leader.and_then(|answer| answer.members.iter().find(|m| m.id == member.id));
        match (asked, seen) {
            (Some((_, answer)), _) => member.reachable = answer.is_some(),
            (None, Some(seen)) => member.reachable = seen.reachable,
            (None, None) => {}
        }
        if let Some(seen) = seen {
            member.matched_index = seen.matched_index;
        }
    }
    Ok(cluster)
}

/// The controllers for people, the leader marked.
pub fn members(look: Look, cluster: &Cluster) -> String {
    let header = [
        "CONTROLLER",
        "ADDRESS",
        "ROLE",
        "STATE",
        "NAME",
        "+>MATCHED",
    ];
    let mut table = Table::new(look, &header);
    for member in &cluster.members {
        table.row([
            member.id.to_string().into(),
            member.address.as_str().into(),
            role(cluster, member),
            match member.reachable {
                true => Value::new("up", Tone::Good),
                false => Value::new("silent", Tone::Bad),
            },
            or_dash(&member.name).into(),
            member.matched_index.to_string().into(),
        ]);
    }
    table.render_or("no controllers are known")
}

fn role(cluster: &Cluster, member: &Member) -> Value {
    if member.id == cluster.leader_id && cluster.leader_id != 0 {
        return Value::new("* leader", Tone::Good);
    }
    if member.joining || member.leaving {
        let word = if member.joining { "joining" } else { "leaving" };
        return Value::new(format!("  {word}"), Tone::Busy);
    }
    let word = match member.role() {
        // The answering controller may lag behind in what it says of others.
        MemberRole::Leader => "follower".to_owned(),
        role => enum_word(role.as_str_name(), "MEMBER_ROLE"),
    };
    Value::new(format!("  {word}"), Tone::Plain)
}

fn view(look: Look, cluster: &Cluster) -> String {
    let mut fields = Fields::default();
    fields.add("cluster", &cluster.id);
    fields.add(
        "leader",
        match cluster.leader_id {
            0 => "none".to_owned(),
            id => format!("{id}, term {}", cluster.term),
        },
    );
    let (commit, applied) = (cluster.commit_index, cluster.applied_index);
    fields.add("log", format!("committed {commit}, applied {applied}"));
    fields.add("state hash", &cluster.state_hash);
    fields.add("time", time(cluster.time_ms));
    fields.add(
        "nodes",
        format!("{} of {} ready", cluster.nodes_ready, cluster.nodes),
    );
    let running = cluster.instances_running;
    fields.add(
        "instances",
        format!("{} ({running} running)", cluster.instances),
    );
    fields.add("answered by", cluster.answered_by.to_string());
    fields.add("version", &cluster.version);
    format!("{}\n{}", fields.render(), members(look, cluster))
}

#[cfg(test)]
pub mod test {
    use super::*;

    /// Three controllers, the second leads, the third is gone.
    pub fn sample() -> Cluster {
        let member = |id: u64, role: MemberRole, reachable: bool| Member {
            id,
            address: format!("127.0.0.1:710{id}"),
            role: role as i32,
            reachable,
            matched_index: 40 + id,
            ..Member::default()
        };
        Cluster {
            id: "0123456789abcdef0123456789abcdef".into(),
            members: vec![
                member(1, MemberRole::Follower, true),
                member(2, MemberRole::Leader, true),
                member(3, MemberRole::Follower, false),
            ],
            leader_id: 2,
            term: 3,
            commit_index: 43,
            applied_index: 43,
            time_ms: 1_790_000_000_000,
            state_hash: "ab".repeat(32),
            nodes: 2,
            nodes_ready: 2,
            instances: 1,
            instances_running: 1,
            answered_by: 1,
            version: "0.1.0".into(),
            ..Cluster::default()
        }
    }

    #[test]
    fn newcomers_and_leavers_are_told_apart() {
        let mut cluster = sample();
        cluster.members[2].leaving = true;
        let newcomer = |id: u64, role: MemberRole, joining| Member {
            id,
            address: format!("10.0.0.{id}:7000"),
            role: role as i32,
            reachable: true,
            name: format!("spare-{id}"),
            joining,
            ..Member::default()
        };
        cluster
            .members
            .push(newcomer(4, MemberRole::Learner, false));
        cluster.members.push(newcomer(5, MemberRole::Learner, true));
        let text = members(Look::default(), &cluster);
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        crate::golden::check("cluster_members", &text);
    }

    #[test]
    fn the_leader_is_marked() {
        let text = view(Look::default(), &sample());
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        crate::golden::check("cluster_status", &text);
    }
}
