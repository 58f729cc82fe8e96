//! Waiting for an instance to reach a state, by watching it.

use std::time::Duration;

use nube_proto::v1::{DesiredState, Instance, InstanceState};

use super::instance::Wish;
use crate::client::{Client, Watch};
use crate::error::{Error, Exit, Result};
use crate::output::text::enum_word;

/// Follows `instance` until it is in state `goal` for the wish it carries;
/// `seen` is told every state on the way.
pub async fn until(
    client: &Client,
    instance: &Instance,
    goal: InstanceState,
    mut seen: impl FnMut(&Instance),
) -> Result<Instance> {
    let generation = instance.generation;
    let mut watch = Watch::new(client, &instance.id);
    loop {
        let now = watch.next().await?;
        seen(&now);
        match progress(&now, goal, generation) {
            Step::Reached => return Ok(now),
            Step::Hopeless(error) => return Err(error),
            Step::OnTheWay => {}
        }
    }
}

/// Returns when a running instance runs no more, with the reason: what is
/// waited for meanwhile will not come.
pub async fn while_running(client: &Client, instance: &Instance) -> Error {
    let mut watch = Watch::new(client, &instance.id);
    loop {
        match watch.next().await {
            Ok(now) if now.state() == InstanceState::Running => {}
            Ok(now) => {
                let word = enum_word(now.state().as_str_name(), "INSTANCE_STATE");
                return Error::failed(format!("`{}` is {word}: {}", now.name, reason(&now))).hint(
                    format!("`cloudctl logs {0}`, `cloudctl show {0}`", now.name),
                );
            }
            Err(error) => return error,
        }
    }
}

/// Ends a wait that takes too long; the instance itself is left alone.
pub async fn limited<T>(
    timeout: Duration,
    subject: String,
    wait: impl Future<Output = Result<T>>,
) -> Result<T> {
    match tokio::time::timeout(timeout, wait).await {
        Ok(result) => result,
        Err(_) => Err(Error::new(
            Exit::Unavailable,
            format!("`{subject}` is not ready after {} s", timeout.as_secs()),
        )
        .hint(format!(
            "it goes on by itself: `cloudctl show {subject}`, `cloudctl logs {subject}`"
        ))),
    }
}

enum Step {
    Reached,
    OnTheWay,
    Hopeless(Error),
}

/// Reads one state. A state counts only once the host has applied the wish that
/// is waited for: after `reboot`, the old `running` is not the new one.
fn progress(now: &Instance, goal: InstanceState, generation: u64) -> Step {
    let state = now.state();
    let applied = now.applied_generation >= generation || goal == InstanceState::Deleted;
    if state == goal && applied {
        return Step::Reached;
    }
    let fail = |text: String| {
        let hint = format!("`cloudctl logs {0}`, `cloudctl show {0}`", now.name);
        Step::Hopeless(Error::failed(text).hint(hint))
    };
    if state == InstanceState::Failed && goal != InstanceState::Deleted {
        // The wish may just have been given to a failed instance.
        if !applied {
            return Step::OnTheWay;
        }
        return fail(format!("`{}` failed: {}", now.name, reason(now)));
    }
    let other = now.generation > generation && now.desired_state() != wished_by(goal);
    let gone = matches!(state, InstanceState::Deleting | InstanceState::Deleted);
    if goal != InstanceState::Deleted && (gone || other) {
        return fail(format!(
            "`{}`: somebody asked for another state meanwhile",
            now.name
        ));
    }
    Step::OnTheWay
}

fn wished_by(goal: InstanceState) -> DesiredState {
    if goal == Wish::Stop.goal() {
        DesiredState::Stopped
    } else if goal == Wish::Delete.goal() {
        DesiredState::Deleted
    } else {
        DesiredState::Running
    }
}

fn reason(instance: &Instance) -> &str {
    match instance.reason.as_str() {
        "" => "no reason is known",
        reason => reason,
    }
}

#[cfg(test)]
mod test {
    use super::super::instance::test::sample;
    use super::*;

    fn step(state: InstanceState, goal: InstanceState, wished: u64, applied: u64) -> String {
        let mut now = sample("web", state);
        now.generation = wished;
        now.applied_generation = applied;
        now.reason = "disk full".into();
        match progress(&now, goal, wished) {
            Step::Reached => "reached".into(),
            Step::OnTheWay => "on the way".into(),
            Step::Hopeless(error) => error.render(),
        }
    }

    #[test]
    fn the_goal_counts_for_its_own_wish_only() {
        use InstanceState::{Deleted, Failed, Running, Starting, Stopped};
        assert_eq!(step(Running, Running, 2, 2), "reached");
        assert_eq!(step(Running, Running, 2, 1), "on the way");
        assert_eq!(step(Starting, Running, 1, 0), "on the way");
        assert_eq!(step(Failed, Running, 2, 1), "on the way");
        assert!(step(Failed, Running, 1, 1).contains("disk full"));
        assert_eq!(step(Deleted, Deleted, 3, 1), "reached");
        assert_eq!(step(Failed, Deleted, 3, 3), "on the way");
        assert_eq!(step(Stopped, Stopped, 2, 2), "reached");
        assert!(step(Deleted, Running, 1, 1).contains("somebody"));
    }
}
