//! `launch`: ask once, then follow each instance stage by stage until it is
//! what the user waits for.
//!
//! ```text
//! placed on NODE ─► image ─► prepare ─► boot ─► running ─► ssh answers
//! ```

use std::time::Duration;

use nube_proto::v1::instance_service_client::InstanceServiceClient;
use nube_proto::v1::{
    HostFailurePolicy, Instance, InstanceStage, InstanceState, IsolationClass,
    LaunchInstancesRequest, LaunchInstancesResponse, PlacementStrategy,
};

use super::{App, instance, tunnel, wait};
use crate::args::instance::{Accelerator, Isolation, Launch, OnHostFailure, Strategy, Wait};
use crate::client::Client;
use crate::error::Result;
use crate::files;
use crate::output::progress::{Progress, Track};
use crate::output::text::{money, now_ms, plural};

/// Placing a hundred instances takes one log entry, but a new leader may have
/// to be elected first.
const LAUNCH_ATTEMPT_MAX: Duration = Duration::from_secs(15);

/// `launch`.
pub async fn run(app: &App, args: Launch) -> Result<()> {
    app.output.refuse_csv()?;
    let client = app.client()?;
    let progress = Progress::new();
    let (goal, timeout) = (args.wait, args.wait_timeout);
    let request = request(&client, args)?;
    let launch = |channel| {
        let request = request.clone();
        async move {
            InstanceServiceClient::new(channel)
                .launch_instances(request)
                .await
        }
    };
    let mut answer = client
        .call_slow("launch", LAUNCH_ATTEMPT_MAX, launch)
        .await?;
    let follow = answer.instances.iter().map(|instance| {
        let follow = follow(&client, &progress, instance, goal);
        wait::limited(timeout, instance.name.clone(), follow)
    });
    // Every one is followed to its end, so that one failure hides no other.
    let outcomes = futures::future::join_all(follow).await;
    let mut failure = None;
    for (instance, outcome) in answer.instances.iter_mut().zip(outcomes) {
        match outcome {
            Ok(now) => *instance = now,
            Err(error) if failure.is_none() => failure = Some(error),
            Err(error) => eprint!("{}", error.render()),
        }
    }
    if let Some(error) = failure {
        return Err(error);
    }
    app.output.message(&answer, |look| {
        let table = instance::list_table(look, &answer.instances, now_ms());
        table + &epilogue(&answer)
    })
}

/// The request that the flags mean.
pub fn request(client: &Client, args: Launch) -> Result<LaunchInstancesRequest> {
    let user_data = match &args.user_data {
        Some(file) => files::read_argument(file)?,
        None => Vec::new(),
    };
    let strategy = match args.strategy {
        Strategy::Spread => PlacementStrategy::Spread,
        Strategy::Pack => PlacementStrategy::Pack,
    };
    let isolation = match args.isolation {
        Isolation::Any => IsolationClass::Unspecified,
        Isolation::None => IsolationClass::None,
        Isolation::Hardware => IsolationClass::Hardware,
    };
    let on_host_failure = match args.on_host_failure {
        OnHostFailure::Keep => HostFailurePolicy::Keep,
        OnHostFailure::Replace => HostFailurePolicy::Replace,
    };
    let accelerator = match args.accelerator {
        None => "",
        Some(Accelerator::Kvm) => "kvm",
        Some(Accelerator::Tcg) => "tcg",
    };
    Ok(LaunchInstancesRequest {
        request_id: client.request_id(),
        name: args.name.unwrap_or_default(),
        image: args.image,
        instance_type: args.instance_type.unwrap_or_default(),
        ssh_keys: args.ssh_keys,
        user_data: user_data.into(),
        labels: args.labels.into_iter().collect(),
        count: args.count,
        zone: args.zone.unwrap_or_default(),
        strategy: strategy as i32,
        isolation: isolation as i32,
        accelerator: accelerator.to_owned(),
        if_revision: args.if_revision,
        on_host_failure: on_host_failure.into(),
        network: args.network.unwrap_or_default(),
        subnet: args.subnet.unwrap_or_default(),
        ip: args.ip.map(|ip| ip.to_string()).unwrap_or_default(),
        security_groups: args.security_groups,
    })
}

async fn follow(
    client: &Client,
    progress: &Progress,
    instance: &Instance,
    goal: Wait,
) -> Result<Instance> {
    let track = progress.track(&instance.name);
    let mut stages = Stages::new(&track);
    stages.see(instance);
    if goal == Wait::None {
        return Ok(instance.clone());
    }
    let running = InstanceState::Running;
    let now = wait::until(client, instance, running, |now| stages.see(now)).await?;
    if goal == Wait::Ssh {
        track.doing("waiting for ssh");
        tokio::select! {
            answer = tunnel::wait_for_ssh(client, &now.id) => answer?,
            error = wait::while_running(client, &now) => return Err(error),
        }
        track.done("ssh answers");
    }
    Ok(now)
}

/// Tells each stage once, in order. Fast ones may be skipped: a watch shows the
/// newest state, not every one.
struct Stages<'a> {
    track: &'a Track<'a>,
    placed: bool,
    reached: InstanceStage,
}

impl<'a> Stages<'a> {
    fn new(track: &'a Track<'a>) -> Self {
        Self {
            track,
            placed: false,
            reached: InstanceStage::Unspecified,
        }
    }

    fn see(&mut self, now: &Instance) {
        if !self.placed && !now.node_name.is_empty() {
            self.placed = true;
            self.track.done(&format!("placed on {}", now.node_name));
            self.track.doing("the host prepares it");
        }
        let stage = stage_of(now);
        if (stage as i32) <= (self.reached as i32) {
            return;
        }
        self.reached = stage;
        match stage {
            InstanceStage::Unspecified => {}
            InstanceStage::Image => self.track.done("image"),
            InstanceStage::Prepare => self.track.done("prepare"),
            InstanceStage::Boot => self.track.done("boot"),
            InstanceStage::Running => self.track.done("running"),
        }
    }
}

fn stage_of(now: &Instance) -> InstanceStage {
    match now.state() {
        InstanceState::Running => InstanceStage::Running,
        InstanceState::Starting => now.stage(),
        _ => InstanceStage::Unspecified,
    }
}

/// What to do next, and what it costs.
fn epilogue(answer: &LaunchInstancesResponse) -> String {
    let Some(first) = answer.instances.first() else {
        return String::new();
    };
    let sum = |total: i64, i: &Instance| total.saturating_add(i.price_nanos_per_hour);
    let price = money(answer.instances.iter().fold(0, sum), 4);
    let count = plural(answer.instances.len(), "instance");
    let currency = &first.currency;
    let log_in = format!("log in: cloudctl ssh {}\n", first.name);
    let text = format!("{log_in}price:  {price} {currency} per hour for {count}, while running\n");
    // Line by line: a name of the server's must not drive the terminal.
    let lines = text.lines().map(crate::output::text::escape);
    lines.fold(String::new(), |all, line| all + &line + "\n")
}

#[cfg(test)]
mod test {
    use super::super::instance::test::sample;
    use super::*;

    #[test]
    fn the_end_says_how_to_log_in_and_the_price() {
        let one = sample("web-1", InstanceState::Running);
        let answer = LaunchInstancesResponse {
            instances: vec![one.clone(), one],
            revision: 7,
        };
        assert_eq!(
            epilogue(&answer),
            "log in: cloudctl ssh web-1\n\
             price:  0.0040 USD per hour for 2 instances, while running\n"
        );
    }

    #[test]
    fn stages_never_go_back() {
        let progress = Progress::new();
        let track = progress.track("web");
        let mut stages = Stages::new(&track);
        let mut now = sample("web", InstanceState::Starting);
        now.stage = InstanceStage::Boot as i32;
        stages.see(&now);
        now.stage = InstanceStage::Image as i32;
        stages.see(&now);
        assert_eq!(stages.reached, InstanceStage::Boot);
        stages.see(&sample("web", InstanceState::Running));
        assert_eq!(stages.reached, InstanceStage::Running);
    }
}
