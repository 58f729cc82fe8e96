//! Golden scripts of placement: `tests/place/*.txt` hold commands, `----`, and
//! the exact output. `UPDATE_EXPECT=1 cargo test -p nube-scheduler` rewrites the
//! outputs; review the difference.
//!
//! ```text
//! host NAME id=1 vcpus=4 memory=8192 …   adds or replaces a host
//! place vcpus=1 memory=512 …             decides; `apply` also reserves
//! ```

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use nube_scheduler::{
    Accelerator, Decision, Driver, DriverSet, Host, Isolation, Request, Strategy, place,
};
use nube_types::{Mib, Name, NodeId};

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "a golden test reads its scripts and rewrites them when asked"
)]
fn scripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/place");
    let entries = std::fs::read_dir(&folder).expect("the folder of scripts is readable");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("entry").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no script in {}", folder.display());
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    for path in paths {
        let script = std::fs::read_to_string(&path).expect("the script is readable");
        let played = play(&script);
        if update {
            std::fs::write(&path, played).expect("the script is writable");
        } else {
            assert!(
                played == script,
                "{} differs (UPDATE_EXPECT=1 rewrites it); it plays as\n{played}",
                path.display()
            );
        }
    }
}

/// Plays the commands of a script and returns it with the outputs they give.
fn play(script: &str) -> String {
    let mut hosts = Vec::new();
    let mut played = String::new();
    for block in script
        .split("\n\n")
        .filter(|block| !block.trim().is_empty())
    {
        let commands = block.split("\n----").next().unwrap_or_default().trim();
        let mut output = String::new();
        let mut has_commands = false;
        for line in commands.lines().filter(|line| !line.starts_with('#')) {
            has_commands = true;
            run(&mut hosts, line, &mut output);
        }
        let separator = if played.is_empty() { "" } else { "\n" };
        let result = if has_commands {
            format!("\n----\n{output}")
        } else {
            "\n".to_owned()
        };
        write!(played, "{separator}{commands}{result}").expect("a String takes every write");
    }
    played
}

fn run(hosts: &mut Vec<Host>, line: &str, output: &mut String) {
    let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
    match command {
        "host" => {
            let host = parse_host(rest);
            hosts.retain(|other| other.id != host.id);
            hosts.push(host);
        }
        "place" => show(hosts, &place(hosts, &parse_request(rest)), output),
        "apply" => {
            let request = parse_request(rest);
            let decision = place(hosts, &request);
            if let Some(host) = hosts
                .iter_mut()
                .find(|host| Some(host.id) == decision.chosen)
            {
                host.vcpus_used += request.vcpus;
                host.memory_used.0 += request.memory.0;
                host.disk_used.0 += request.disk.0;
                host.instances += 1;
                writeln!(output, "{}", host.name).expect("a String takes every write");
            } else {
                writeln!(output, "{}", decision.summary()).expect("a String takes every write");
            }
        }
        other => panic!("unknown command `{other}`"),
    }
}

fn show(hosts: &[Host], decision: &Decision, output: &mut String) {
    for candidate in &decision.candidates {
        let chosen = if decision.chosen == Some(candidate.host) {
            "chosen"
        } else {
            "fits"
        };
        let host = hosts
            .iter()
            .find(|host| host.id == candidate.host)
            .expect("a known host");
        let parts = candidate.parts;
        assert_eq!(parts.total(), candidate.score);
        writeln!(output, "{chosen} {}: {parts}", host.name).expect("a String takes every write");
    }
    let summary = decision.summary().to_string();
    for line in summary.lines() {
        writeln!(output, "refused {line}").expect("a String takes every write");
    }
}

fn words(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split_whitespace()
        .map(|word| word.split_once('=').unwrap_or((word, "")))
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse()
        .unwrap_or_else(|_| panic!("`{text}` is not a number"))
}

fn parse_host(text: &str) -> Host {
    let (name, rest) = text.split_once(' ').expect("a host has a name and values");
    let mut host = Host {
        id: NodeId(0),
        name: Name::new(name).expect("a name"),
        zone: "z1".to_owned(),
        ready: true,
        drained: false,
        vcpus_total: 4,
        vcpu_overcommit_percent: 100,
        vcpus_used: 0,
        memory_total: Mib(8_192),
        memory_used: Mib(0),
        disk_total: Mib(102_400),
        disk_used: Mib(0),
        accelerator: Accelerator::Kvm,
        isolation: Isolation::Hardware,
        drivers: DriverSet::of(&[Driver::Qemu]),
        instances: 0,
        same_group: 0,
    };
    for (key, value) in words(rest) {
        match key {
            "id" => host.id = NodeId(number(value)),
            "zone" => host.zone = value.to_owned(),
            "offline" => host.ready = false,
            "drained" => host.drained = true,
            "vcpus" => host.vcpus_total = number(value),
            "overcommit" => host.vcpu_overcommit_percent = number(value),
            "vcpus_used" => host.vcpus_used = number(value),
            "memory" => host.memory_total = Mib(number(value)),
            "memory_used" => host.memory_used = Mib(number(value)),
            "disk" => host.disk_total = Mib(number(value)),
            "disk_used" => host.disk_used = Mib(number(value)),
            "accelerator" => host.accelerator = parse_accelerator(value),
            "isolation" => host.isolation = parse_isolation(value),
            "drivers" => {
                let drivers: Vec<_> = value.split(',').map(parse_driver).collect();
                host.drivers = DriverSet::of(&drivers);
            }
            "instances" => host.instances = number(value),
            "group" => host.same_group = number(value),
            other => panic!("unknown host value `{other}`"),
        }
    }
    host
}

fn parse_request(text: &str) -> Request {
    let mut request = Request {
        vcpus: 1,
        memory: Mib(128),
        disk: Mib(1_024),
        accelerator: None,
        isolation: Isolation::None,
        zone: None,
        driver: Driver::Qemu,
        strategy: Strategy::Spread,
    };
    for (key, value) in words(text) {
        match key {
            "vcpus" => request.vcpus = number(value),
            "memory" => request.memory = Mib(number(value)),
            "disk" => request.disk = Mib(number(value)),
            "accelerator" => request.accelerator = Some(parse_accelerator(value)),
            "isolation" => request.isolation = parse_isolation(value),
            "zone" => request.zone = Some(value.to_owned()),
            "driver" => request.driver = parse_driver(value),
            "pack" => request.strategy = Strategy::Pack,
            other => panic!("unknown request value `{other}`"),
        }
    }
    request
}

fn parse_accelerator(text: &str) -> Accelerator {
    match text {
        "none" => Accelerator::None,
        "tcg" => Accelerator::Tcg,
        "kvm" => Accelerator::Kvm,
        other => panic!("unknown accelerator `{other}`"),
    }
}

fn parse_isolation(text: &str) -> Isolation {
    match text {
        "none" => Isolation::None,
        "hardware" => Isolation::Hardware,
        other => panic!("unknown isolation class `{other}`"),
    }
}

fn parse_driver(text: &str) -> Driver {
    match text {
        "qemu" => Driver::Qemu,
        "container" => Driver::Container,
        "simulated" => Driver::Simulated,
        other => panic!("unknown driver `{other}`"),
    }
}
