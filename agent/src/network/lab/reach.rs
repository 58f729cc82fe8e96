//! Who reaches whom inside of the cloud, and what an agent's restart changes.

use super::Lab;
use super::guest::{SILENCE, passes, talk};
use super::wire::{self, group, members, range, rule};
use crate::network::kernel::Changes;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_of_a_network_reach_each_other_across_hosts() {
    let Some(mut lab) = Lab::new(&[3]).await else {
        return;
    };
    let one = lab.guest(3, 0, 11, &[1]).await;
    let near = lab.guest(3, 0, 12, &[1]).await;
    let far = lab.guest(3, 1, 13, &[1]).await;
    for (from, to) in [(&one, &near), (&one, &far), (&far, &one)] {
        let listener = to.listen(7000).await;
        for address in [to.v4(), to.v6()] {
            let mut stream = from.connect(address, 7000).await;
            let (mut other, source) = listener.accept();
            let expected = if address.is_ipv4() {
                from.v4()
            } else {
                from.v6()
            };
            assert_eq!(source, expected, "as itself");
            assert!(talk(&mut stream, &mut other), "{address}");
        }
    }
    // More than one packet's worth, through the smaller packets of the overlay.
    let listener = far.listen(7001).await;
    let mut stream = one.connect(far.v4(), 7001).await;
    let (mut other, _) = listener.accept();
    let bytes = vec![7_u8; 1 << 20];
    let sent = bytes.clone();
    let sending = std::thread::spawn(move || std::io::Write::write_all(&mut stream, &sent));
    let mut got = vec![0; bytes.len()];
    std::io::Read::read_exact(&mut other, &mut got).expect("all of it");
    sending.join().expect("no panic").expect("sent");
    assert_eq!(got, bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_take_effect_at_once_and_cut_both_directions() {
    let Some(mut lab) = Lab::new(&[3]).await else {
        return;
    };
    let web = |lab: &mut Lab, rules| {
        let groups = &mut lab.wishes.get_mut(&3).expect("network").security_groups;
        groups.truncate(1);
        groups.push(group(2, rules));
    };
    let open = |first: u32, last: u32| {
        vec![
            rule(true, "tcp", (first, last), members(1)),
            rule(false, "any", (0, 0), range("0.0.0.0/0")),
        ]
    };
    web(&mut lab, open(80, 80));
    let client = lab.guest(3, 0, 11, &[1]).await;
    let near = lab.guest(3, 0, 12, &[2]).await;
    let far = lab.guest(3, 1, 13, &[2]).await;
    for server in [&near, &far] {
        let (on_80, on_81) = (server.listen(80).await, server.listen(81).await);
        let mut stream = client.connect(server.v4(), 80).await;
        let (mut other, _) = on_80.accept();
        assert!(talk(&mut stream, &mut other));
        client.fails(server.v4(), 81).await;
        client.fails(server.v6(), 81).await;
        // Another rule than the flow's: it stands.
        web(&mut lab, open(80, 81));
        lab.tell().await;
        assert!(talk(&mut stream, &mut other), "established flows go on");
        drop(client.connect(server.v4(), 81).await);
        let _ = on_81.accept();
        // The flow's own: it ends, whoever speaks.
        web(&mut lab, open(81, 81));
        lab.tell().await;
        assert!(!passes(&mut stream, &mut other, SILENCE), "to the server");
        assert!(!passes(&mut other, &mut stream, SILENCE), "to the client");
        client.fails(server.v4(), 80).await;
        web(&mut lab, open(80, 80));
        lab.tell().await;
        drop(client.connect(server.v4(), 80).await);
    }
    // Nothing goes the other way: the client's group lets its own members in.
    let _listener = client.listen(80).await;
    near.fails(client.v4(), 80).await;
    far.fails(client.v4(), 80).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_leave_is_a_rule_as_well() {
    let Some(mut lab) = Lab::new(&[3]).await else {
        return;
    };
    let only_80 = rule(false, "tcp", (80, 80), members(1));
    let groups = &mut lab.wishes.get_mut(&3).expect("network").security_groups;
    groups.push(group(2, vec![only_80]));
    let confined = lab.guest(3, 0, 11, &[2]).await;
    let free = lab.guest(3, 1, 13, &[1]).await;
    let every = rule(true, "any", (0, 0), range("10.0.0.0/24"));
    lab.wishes.get_mut(&3).expect("network").security_groups[0]
        .rules
        .push(every);
    lab.tell().await;
    let (_on_80, _on_81) = (free.listen(80).await, free.listen(81).await);
    drop(confined.connect(free.v4(), 80).await);
    confined.fails(free.v4(), 81).await;
    let inside = lab.hosts[0].inside(3);
    assert!(lab.counter(&inside, "inet", "nube", "denied_out").await > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_agent_changes_nothing_and_cuts_nothing() {
    let Some(mut lab) = Lab::new(&[3]).await else {
        return;
    };
    let one = lab.guest(3, 0, 11, &[1]).await;
    let two = lab.guest(3, 1, 12, &[1]).await;
    let network = lab.wishes.get_mut(&3).expect("network");
    let (host, instance) = (lab.hosts[0].overlay, wire::instance(3, 11));
    network
        .addresses
        .push(wire::elastic(super::ELASTIC, host, instance));
    network
        .load_balancers
        .push(wire::balancer(&[(instance, true)]));
    lab.tell().await;
    let listener = two.listen(7000).await;
    let mut stream = one.connect(two.v4(), 7000).await;
    let (mut other, _) = listener.accept();
    for host in 0..2 {
        // No leader speaks: what is kept on disk is all it knows.
        lab.restart(host);
        let task = lab.hosts[host].task.as_mut().expect("an agent");
        assert!(task.settle().await);
        assert_eq!(task.changed(), &Changes::new(), "host {host}");
        assert!(talk(&mut stream, &mut other));
    }
    // The same word again: nothing to do.
    lab.tell().await;
    for host in &lab.hosts {
        let task = host.task.as_ref().expect("an agent");
        assert_eq!(task.changed(), &Changes::new());
    }
    assert!(talk(&mut stream, &mut other));
    drop(one.connect(two.v4(), 7000).await);
}
