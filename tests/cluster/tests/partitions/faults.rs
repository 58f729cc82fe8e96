//! The faults, drawn from a seed. The same seed gives the same faults to a cell
//! of the same shape; what real processes make of them is theirs.

use std::time::Duration;

use nube_harness::lab::{Cuts, Lab, ZONE_REAL};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};

const LOSS_PERCENT: u8 = 30;
const DELAY: Duration = Duration::from_secs(1);
const ABORTED: i32 = 6;
/// A failpoint that is not reached by then is no crash.
const CRASH: Duration = Duration::from_secs(8);

/// Points of a controller's program, and from the how manieth visit on it may
/// crash there.
const CONTROLLER_POINTS: [&str; 10] = [
    "log-append-before",
    "log-append-after",
    "log-sync-before",
    "log-sync-after",
    "superblock-before",
    "superblock-after",
    "snapshot-before",
    "snapshot-after",
    "store-before",
    "store-after",
];

/// Instances of a round in which an agent crashes.
pub const BUSY: [&str; 2] = ["busy-1", "busy-2"];

/// Points of an agent's.
const AGENT_POINTS: [&str; 4] = ["journal-before", "journal-after", "verb-begin", "verb-end"];

/// What goes wrong in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A minority and a majority.
    Halves,
    /// One controller sees both sides.
    Bridge,
    /// Each controller sees its two neighbours.
    Ring,
    /// One controller speaks and hears nothing, or the other way round.
    OneWay,
    /// Cut off from its peers; clients still reach it.
    LeaderAlone,
    /// One host reaches no controller.
    HostAlone,
    /// Every third packet is lost.
    Loss,
    /// A second on the way.
    Delay,
    /// kill -9 of the leader.
    KillLeader,
    /// kill -9 of as many as may die.
    KillMinority,
    /// kill -9 of an agent.
    KillHost,
    /// SIGSTOP of the leader, which wakes up in the past.
    PauseLeader,
    /// SIGSTOP of an agent.
    PauseHost,
    /// kill -9 of every controller at once.
    KillCell,
    /// A controller ends at a step of its disk.
    CrashController,
    /// An agent ends between its journal and its deeds.
    CrashHost,
}

/// In the order of seeds: seed N has kind N modulo their number. Crashes have most
/// points to meet, so they come more often.
pub const KINDS: [Kind; 19] = [
    Kind::KillLeader,
    Kind::Halves,
    Kind::KillCell,
    Kind::CrashController,
    Kind::LeaderAlone,
    Kind::HostAlone,
    Kind::Bridge,
    Kind::CrashController,
    Kind::PauseLeader,
    Kind::Delay,
    Kind::CrashHost,
    Kind::OneWay,
    Kind::Loss,
    Kind::KillMinority,
    Kind::CrashController,
    Kind::PauseHost,
    Kind::Ring,
    Kind::CrashHost,
    Kind::KillHost,
];

/// What was done, in words that a reader of a failure understands.
pub struct Fault {
    pub kind: Kind,
    pub told: String,
    /// A process crashed where it was told to.
    pub crashed_at: Option<&'static str>,
}

impl Kind {
    /// The kind of a seed.
    pub fn of(seed: u64) -> Self {
        KINDS[usize::try_from(seed % KINDS.len() as u64).unwrap_or(0)]
    }

    /// Begins the fault; `leader` is the leading controller's name.
    pub fn begin(self, lab: &mut Lab, random: &mut StdRng, leader: &str) -> anyhow::Result<Fault> {
        let mut crashed_at = None;
        let told = match self {
            Self::Halves
            | Self::Bridge
            | Self::Ring
            | Self::OneWay
            | Self::LeaderAlone
            | Self::HostAlone => {
                let (cuts, told) = self.cuts(lab, random, leader);
                lab.cut(&cuts)?;
                told
            }
            Self::Loss => {
                let all = lab.controllers().into_iter().chain(lab.hosts());
                let cuts = Cuts {
                    loss_percent: all.map(|member| (member, LOSS_PERCENT)).collect(),
                    ..Cuts::default()
                };
                lab.cut(&cuts)?;
                format!("{LOSS_PERCENT} % loss everywhere")
            }
            Self::Delay => delay(lab, random, leader)?,
            Self::KillLeader => kill(lab, &[leader.to_owned()])?,
            Self::KillMinority => {
                let dead = minority(lab, random);
                kill(lab, &dead)?
            }
            Self::KillCell => {
                let all = lab.controllers();
                kill(lab, &all)?
            }
            Self::KillHost => {
                let host = one(&lab.hosts(), random);
                kill(lab, &[host])?
            }
            Self::PauseLeader => pause(lab, leader)?,
            Self::PauseHost => {
                let host = one(&lab.hosts(), random);
                pause(lab, &host)?
            }
            Self::CrashController => {
                let member = one(&lab.controllers(), random);
                let point = *CONTROLLER_POINTS
                    .choose(random)
                    .unwrap_or(&"log-sync-after");
                // Bookkeeping is rare, the log is not.
                let often = point.starts_with("log");
                let visit = random.random_range(1..if often { 40 } else { 4 });
                arm(lab, &member, point, visit)?;
                crashed_at = wait_for_crash(lab, &member)?.then_some(point);
                format!("{member} crashes at {point}, visit {visit}")
            }
            Self::CrashHost => {
                let member = one(&lab.real_hosts(), random);
                let point = *AGENT_POINTS.choose(random).unwrap_or(&"verb-begin");
                let visit = random.random_range(1..4);
                arm(lab, &member, point, visit)?;
                // One for each host: it has to have something to do.
                for name in BUSY {
                    let launch = ["launch", "micro", "--name", name, "--zone", ZONE_REAL];
                    lab.ctl(&[&launch[..], &["--wait", "none"]].concat())?;
                }
                crashed_at = wait_for_crash(lab, &member)?.then_some(point);
                format!("{member} crashes at {point}, visit {visit}")
            }
        };
        Ok(Fault {
            kind: self,
            told,
            crashed_at,
        })
    }

    /// Who does not hear whom.
    fn cuts(self, lab: &Lab, random: &mut StdRng, leader: &str) -> (Cuts, String) {
        let mut cuts = Cuts::default();
        let mut all = lab.controllers();
        all.shuffle(random);
        let middle = all.len() / 2;
        let told = match self {
            Self::Halves => {
                let (left, right) = all.split_at(middle);
                cuts.between(left, right);
                for host in lab.hosts() {
                    let far = if random.random_bool(0.5) { left } else { right };
                    cuts.between(&[host], far);
                }
                format!("{} and {} apart", left.join(" "), right.join(" "))
            }
            Self::Bridge => {
                cuts.between(&all[..middle], &all[middle + 1..]);
                format!("only {} sees both sides", all[middle])
            }
            Self::Ring => {
                for (at, one) in all.iter().enumerate() {
                    let apart = |other: &usize| (at.abs_diff(*other)) % (all.len() - 1) > 1;
                    for other in (0..all.len()).filter(apart) {
                        cuts.both_ways(one, &all[other]);
                    }
                }
                format!("a ring of {}", all.join(" "))
            }
            Self::OneWay => {
                let deaf = random.random_bool(0.5);
                let lone = if random.random_bool(0.5) {
                    leader
                } else {
                    all[0].as_str()
                };
                for other in all.iter().filter(|other| *other != lone) {
                    let pair = (lone.to_owned(), other.clone());
                    let pair = if deaf { (pair.1, pair.0) } else { pair };
                    cuts.one_way.insert(pair);
                }
                format!("{lone} is {}", if deaf { "deaf" } else { "mute" })
            }
            Self::LeaderAlone => {
                all.retain(|other| other != leader);
                cuts.between(&[leader.to_owned()], &all);
                if random.random_bool(0.5) {
                    cuts.between(&[leader.to_owned()], &lab.hosts());
                }
                format!("{leader} is alone")
            }
            _ => {
                let host = one(&lab.hosts(), random);
                cuts.between(std::slice::from_ref(&host), &all);
                format!("{host} is alone")
            }
        };
        (cuts, told)
    }
}

fn one(all: &[String], random: &mut StdRng) -> String {
    all.choose(random).cloned().unwrap_or_default()
}

/// As many as may die without the others losing their majority.
fn minority(lab: &Lab, random: &mut StdRng) -> Vec<String> {
    let mut all = lab.controllers();
    all.shuffle(random);
    all.truncate((all.len() - 1) / 2);
    all
}

fn kill(lab: &mut Lab, members: &[String]) -> anyhow::Result<String> {
    for member in members {
        lab.daemon(member)?.kill()?;
    }
    Ok(format!("kill -9 of {}", members.join(" ")))
}

fn pause(lab: &mut Lab, member: &str) -> anyhow::Result<String> {
    lab.daemon(member)?.pause()?;
    Ok(format!("{member} stands still"))
}

fn delay(lab: &mut Lab, random: &mut StdRng, leader: &str) -> anyhow::Result<String> {
    let slow = match random.random_range(0..3) {
        0 => vec![leader.to_owned()],
        1 => minority(lab, random),
        _ => lab.controllers(),
    };
    for member in &slow {
        lab.slow_down(member, DELAY)?;
    }
    Ok(format!("{} send a second late", slow.join(" ")))
}

/// Starts a member anew so that it ends at a point of its program.
fn arm(lab: &mut Lab, member: &str, point: &str, visit: u32) -> anyhow::Result<()> {
    lab.daemon(member)?.kill()?;
    lab.start_to_crash(member, Some(&format!("{point}@{visit}")))
}

/// What the member is asked to do brings it there; whether it did.
fn wait_for_crash(lab: &mut Lab, member: &str) -> anyhow::Result<bool> {
    let begun = std::time::Instant::now();
    let daemon = lab.daemon(member)?;
    while daemon.is_running()? && begun.elapsed() < CRASH {
        std::thread::sleep(Duration::from_millis(20));
    }
    if daemon.is_running()? {
        // Not reached: it goes on without the switch.
        daemon.kill()?;
        return Ok(false);
    }
    let signal = daemon.ended_by()?;
    anyhow::ensure!(signal == Some(ABORTED), "{member} ended by {signal:?}");
    Ok(true)
}

#[cfg(test)]
mod test {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn consecutive_seeds_have_every_kind() {
        let seen: BTreeSet<_> = (100..100 + KINDS.len() as u64).map(Kind::of).collect();
        assert_eq!(seen, KINDS.into_iter().collect());
        assert!(seen.contains(&Kind::Ring) && seen.contains(&Kind::CrashHost));
    }
}
