//! The task by itself: what it tells the leader.

use nube_proto::agent::v1::agent_message::Message;

use super::Lab;
use super::wire::balancer;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verdicts_and_last_totals_reach_the_leader() {
    let Some(mut lab) = Lab::new(&[3]).await else {
        return;
    };
    let guest = lab.guest(3, 0, 11, &[1]).await;
    let network = lab.wishes.get_mut(&3).expect("network");
    network.load_balancers = vec![balancer(&[(guest.instance, true)])];
    lab.tell().await;
    let task = lab.hosts[0].task.take().expect("an agent");
    let running = tokio::spawn(task.run());
    let told = &mut lab.hosts[0].told;
    let mut verdict = async |healthy: bool| loop {
        if let Message::Health(report) = told.recv().await.expect("a task")
            && report
                .targets
                .iter()
                .all(|target| target.healthy == healthy)
        {
            assert_eq!(report.targets.len(), 1);
            assert_eq!(report.targets[0].instance_id, guest.instance.to_string());
            return report.targets[0].reason.clone();
        }
    };
    assert_ne!(verdict(false).await, "", "nobody listens yet");
    let listener = guest.listen(8080).await;
    assert_eq!(verdict(true).await, "");
    drop(listener);
    assert_ne!(verdict(false).await, "");
    // It leaves: its totals are told at once, not in a minute.
    lab.remove(0, &guest).await;
    let told = &mut lab.hosts[0].told;
    let report = loop {
        if let Message::Traffic(report) = told.recv().await.expect("a task") {
            break report;
        }
    };
    assert_eq!(report.instances[0].instance_id, guest.instance.to_string());
    running.abort();
}
