//! Whose grants count, and from when.

use nube_proto::agent::v1::{HeartbeatAck, LeaseGrant};
use nube_types::limits::LEASE_MS;

use super::*;
use crate::lease::Held;

impl Controller {
    /// Answers its newest heartbeat.
    async fn grants(&self, fence_epoch: u64) -> u64 {
        let sequence = self.newest_beat();
        self.answers(sequence, fence_epoch).await;
        sequence
    }

    async fn answers(&self, sequence: u64, fence_epoch: u64) {
        let lease = Some(LeaseGrant {
            fence_epoch,
            duration_ms: LEASE_MS as u32,
        });
        let ack = HeartbeatAck { sequence, lease };
        self.says(Message::HeartbeatAck(ack)).await;
    }

    fn newest_beat(&self) -> u64 {
        *self.newest.borrow()
    }
}

impl Rig {
    async fn lease(&mut self) -> Held {
        match self.events.recv().await {
            Some(Event::Lease(held)) => held,
            other => panic!("no lease: {other:?}"),
        }
    }
}

async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await;
}

#[tokio::test(start_paused = true)]
async fn only_the_obeyed_leader_grants_and_only_what_it_was_asked() {
    let mut rig = Rig::new(0);
    let follower = Controller::connect(0, &rig.to_hub).await;
    let leader = Controller::connect(1, &rig.to_hub).await;
    leader.leads(3).await;
    seconds(2).await;
    follower.grants(0).await;
    // Proves life only.
    let sequence = leader.newest_beat();
    let lease = None;
    leader
        .says(Message::HeartbeatAck(HeartbeatAck { sequence, lease }))
        .await;
    // Another controller's heartbeat.
    leader.answers(follower.newest_beat(), 0).await;
    leader.answers(9_999, 0).await;
    rig.is_quiet().await;
    leader.grants(7).await;
    let held = rig.lease().await;
    assert_eq!(held.fence_epoch, 7);
    // Between 7 and 8 s of the hub's clock; heartbeats go once a second.
    assert!(
        (6_000..=8_000).contains(&(held.ends_at_ms - LEASE_MS)),
        "{held:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_answer_of_a_deposed_leader_comes_too_late() {
    let mut rig = Rig::new(0);
    let old = Controller::connect(0, &rig.to_hub).await;
    let new = Controller::connect(1, &rig.to_hub).await;
    old.leads(3).await;
    seconds(3).await;
    let sequence = old.grants(0).await;
    let held = rig.lease().await;
    seconds(1).await;
    new.leads(4).await;
    old.grants(0).await;
    new.answers(sequence, 0).await;
    // Sent before it was obeyed.
    new.grants(0).await;
    assert!(rig.events.try_recv().is_err());
    seconds(2).await;
    new.grants(0).await;
    assert!(rig.lease().await.ends_at_ms > held.ends_at_ms);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_broke_answers_nothing() {
    let mut rig = Rig::new(0);
    let leader = Controller::connect(0, &rig.to_hub).await;
    leader.leads(3).await;
    seconds(2).await;
    let sequence = leader.newest_beat();
    rig.to_hub.send((0, LinkEvent::Down)).await.expect("hub");
    let again = Controller::connect(0, &rig.to_hub).await;
    again.leads(3).await;
    again.answers(sequence, 0).await;
    rig.is_quiet().await;
    again.grants(0).await;
    rig.lease().await;
}
