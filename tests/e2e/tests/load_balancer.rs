//! A load balancer: spreads over its healthy targets, leaves out a killed one,
//! and drains one without breaking what it is doing.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context;
use nube_e2e::{Probe, launch};
use nube_harness::{Cloud, Internet, Size, eventually, guest_of};

/// How long a target takes to answer: long enough to be drained meanwhile.
const SLOW_MS: &str = "3000";

#[test]
fn connections_are_spread_over_what_is_healthy_and_not_draining() -> anyhow::Result<()> {
    let internet = Internet::create()?;
    let cloud = Cloud::up(Size {
        controllers: 1,
        nodes: 2,
    })?;
    let probe = Probe::build(&cloud)?;
    let mut ids = BTreeMap::new();
    for name in ["a", "b", "c"] {
        let shown = launch(&cloud, name, &["--label", "app=web"])?;
        ids.insert(name, shown["id"].as_str().context("id")?.to_owned());
        probe.put(&cloud, name)?;
        probe.leave(&cloud, name, &["serve", "8080"])?;
        cloud.ssh(
            name,
            &["./probe serve 8081 3000 </dev/null >/dev/null 2>&1 &"],
        )?;
    }
    let address = cloud.json(&["address", "allocate", "front"])?;
    let address = address["address"].as_str().context("address")?.to_owned();
    let create = [
        "load-balancer",
        "create",
        "web",
        "--listener",
        "tcp:80:8080",
        "--listener",
        "tcp:81:8081",
        "--target-label",
        "app=web",
        "--address",
        "front",
    ];
    cloud.ctl(&create)?;
    let healthy = |count: usize| {
        eventually("targets are judged", Duration::from_secs(60), || {
            let shown = cloud.json(&["load-balancer", "show", "web"])?;
            let targets = shown["targets"].as_array().context("targets")?;
            let good = targets.iter().filter(|t| t["state"] == "healthy").count();
            anyhow::ensure!(good == count, "{targets:?}");
            Ok(())
        })
    };
    healthy(3)?;
    let ask = |port: u16| ask(&internet, &address, port);
    let spread = |count: usize| {
        let mut answers: BTreeMap<String, u32> = BTreeMap::new();
        for _ in 0..count {
            *answers.entry(ask(80)?).or_default() += 1;
        }
        anyhow::Ok(answers)
    };
    eventually("all three answer", Duration::from_secs(30), || {
        let answers = spread(30)?;
        anyhow::ensure!(answers.len() == 3, "{answers:?}");
        Ok(())
    })?;
    let answers = spread(120)?;
    println!("spread: {answers:?}");
    assert!(answers.values().all(|count| *count >= 20), "{answers:?}");
    // Guests of the network reach it by its private address, targets too.
    let shown = cloud.json(&["load-balancer", "show", "web"])?;
    let private = shown["private_ip"].as_str().context("private_ip")?;
    assert_eq!(probe.ask(&cloud, "a", &["connect", private, "80"])?, "open");

    // Draining: a slow answer of each target is under way.
    let slow: Vec<_> = std::thread::scope(|scope| {
        let slow: Vec<_> = (0..6).map(|_| scope.spawn(|| ask(81))).collect();
        std::thread::sleep(Duration::from_millis(800));
        let drained = cloud.ctl(&["load-balancer", "drain", "web", "b"]);
        let answers: Vec<_> = slow.into_iter().map(|one| one.join()).collect();
        drained.map(|_| answers)
    })?;
    for answer in slow {
        let answer = answer.map_err(|_| anyhow::anyhow!("a client panicked"))?;
        assert!(["a", "b", "c"].contains(&answer?.as_str()));
    }
    let without = |gone: &str| {
        eventually("it gets nothing new", Duration::from_secs(60), || {
            let answers = spread(30)?;
            anyhow::ensure!(!answers.contains_key(gone), "{answers:?}");
            Ok(())
        })
    };
    without("b")?;
    cloud.ctl(&["load-balancer", "undrain", "web", "b"])?;
    healthy(3)?;

    guest_of(&ids["c"])?.kill()?;
    without("c")?;
    println!("answer time of the slow listener: {SLOW_MS} ms; nothing broke");
    Ok(())
}

fn ask(internet: &Internet, address: &str, port: u16) -> anyhow::Result<String> {
    let to: SocketAddr = format!("{address}:{port}").parse()?;
    internet.run(|| {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(3))?;
        stream.set_read_timeout(Some(Duration::from_secs(15)))?;
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.lines().last().context("an empty answer")?.to_owned())
    })
}
