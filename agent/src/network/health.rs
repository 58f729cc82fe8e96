//! Whether targets of load balancers accept connections: asked by their own host,
//! from inside their network. What counts as a change of verdict is pure.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::Duration;

use nube_proto::agent::v1::{HealthReport, TargetHealth};
use nube_types::{InstanceId, LoadBalancerId, PlacementEpoch};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::net::TcpSocket;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::spec::NetworkSpec;
use crate::host::namespace::Namespace;

/// A target that has not answered by then has not answered.
const DEADLINE: Duration = Duration::from_secs(5);
/// Bytes of a reason, as the leader takes them.
const REASON_BYTES_MAX: usize = 100;

/// Which target of which balancer.
pub type Key = (LoadBalancerId, InstanceId);

/// How a target is asked. Another value is another target: it begins anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Where its network is.
    pub namespace: Namespace,
    /// Of the placement.
    pub epoch: PlacementEpoch,
    /// Who asks.
    pub source: Ipv4Addr,
    /// Who is asked.
    pub target: SocketAddrV4,
    /// Between two questions.
    pub interval_ms: u32,
    /// Equal answers in a row that change the verdict.
    pub threshold: u8,
}

/// The answer so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// New connections may go there.
    pub healthy: bool,
    /// For people.
    pub reason: String,
    /// Answers in a row that contradict.
    against: u8,
}

impl Default for Verdict {
    fn default() -> Self {
        Self {
            healthy: false,
            reason: "not checked yet".to_owned(),
            against: 0,
        }
    }
}

impl Verdict {
    /// Takes an answer; whether what is reported changed.
    pub fn take(&mut self, answer: Result<(), String>, threshold: u8) -> bool {
        let before = (self.healthy, self.reason.clone());
        if answer.is_ok() == self.healthy {
            self.against = 0;
        } else {
            self.against = self.against.saturating_add(1);
        }
        if self.against >= threshold.max(1) {
            self.healthy = !self.healthy;
            self.against = 0;
        }
        match (self.healthy, answer) {
            (false, Err(reason)) => self.reason = cut(reason),
            (false, Ok(())) => self.reason = "answers, but not often enough yet".to_owned(),
            (true, _) => self.reason.clear(),
        }
        before != (self.healthy, self.reason.clone())
    }
}

fn cut(mut reason: String) -> String {
    let mut end = REASON_BYTES_MAX.min(reason.len());
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.truncate(end);
    reason
}

struct Target {
    check: Check,
    verdict: Verdict,
    asking: AbortHandle,
}

impl Drop for Target {
    fn drop(&mut self) {
        self.asking.abort();
    }
}

/// All targets on this host.
pub struct Health {
    targets: BTreeMap<Key, Target>,
    answers: mpsc::Sender<Answer>,
    /// The last report was not empty: the next one is due though it be empty.
    told: bool,
}

/// One answer of one target; the check says whether it is still asked like this.
pub type Answer = (Key, Check, Result<(), String>);

impl Health {
    /// None yet; answers go there.
    #[must_use]
    pub fn new(answers: mpsc::Sender<Answer>) -> Self {
        Self {
            targets: BTreeMap::new(),
            answers,
            told: false,
        }
    }

    /// Asks these from now on, and no others.
    pub fn set(&mut self, wanted: BTreeMap<Key, Check>) {
        self.targets
            .retain(|key, target| wanted.get(key) == Some(&target.check));
        for (key, check) in wanted {
            if self.targets.contains_key(&key) {
                continue;
            }
            let asking = tokio::spawn(ask_on(key, check.clone(), self.answers.clone()));
            let target = Target {
                check,
                verdict: Verdict::default(),
                asking: asking.abort_handle(),
            };
            self.targets.insert(key, target);
        }
    }

    /// Takes an answer; whether the leader should hear at once.
    pub fn take(&mut self, (key, check, answer): Answer) -> bool {
        match self.targets.get_mut(&key) {
            Some(target) if target.check == check => {
                target.verdict.take(answer, target.check.threshold)
            }
            _ => false,
        }
    }

    /// All verdicts; nothing when there are none and none were told before.
    pub fn report(&mut self) -> Option<HealthReport> {
        let told = |((balancer, instance), target): (&Key, &Target)| TargetHealth {
            load_balancer_id: balancer.to_string(),
            instance_id: instance.to_string(),
            placement_epoch: target.check.epoch.0,
            healthy: target.verdict.healthy,
            reason: target.verdict.reason.clone(),
        };
        let targets: Vec<_> = self.targets.iter().map(told).collect();
        let due = self.told || !targets.is_empty();
        self.told = !targets.is_empty();
        due.then_some(HealthReport { targets })
    }
}

/// Targets of a network that are on this host.
#[must_use]
pub fn checks(
    namespace: &Namespace,
    spec: &NetworkSpec,
    here: impl Fn(InstanceId) -> bool,
) -> BTreeMap<Key, Check> {
    let mut checks = BTreeMap::new();
    for (id, balancer) in &spec.load_balancers {
        for instance in balancer.targets.keys().filter(|instance| here(**instance)) {
            let Some(port) = spec.ports.get(instance).filter(|port| port.local) else {
                continue;
            };
            let subnet = spec
                .subnets
                .iter()
                .find(|subnet| subnet.range.has(port.address));
            let Some(subnet) = subnet else {
                continue;
            };
            let check = Check {
                namespace: namespace.clone(),
                epoch: port.epoch,
                source: subnet.gateway,
                target: SocketAddrV4::new(port.address, balancer.health_port),
                interval_ms: balancer.health_interval_ms,
                threshold: balancer.health_threshold,
            };
            checks.insert((*id, *instance), check);
        }
    }
    checks
}

async fn ask_on(key: Key, check: Check, answers: mpsc::Sender<Answer>) {
    let interval = Duration::from_millis(check.interval_ms.into());
    loop {
        let answer = match tokio::time::timeout(DEADLINE, ask(&check)).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err("no answer".to_owned()),
        };
        if answers.send((key, check.clone(), answer)).await.is_err() {
            return;
        }
        tokio::time::sleep(interval).await;
    }
}

async fn ask(check: &Check) -> io::Result<()> {
    let make = || -> io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let kind = SocketType::STREAM;
        Ok(rustix::net::socket_with(
            AddressFamily::INET,
            kind,
            flags,
            None,
        )?)
    };
    // A socket stays in the namespace that it was made in.
    let socket = TcpSocket::from_std_stream(check.namespace.run(make).await?.into());
    socket.bind(SocketAddr::V4(SocketAddrV4::new(check.source, 0)))?;
    socket
        .connect(SocketAddr::V4(check.target))
        .await
        .map(|_| ())
}

#[cfg(test)]
mod test {
    use super::*;

    fn no() -> Result<(), String> {
        Err("refused".to_owned())
    }

    #[test]
    fn so_many_equal_answers_change_a_verdict() {
        let mut verdict = Verdict::default();
        assert!(verdict.take(Ok(()), 2), "the reason changes");
        assert!(!verdict.healthy);
        assert!(verdict.take(Ok(()), 2));
        assert!(verdict.healthy && verdict.reason.is_empty());
        assert!(!verdict.take(no(), 2), "one is not enough");
        assert!(!verdict.take(Ok(()), 2), "and is forgotten");
        assert!(!verdict.take(no(), 2));
        assert!(verdict.take(no(), 2));
        assert_eq!(
            (verdict.healthy, verdict.reason.as_str()),
            (false, "refused")
        );
    }

    #[test]
    fn reasons_have_a_limit() {
        let mut verdict = Verdict::default();
        verdict.take(Err("\u{e9}".repeat(80)), 1);
        assert_eq!(verdict.reason.len(), 100);
    }
}
