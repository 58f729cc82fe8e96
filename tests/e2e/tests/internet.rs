//! Internet access: out by NAT while the gateway is there, in by elastic addresses
//! that move between hosts, and a bill that equals what somebody else counted.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::Context;
use nube_e2e::{Probe, launch};
use nube_harness::{Cloud, Internet, Size, eventually};

const MIB: u64 = 1 << 20;

#[test]
fn guests_reach_the_internet_and_elastic_addresses_reach_guests() -> anyhow::Result<()> {
    let internet = Internet::create()?;
    let cloud = Cloud::up(Size {
        controllers: 1,
        nodes: 2,
    })?;
    cloud.ctl(&["security-group", "create", "web"])?;
    let open = ["--ingress", "--protocol", "tcp", "--port", "7000-7001"];
    let rule = ["security-group", "add-rule", "web"];
    cloud.ctl(&[&rule[..], &open, &["--from", "0.0.0.0/0"]].concat())?;
    let mut hosts = Vec::new();
    for name in ["one", "two"] {
        let shown = launch(&cloud, name, &["--security-group", "web"])?;
        hosts.push(shown["node_name"].clone());
    }
    assert_ne!(hosts[0], hosts[1]);
    let probe = Probe::build(&cloud)?;
    for guest in ["one", "two"] {
        probe.put(&cloud, guest)?;
        probe.leave(&cloud, guest, &["serve", "7000"])?;
    }
    out_through_the_gateway(&cloud, &internet, &probe)?;
    an_address_moves(&cloud, &internet)?;
    traffic_is_counted(&cloud, &internet, &probe)
}

/// Says to each client where it came from.
fn mirror(internet: &Internet) -> anyhow::Result<u16> {
    let listener = internet.run(|| Ok(TcpListener::bind("0.0.0.0:0")?))?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            if let Ok(from) = client.peer_addr() {
                let body = from.ip().to_string();
                let _ = client.read(&mut [0; 512]);
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                let _ = client.write_all((head + &body).as_bytes());
            }
        }
    });
    Ok(port)
}

fn out_through_the_gateway(
    cloud: &Cloud,
    internet: &Internet,
    probe: &Probe,
) -> anyhow::Result<()> {
    let port = mirror(internet)?.to_string();
    let out = Internet::ADDRESS.to_string();
    let connect = || probe.ask(cloud, "one", &["connect", &out, &port]);
    assert_eq!(connect()?, "open");
    cloud.ctl(&["network", "detach-gateway", "default"])?;
    eventually(
        "without a gateway there is no way",
        Duration::from_secs(20),
        || {
            anyhow::ensure!(connect()? != "open", "still open");
            Ok(())
        },
    )?;
    cloud.ctl(&["network", "attach-gateway", "default"])?;
    eventually(
        "with a gateway there is one",
        Duration::from_secs(20),
        || {
            anyhow::ensure!(connect()? == "open", "still closed");
            Ok(())
        },
    )?;
    // An elastic address is the guest's way out as well.
    let address = cloud.json(&["address", "allocate", "www"])?;
    let address = address["address"].as_str().context("address")?;
    cloud.ctl(&["address", "associate", "www", "one"])?;
    eventually(
        "it leaves by its own address",
        Duration::from_secs(20),
        || {
            let said = probe.ask(cloud, "one", &["http", "GET", &out, &port, "/"])?;
            anyhow::ensure!(said.ends_with(address), "{said}");
            Ok(())
        },
    )
}

/// Who answers on an elastic address, within so long.
fn who(internet: &Internet, address: &str, limit: Duration) -> anyhow::Result<String> {
    let to: SocketAddr = format!("{address}:7000").parse()?;
    internet.run(|| {
        let mut stream = TcpStream::connect_timeout(&to, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let name = answer.lines().last().context("an answer")?;
        Ok(name.to_owned())
    })
}

fn an_address_moves(cloud: &Cloud, internet: &Internet) -> anyhow::Result<()> {
    let address = cloud.json(&["address", "show", "www"])?;
    let address = address["address"].as_str().context("address")?;
    let patient = Duration::from_secs(2);
    eventually("it answers", Duration::from_secs(20), || {
        let name = who(internet, address, patient)?;
        anyhow::ensure!(name == "one", "{name} answers");
        Ok(())
    })?;
    let again = cloud.try_ctl(&["address", "associate", "www", "two"])?;
    assert_ne!(again.code, Some(0), "an address in use needs --move");
    for to in ["two", "one", "two"] {
        let begun = Instant::now();
        cloud.ctl(&["address", "associate", "www", to, "--move"])?;
        let committed = begun.elapsed();
        eventually("the other guest answers", Duration::from_secs(20), || {
            let name = who(internet, address, Duration::from_millis(250))?;
            anyhow::ensure!(name == to, "{name} answers");
            Ok(())
        })?;
        let gap = begun.elapsed();
        println!("elastic address: move committed after {committed:?}, {to} answers after {gap:?}");
    }
    Ok(())
}

/// 32 MiB out of a guest: what the bill says against what the internet received.
fn traffic_is_counted(cloud: &Cloud, internet: &Internet, probe: &Probe) -> anyhow::Result<()> {
    let shown = cloud.json(&["address", "show", "www"])?;
    let address = shown["address"].as_str().context("address")?.to_owned();
    let bytes = (32 * MIB).to_string();
    probe.leave(cloud, "two", &["blast", "7001", &bytes])?;
    let out = |cloud: &Cloud| -> anyhow::Result<u64> {
        let shown = cloud.json(&["show", "two"])?;
        Ok(shown["internet_bytes_out"]
            .as_str()
            .unwrap_or("0")
            .parse()?)
    };
    let settled = |what: &str, least: u64| {
        eventually(what, Duration::from_secs(60), || {
            let first = out(cloud)?;
            std::thread::sleep(Duration::from_secs(4));
            anyhow::ensure!(first >= least && first == out(cloud)?, "{first} so far");
            Ok(first)
        })
    };
    let (before, counted_before) = (settled("it is quiet", 0)?, internet.counted()?.0);
    let to: SocketAddr = format!("{address}:7001").parse()?;
    let received = internet.run(|| {
        let stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
        Ok(std::io::copy(
            &mut stream.take(64 * MIB),
            &mut std::io::sink(),
        )?)
    })?;
    assert_eq!(received, 32 * MIB);
    let counted = internet.counted()?.0 - counted_before;
    let billed = settled("it is reported", before + 32 * MIB)? - before;
    println!("bytes out: {billed} in the ledger, {counted} counted out there");
    let apart = billed.abs_diff(counted) * 100;
    assert!(apart <= counted, "more than 1 % apart");

    let bill = cloud.json(&["bill"])?;
    let lines = bill["lines"].as_array().context("lines")?;
    let is = |line: &&serde_json::Value, resource: &str| line["resource"] == resource;
    let held: u64 = lines
        .iter()
        .filter(|line| is(line, "address"))
        .filter_map(|line| line["seconds"].as_str()?.parse::<u64>().ok())
        .sum();
    assert!(held > 0, "{bill:#}");
    assert!(
        lines.iter().any(|line| is(&line, "internet-out")),
        "{bill:#}"
    );
    cloud.ctl(&["address", "disassociate", "www"])?;
    cloud.ctl(&["address", "release", "www"])?;
    cloud.verify_bill()
}
