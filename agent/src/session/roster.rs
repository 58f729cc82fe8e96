//! Which controllers this agent talks to: those that the obeyed leader names, as
//! remembered over restarts. The config file's are the first ones, and the last
//! resort when nobody known has led for a while.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::LinkEvent;
use super::link::{self, Shared};
use super::rules::LinkId;
use crate::config::is_address;
use crate::driver::Driver;

/// Above any cell's members; more is nonsense.
const CONTROLLERS_MAX: usize = 32;
/// Without a leader for so long, the config's controllers are tried as well: far
/// above an election, so that a cell at rest is not asked twice.
const LAST_RESORT_MS: u64 = 30_000;

/// Without a leader for so long, what other controllers say counts as well: above an
/// election. A host that was away may not know the member that leads now.
const STRAY_MS: u64 = 5_000;

/// Decides whom to talk to. Pure but for the channel that tells [`run`].
pub struct Roster {
    seeds: Vec<String>,
    wanted: watch::Sender<Vec<String>>,
    led_at_ms: u64,
}

impl Roster {
    /// From the config and from what is remembered; with it, what [`run`] needs.
    pub fn new(seeds: Vec<String>, known: Vec<String>) -> (Self, watch::Receiver<Vec<String>>) {
        let first = match checked(&known) {
            Some(known) => known,
            None => seeds.clone(),
        };
        let (wanted, receiver) = watch::channel(first);
        let roster = Self {
            seeds,
            wanted,
            led_at_ms: 0,
        };
        (roster, receiver)
    }

    /// Looks at what the obeyed leader said; `None` without one. `others`: what the
    /// controllers say that are connected and do not lead. A new list to remember
    /// comes back.
    pub fn follow(
        &mut self,
        said: Option<&[String]>,
        others: &[&[String]],
        now_ms: u64,
    ) -> Option<Vec<String>> {
        let Some(said) = said else {
            let alone_ms = now_ms.saturating_sub(self.led_at_ms);
            if alone_ms >= STRAY_MS {
                let lists = others.iter().filter_map(|list| checked(list));
                self.try_also(lists.flatten());
            }
            if alone_ms >= LAST_RESORT_MS {
                self.try_also(self.seeds.iter().cloned());
            }
            return None;
        };
        self.led_at_ms = now_ms;
        let list = checked(said)?;
        let news = self.wanted.send_if_modified(|wanted| {
            let news = *wanted != list;
            wanted.clone_from(&list);
            news
        });
        news.then_some(list)
    }

    /// Nobody is given up for it: the next leader's list decides.
    fn try_also(&self, more: impl Iterator<Item = String>) {
        self.wanted.send_if_modified(|wanted| {
            let known = wanted.len();
            for controller in more {
                if wanted.len() < CONTROLLERS_MAX && !wanted.contains(&controller) {
                    wanted.push(controller);
                }
            }
            wanted.len() > known
        });
    }
}

/// The list, when it is one: an empty or odd one must not cut this host off.
fn checked(list: &[String]) -> Option<Vec<String>> {
    let fine = (1..=CONTROLLERS_MAX).contains(&list.len()) && list.iter().all(|a| is_address(a));
    if !fine && !list.is_empty() {
        tracing::error!(
            count = list.len(),
            "ignored a list of controllers that is none"
        );
    }
    fine.then(|| list.to_vec())
}

/// Keeps one link for each wanted controller, for as long as the agent lives.
pub async fn run<D: Driver>(shared: Arc<Shared<D>>, mut wanted: watch::Receiver<Vec<String>>) {
    let mut tasks = JoinSet::new();
    let mut links: BTreeMap<String, (LinkId, AbortHandle)> = BTreeMap::new();
    let mut next: LinkId = 0;
    loop {
        let list = wanted.borrow_and_update().clone();
        let gone: Vec<String> = links
            .keys()
            .filter(|a| !list.contains(a))
            .cloned()
            .collect();
        for controller in gone {
            if let Some((link, task)) = links.remove(&controller) {
                tracing::info!(%controller, "no controller any more");
                task.abort();
                shared.controllers.remove(link);
                if shared.events.send((link, LinkEvent::Down)).await.is_err() {
                    return;
                }
            }
        }
        for controller in list {
            links.entry(controller).or_insert_with_key(|controller| {
                let link = next;
                next += 1;
                let task = tasks.spawn(link::run(shared.clone(), link, controller.clone()));
                (link, task)
            });
        }
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            // Links end when the hub is gone, or when they were aborted.
            Some(ended) = tasks.join_next() => if ended.is_ok() { return },
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn list(words: &str) -> Vec<String> {
        words.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_leader_says_who_and_it_is_remembered_once() {
        let (mut roster, wanted) = Roster::new(list("a:1 b:1"), Vec::new());
        assert_eq!(*wanted.borrow(), list("a:1 b:1"));
        assert_eq!(roster.follow(None, &[], 1_000), None);
        let said = list("b:1 c:1");
        assert_eq!(roster.follow(Some(&said), &[], 2_000), Some(said.clone()));
        assert_eq!(*wanted.borrow(), said);
        assert_eq!(roster.follow(Some(&said), &[], 3_000), None);
    }

    #[test]
    fn what_is_no_list_changes_nothing() {
        let (mut roster, wanted) = Roster::new(list("a:1"), list("b:1"));
        assert_eq!(*wanted.borrow(), list("b:1"), "remembered");
        for said in ["", "nonsense", "a:0", "a:1 b/c:2"] {
            assert_eq!(roster.follow(Some(&list(said)), &[], 1), None, "{said}");
        }
        let many = vec!["a:1".to_owned(); CONTROLLERS_MAX + 1];
        assert_eq!(roster.follow(Some(&many), &[], 1), None);
        assert_eq!(*wanted.borrow(), list("b:1"));
    }

    #[test]
    fn the_config_is_the_last_resort() {
        let (mut roster, wanted) = Roster::new(list("a:1"), list("b:1"));
        let said = list("b:1");
        roster.follow(Some(&said), &[], 5_000);
        roster.follow(None, &[], 5_000 + LAST_RESORT_MS - 1);
        assert_eq!(*wanted.borrow(), list("b:1"));
        roster.follow(None, &[], 5_000 + LAST_RESORT_MS);
        assert_eq!(*wanted.borrow(), list("b:1 a:1"));
        // A leader came back and says the same as ever.
        assert_eq!(roster.follow(Some(&said), &[], 90_000), Some(said.clone()));
        assert_eq!(*wanted.borrow(), said);
    }

    #[test]
    fn a_host_that_was_away_finds_a_leader_that_only_followers_know() {
        let (mut roster, wanted) = Roster::new(list("a:1 b:1"), Vec::new());
        let said = list("a:1 b:1");
        roster.follow(Some(&said), &[], 1_000);
        let (stale, fresh) = (list("a:1 b:1"), list("b:1 c:1"));
        let others = [stale.as_slice(), fresh.as_slice()];
        roster.follow(None, &others, 1_000 + STRAY_MS - 1);
        assert_eq!(*wanted.borrow(), said, "an election is no reason");
        assert_eq!(roster.follow(None, &others, 1_000 + STRAY_MS), None);
        assert_eq!(*wanted.borrow(), list("a:1 b:1 c:1"), "more, nobody less");
        let nonsense = list("nonsense");
        roster.follow(None, &[&nonsense], 20_000);
        assert_eq!(*wanted.borrow(), list("a:1 b:1 c:1"));
        assert_eq!(
            roster.follow(Some(&fresh), &[], 21_000),
            Some(fresh.clone())
        );
        assert_eq!(*wanted.borrow(), fresh);
    }
}
