//! Out into the world and back: translation, elastic addresses, load balancers,
//! and what all of it costs.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use nube_types::net::transit_address;

use super::guest::{SILENCE, dial, listen, passes, talk};
use super::wire::{self, balancer, range, rule};
use super::{ELASTIC, Lab, WORLD};

const PATIENCE: Duration = Duration::from_secs(10);
const BALANCER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 200);

/// Everybody may begin flows with members of the default group.
fn open(lab: &mut Lab) {
    let network = lab.wishes.get_mut(&3).expect("network");
    let all = rule(true, "any", (0, 0), range("0.0.0.0/0"));
    network.security_groups[0].rules.push(all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_world_is_reached_through_a_gateway_only() {
    let Some(mut lab) = Lab::new(&[3]).await else {
        return;
    };
    let guest = lab.guest(3, 0, 11, &[1]).await;
    let server = listen(&lab.outside, 7000).await;
    let mut stream = guest.connect(WORLD.into(), 7000).await;
    let (mut other, source) = server.accept();
    assert_eq!(source, lab.hosts[0].overlay, "as its host");
    assert!(talk(&mut stream, &mut other));
    lab.wishes.get_mut(&3).expect("network").internet_gateway = false;
    lab.tell().await;
    assert!(!passes(&mut other, &mut stream, SILENCE), "inward");
    assert!(!passes(&mut stream, &mut other, SILENCE), "outward");
    guest.fails(WORLD.into(), 7000).await;
    lab.wishes.get_mut(&3).expect("network").internet_gateway = true;
    lab.tell().await;
    drop(guest.connect(WORLD.into(), 7000).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_elastic_address_leads_in_and_out_and_moves() {
    let Some(mut lab) = Lab::new(&[3]).await else {
        return;
    };
    let one = lab.guest(3, 0, 11, &[1]).await;
    let two = lab.guest(3, 1, 12, &[1]).await;
    let point = |lab: &mut Lab, host: usize, last: u8| {
        let announcer = lab.hosts[host].overlay;
        let network = lab.wishes.get_mut(&3).expect("network");
        network.addresses = vec![wire::elastic(ELASTIC, announcer, wire::instance(3, last))];
    };
    let (at_one, at_two) = (one.listen(7000).await, two.listen(7000).await);
    point(&mut lab, 0, 11);
    lab.tell().await;
    let refused = dial(&lab.outside, ELASTIC.into(), 7000, SILENCE).await;
    assert!(refused.is_err(), "its group lets nobody in");
    open(&mut lab);
    lab.tell().await;
    let mut stream = dial(&lab.outside, ELASTIC.into(), 7000, PATIENCE)
        .await
        .expect("in");
    let (mut other, source) = at_one.accept();
    assert_eq!(source, lab.outside_address, "who asks is seen");
    assert!(talk(&mut stream, &mut other));
    // Out, it is the guest's address; other guests have the host's.
    let server = listen(&lab.outside, 7001).await;
    drop(one.connect(WORLD.into(), 7001).await);
    assert_eq!(server.accept().1, ELASTIC);
    drop(two.connect(WORLD.into(), 7001).await);
    assert_eq!(server.accept().1, lab.hosts[1].overlay);
    // Its network goes straight to whom it leads to.
    drop(two.connect(ELASTIC.into(), 7000).await);
    assert_eq!(at_one.accept().1, two.v4());
    // It moves: what stood ends, what comes goes to the other guest.
    point(&mut lab, 1, 12);
    lab.tell().await;
    assert!(!passes(&mut stream, &mut other, SILENCE), "inward");
    assert!(!passes(&mut other, &mut stream, SILENCE), "outward");
    drop(
        dial(&lab.outside, ELASTIC.into(), 7000, PATIENCE)
            .await
            .expect("in"),
    );
    assert_eq!(at_two.accept().1, lab.outside_address);
    drop(two.connect(WORLD.into(), 7001).await);
    assert_eq!(server.accept().1, ELASTIC);
    drop(one.connect(WORLD.into(), 7001).await);
    assert_eq!(server.accept().1, lab.hosts[0].overlay);
    // And goes.
    lab.wishes.get_mut(&3).expect("network").addresses.clear();
    lab.tell().await;
    assert!(
        dial(&lab.outside, ELASTIC.into(), 7000, SILENCE)
            .await
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_balancer_spreads_drains_and_refuses() {
    let Some(mut lab) = Lab::new(&[3]).await else {
        return;
    };
    let client = lab.guest(3, 0, 11, &[1]).await;
    // Their group has no rule that lets anybody in.
    let network = lab.wishes.get_mut(&3).expect("network");
    network.security_groups.push(wire::group(2, Vec::new()));
    let near = lab.guest(3, 0, 12, &[2]).await;
    let far = lab.guest(3, 1, 13, &[2]).await;
    let (at_near, at_far) = (near.listen(8080).await, far.listen(8080).await);
    let targets = |lab: &mut Lab, near_takes: bool, far_takes: bool| {
        let both = [(near.instance, near_takes), (far.instance, far_takes)];
        lab.wishes.get_mut(&3).expect("network").load_balancers = vec![balancer(&both)];
    };
    targets(&mut lab, true, true);
    lab.tell().await;
    client.fails(near.v4(), 8080).await;
    // Whoever asks has the name of the host that translates.
    let asker = transit_address(lab.hosts[0].overlay).into();
    let (mut to_near, mut to_far) = (0, 0);
    for _ in 0..40 {
        let _stream = client.connect(BALANCER.into(), 80).await;
        // The client is through before its last word has arrived.
        loop {
            let called = (at_near.calls_from(asker), at_far.calls_from(asker));
            to_near += called.0;
            to_far += called.1;
            if called != (0, 0) {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(to_near + to_far, 40);
    // Chance leaves one of two out in 40 draws once in 10^11.
    assert!(to_near > 0 && to_far > 0, "{to_near} and {to_far}");
    // Only one takes new flows; what stands at the other goes on.
    targets(&mut lab, false, true);
    lab.tell().await;
    let mut stream = client.connect(BALANCER.into(), 80).await;
    let mut other = at_far.accept_from(asker);
    targets(&mut lab, true, false);
    lab.tell().await;
    for _ in 0..8 {
        drop(client.connect(BALANCER.into(), 80).await);
        drop(at_near.accept_from(asker));
    }
    assert_eq!(at_far.calls_from(asker), 0);
    assert!(talk(&mut stream, &mut other), "drained, not cut");
    // Through an elastic address, from outside, to a target on another host.
    let host = lab.hosts[0].overlay;
    let mut elastic = wire::elastic(ELASTIC, host, near.instance);
    elastic.instance_id.clear();
    elastic.load_balancer_id = balancer(&[]).load_balancer_id;
    lab.wishes
        .get_mut(&3)
        .expect("network")
        .addresses
        .push(elastic);
    targets(&mut lab, false, true);
    lab.tell().await;
    let mut world = dial(&lab.outside, ELASTIC.into(), 80, PATIENCE)
        .await
        .expect("in");
    let mut other = at_far.accept_from(asker);
    assert!(talk(&mut world, &mut other));
    // None is left: who asks is told at once.
    targets(&mut lab, false, false);
    lab.tell().await;
    let refused = std::io::ErrorKind::ConnectionRefused;
    assert_eq!(client.fails(BALANCER.into(), 80).await, refused);
    let outside = dial(&lab.outside, ELASTIC.into(), 80, PATIENCE).await;
    assert_eq!(outside.expect_err("refused").kind(), refused);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_byte_to_and_from_the_world_is_counted_once() {
    let Some(mut lab) = Lab::new(&[3]).await else {
        return;
    };
    let guest = lab.guest(3, 0, 11, &[1]).await;
    let near = lab.guest(3, 0, 12, &[1]).await;
    let world = lab
        .outside
        .run(|| UdpSocket::bind((WORLD, 9000)))
        .await
        .expect("bound");
    world.set_read_timeout(Some(PATIENCE)).expect("set");
    let socket = guest
        .namespace
        .run(|| UdpSocket::bind("0.0.0.0:0"))
        .await
        .expect("bound");
    socket.set_read_timeout(Some(PATIENCE)).expect("set");
    let exchange = || {
        for _ in 0..10 {
            socket.send_to(&[1; 100], (WORLD, 9000)).expect("sent");
            let (_, from) = world.recv_from(&mut [0; 200]).expect("received");
            world.send_to(&[2; 40], from).expect("sent");
            socket.recv_from(&mut [0; 200]).expect("received");
        }
    };
    // IP and UDP are 28 bytes of each packet.
    let (out, into) = (10 * 128_u64, 10 * 68_u64);
    let totals = async |lab: &Lab| {
        let networks = &lab.hosts[0].networks;
        let inside = lab.hosts[0].inside(3);
        if inside.exists() {
            networks.meter().read(&inside, 3).await.expect("read");
        }
        let report = networks.meter().report();
        let id = guest.instance.to_string();
        let of = report
            .instances
            .into_iter()
            .find(|told| told.instance_id == id);
        of.map(|told| (told.bytes_out, told.bytes_in))
    };
    exchange();
    assert_eq!(totals(&lab).await, Some((out, into)));
    // Guests of the network are not the world.
    let listener = near.listen(7000).await;
    drop(guest.connect(near.v4(), 7000).await);
    let _ = listener.accept();
    assert_eq!(totals(&lab).await, Some((out, into)));
    // Another life of the agent repeats nothing and forgets nothing.
    lab.restart(0);
    assert!(lab.hosts[0].task.as_mut().expect("agent").settle().await);
    exchange();
    assert_eq!(totals(&lab).await, Some((2 * out, 2 * into)));
    // A table that was lost begins at nothing; the total does not.
    let inside = lab.hosts[0].inside(3);
    let lost = crate::host::nft::no_table("inet", crate::network::rules::meter::TABLE);
    inside
        .run(move || crate::host::nft::apply(&lost))
        .await
        .expect("lost");
    lab.restart(0);
    assert!(lab.hosts[0].task.as_mut().expect("agent").settle().await);
    exchange();
    assert_eq!(totals(&lab).await, Some((3 * out, 3 * into)));
    // What came since the last reading is read before the port goes.
    exchange();
    lab.remove(0, &guest).await;
    assert_eq!(totals(&lab).await, Some((4 * out, 4 * into)));
}
