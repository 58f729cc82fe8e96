//! The controllers, compared: pure, over what each of them answered.

use std::collections::{BTreeMap, BTreeSet};

use nube_proto::v1::{Cluster, Member, MemberRole};

use super::check::Check;
use crate::output::text::plural;

const AREA: &str = "cell";
/// The header that tells a controller's time has whole seconds.
const SKEW_MS_MAX: i64 = 2_500;
/// Tokens live ten minutes; bills follow what most controllers agree on.
const SKEW_MS_BAD: i64 = 60_000;
/// Further behind, a member is busy catching up: it does not count as a spare.
const LAG_MAX: u64 = 1_000;
/// A disk or a network this slow shows in every call.
const ANSWER_MS_MAX: u64 = 500;

/// One controller as it was found.
#[derive(Debug, Clone)]
pub struct Answer {
    /// As in `client.toml`.
    pub address: String,
    /// What it said of itself, or why it did not.
    pub said: Result<Said, String>,
}

/// What a controller said.
#[derive(Debug, Clone)]
pub struct Said {
    /// Its own view, at the newest index that most had in common.
    pub cluster: Cluster,
    /// State hashes by index, from every time it was asked.
    pub hashes: BTreeMap<u64, String>,
    /// Its clock minus ours.
    pub skew_ms: Option<i64>,
    /// Of the fastest answer.
    pub took_ms: u64,
}

/// Everything that can be said of the control plane.
pub fn check(answers: &[Answer]) -> Vec<Check> {
    let mut checks: Vec<Check> = answers.iter().map(controller).collect();
    checks.push(leader(answers));
    checks.push(hashes(answers));
    checks.extend(quorum(answers));
    checks
}

/// Whether reads that need a leader can be tried.
pub fn can_read(answers: &[Answer]) -> bool {
    said(answers).any(|said| said.cluster.leader_id != 0)
}

fn said(answers: &[Answer]) -> impl Iterator<Item = &Said> {
    answers
        .iter()
        .filter_map(|answer| answer.said.as_ref().ok())
}

fn controller(answer: &Answer) -> Check {
    let said = match &answer.said {
        Ok(said) => said,
        Err(reason) => {
            let name = format!("controller {}", answer.address);
            let todo = "start it, or look into its log; `cloudctl up` starts this machine's cloud";
            return Check::fail(AREA, name, reason.as_str(), todo);
        }
    };
    let cluster = &said.cluster;
    let name = format!("controller {}", cluster.answered_by);
    let own = env!("CARGO_PKG_VERSION");
    let skew = said.skew_ms.unwrap_or_default();
    let found = format!(
        "{} ms, version {}, term {}, entry {}, clock {:+.0} s",
        said.took_ms,
        cluster.version,
        cluster.term,
        cluster.applied_index,
        // Minus zero reads like a finding.
        (skew as f64 / 1_000.0).round() + 0.0,
    );
    if skew.abs() > SKEW_MS_BAD {
        let todo = "set the clocks (NTP): certificates, tokens and the bill follow them";
        return Check::fail(AREA, name, found, todo);
    }
    if skew.abs() > SKEW_MS_MAX {
        return Check::warn(AREA, name, found, "keep the clocks together with NTP");
    }
    if cluster.version != own {
        let todo = format!("finish the upgrade: this cloudctl is {own}");
        return Check::warn(AREA, name, found, todo);
    }
    if said.took_ms > ANSWER_MS_MAX {
        return Check::warn(
            AREA,
            name,
            found,
            "look for load, and at the network between",
        );
    }
    Check::ok(AREA, name, found)
}

fn leader(answers: &[Answer]) -> Check {
    let name = "leader";
    let seen: BTreeSet<(u64, u64)> = said(answers)
        .map(|said| (said.cluster.leader_id, said.cluster.term))
        .collect();
    let text = seen.iter().map(|(leader, term)| match leader {
        0 => format!("none in term {term}"),
        leader => format!("{leader} in term {term}"),
    });
    let text = text.collect::<Vec<_>>().join(", ");
    let ids: BTreeSet<u64> = seen.iter().map(|seen| seen.0).collect();
    match (ids.contains(&0), ids.len(), seen.len()) {
        (_, 0, _) => Check::fail(AREA, name, "nobody answered", "start the controllers"),
        (true, 1, _) => {
            let todo = "a majority of the controllers must run and reach each other";
            Check::fail(AREA, name, text, todo)
        }
        (false, 1, 1) => Check::ok(AREA, name, text),
        _ => {
            let todo = "an election may be going on: run this again; if it stays, look at the \
                        network between the controllers";
            Check::warn(AREA, name, text, todo)
        }
    }
}

/// Replicas with one index have one hash, or one of them is wrong.
fn hashes(answers: &[Answer]) -> Check {
    let name = "state hash";
    let mut at: BTreeMap<u64, BTreeMap<&str, Vec<u64>>> = BTreeMap::new();
    for said in said(answers) {
        for (index, hash) in &said.hashes {
            let members = at.entry(*index).or_default();
            let members = members.entry(hash).or_default();
            members.push(said.cluster.answered_by);
        }
    }
    if let Some((index, split)) = at.iter().find(|(_, hashes)| hashes.len() > 1) {
        let part = |(hash, members): (&&str, &Vec<u64>)| {
            format!("{} on {members:?}", hash.get(..8).unwrap_or(hash))
        };
        let parts = split.iter().map(part).collect::<Vec<_>>().join(", ");
        let todo = "stop what differs from the others, keep its directory for a report, and \
                    replace the member";
        return Check::fail(AREA, name, format!("entry {index}: {parts}"), todo);
    }
    let asked = said(answers).count();
    let all = at.iter().rev().find(|(_, hashes)| {
        let members: usize = hashes.values().map(Vec::len).sum();
        members == asked && asked > 0
    });
    match all {
        Some((index, _)) => {
            let controllers = plural(asked, "controller");
            Check::ok(
                AREA,
                name,
                format!("equal on {controllers} at entry {index}"),
            )
        }
        None => {
            let found = format!("{} met at no common entry", plural(asked, "controller"));
            let todo = "run this again; a member that stays behind is listed above";
            Check::warn(AREA, name, found, todo)
        }
    }
}

fn quorum(answers: &[Answer]) -> Vec<Check> {
    // The leader knows the newest membership.
    let view = said(answers).max_by_key(|said| {
        let cluster = &said.cluster;
        (
            cluster.answered_by == cluster.leader_id,
            cluster.applied_index,
        )
    });
    let Some(view) = view.map(|said| &said.cluster) else {
        return Vec::new();
    };
    let votes = |member: &&Member| member.role() != MemberRole::Learner && !member.joining;
    let voters: Vec<&Member> = view.members.iter().filter(votes).collect();
    let newest = said(answers).map(|said| said.cluster.commit_index).max();
    let newest = newest.unwrap_or_default();
    let mut checks = Vec::new();
    let mut good = 0_usize;
    for voter in &voters {
        let own = said(answers).find(|said| said.cluster.answered_by == voter.id);
        let behind = own.map(|said| newest.saturating_sub(said.cluster.applied_index));
        match behind {
            Some(behind) if behind <= LAG_MAX => good += 1,
            Some(behind) => {
                let found = format!("{behind} entries behind");
                let todo = "let it catch up; when it does not, look at its disk and its log";
                checks.push(Check::warn(
                    AREA,
                    format!("member {}", voter.id),
                    found,
                    todo,
                ));
            }
            None if voter.reachable => {
                good += 1;
                let found = format!(
                    "{}: the leader hears it, this client does not",
                    voter.address
                );
                let todo = "add it to `endpoints` in client.toml, or open the way to it";
                checks.push(Check::warn(
                    AREA,
                    format!("member {}", voter.id),
                    found,
                    todo,
                ));
            }
            // Told above, with the reason.
            None if answers.iter().any(|answer| answer.address == voter.address) => {}
            None => {
                let found = format!("{}: silent", voter.address);
                let todo = "start it, or replace it when its disk is lost";
                checks.push(Check::fail(
                    AREA,
                    format!("member {}", voter.id),
                    found,
                    todo,
                ));
            }
        }
    }
    checks.push(margin(voters.len(), good));
    checks
}

/// How many more failures the cell survives.
pub fn margin(voters: usize, good: usize) -> Check {
    let name = "quorum";
    let majority = voters / 2 + 1;
    let found = format!("{good} of {voters} controllers are well, {majority} are needed");
    match good.checked_sub(majority) {
        None => {
            let todo = "writes have stopped: bring controllers back, or restore a backup";
            Check::fail(AREA, name, found, todo)
        }
        Some(0) if voters == 1 => {
            let todo = "any failure stops it and may lose data: run three controllers";
            Check::warn(AREA, name, found, todo)
        }
        Some(0) => {
            let todo = "one more failure stops writes: bring the others back now";
            Check::warn(AREA, name, found, todo)
        }
        Some(spare) => {
            let survives = plural(spare, "failure");
            Check::ok(AREA, name, format!("{found}: survives {survives}"))
        }
    }
}
