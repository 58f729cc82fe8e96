//! Private networks across hosts: two projects use the same range on the same two
//! hosts, reach their own by address and by name, and never see each other.

use anyhow::Context;
use nube_e2e::Probe;
use nube_harness::{Cloud, Size, micro_image};

const SIZE: Size = Size {
    controllers: 1,
    nodes: 2,
};
/// Everything that a guest may not send.
const FORBIDDEN: [&str; 10] = [
    "mac",
    "ip",
    "arp",
    "nd",
    "ra",
    "dhcp",
    "vlan",
    "qinq",
    "ethertype",
    "vxlan",
];

/// A project's side of the story.
struct Tenant<'a> {
    cloud: &'a Cloud,
    project: &'a str,
}

impl Tenant<'_> {
    fn ctl(&self, args: &[&str]) -> anyhow::Result<String> {
        self.cloud
            .ctl(&[&["--project", self.project], args].concat())
    }

    fn ssh(&self, guest: &str, command: &[&str]) -> anyhow::Result<String> {
        let login = ["ssh", guest, "--"];
        Ok(self.ctl(&[&login[..], command].concat())?.trim().to_owned())
    }

    fn settle(&self) -> anyhow::Result<()> {
        let image = micro_image()?;
        self.ctl(&["image", "import", image.to_str().context("a path")?])?;
        self.ctl(&["ssh-key", "generate", "me"])?;
        self.ctl(&["network", "create", "lab", "--cidr", "10.0.0.0/24"])?;
        Ok(())
    }

    /// Two guests on two hosts, with the addresses .10 and .11.
    fn launch(&self) -> anyhow::Result<()> {
        let mut hosts = Vec::new();
        for (name, ip) in [("one", "10.0.0.10"), ("two", "10.0.0.11")] {
            let place = ["--network", "lab", "--ip", ip];
            self.ctl(&[&["launch", "micro", "--name", name], &place[..]].concat())?;
            let shown = self.ctl(&["show", name, "-o", "json"])?;
            let shown: serde_json::Value = serde_json::from_str(&shown)?;
            assert_eq!(shown["private_ip"], ip);
            hosts.push(shown["node_name"].as_str().context("a host")?.to_owned());
        }
        assert_ne!(hosts[0], hosts[1], "they must be on two hosts");
        Ok(())
    }

    fn put(&self, probe: &Probe, guest: &str) -> anyhow::Result<()> {
        let here = probe.path().to_str().context("a path")?;
        self.ctl(&["scp", here, &format!("{guest}:probe")])?;
        Ok(())
    }

    fn ipv6(&self, guest: &str) -> anyhow::Result<String> {
        let shown = self.ctl(&["show", guest, "-o", "json"])?;
        let shown: serde_json::Value = serde_json::from_str(&shown)?;
        Ok(shown["ipv6"].as_str().context("ipv6")?.to_owned())
    }
}

#[test]
fn equal_ranges_of_two_projects_reach_their_own_and_never_meet() -> anyhow::Result<()> {
    let cloud = Cloud::up_bare(SIZE)?;
    cloud.ctl(&["project", "create", "red"])?;
    cloud.ctl(&["project", "create", "blue"])?;
    let tenant = |project| Tenant {
        cloud: &cloud,
        project,
    };
    let (red, blue) = (tenant("red"), tenant("blue"));
    for side in [&red, &blue] {
        side.settle()?;
        side.launch()?;
    }
    for side in [&red, &blue] {
        let v6 = side.ipv6("two")?;
        for target in ["10.0.0.11", "two.lab.internal", &v6] {
            let said = side.ssh("one", &["ping", "-c", "2", "-W", "5", target])?;
            assert!(said.contains(" 0% packet loss"), "{target}: {said}");
        }
        // The same address, and each its own.
        let name = side.ssh("one", &["hostname"])?;
        assert_eq!(name, "one");
    }
    let probe = Probe::build(&cloud)?;
    for (side, guest) in [(&red, "one"), (&red, "two"), (&blue, "two")] {
        side.put(&probe, guest)?;
    }
    nothing_forged_arrives(&cloud, &red, &blue)
}

/// Each kind is sent to the neighbour of the own project while that neighbour and
/// the other project's guest of the same address listen.
fn nothing_forged_arrives(
    cloud: &Cloud,
    red: &Tenant<'_>,
    blue: &Tenant<'_>,
) -> anyhow::Result<()> {
    let listen = |side: &Tenant<'_>, kind: &str, seconds: &str| {
        let marker = format!("nube-spoof-{kind}");
        let mut command = cloud.command(&[
            "--project",
            side.project,
            "ssh",
            "two",
            "--",
            "./probe",
            "listen",
            "eth0",
            seconds,
            &marker,
        ])?;
        command.stdout(std::process::Stdio::piped());
        anyhow::Ok(command.spawn()?)
    };
    let heard = |child: std::process::Child| {
        let done = child.wait_with_output()?;
        let text = String::from_utf8_lossy(&done.stdout).trim().to_owned();
        text.parse::<u64>()
            .with_context(|| format!("heard: {text}"))
    };
    let mut kinds = vec!["honest"];
    kinds.extend(FORBIDDEN);
    for kind in kinds {
        let (own, other) = (listen(red, kind, "6")?, listen(blue, kind, "6")?);
        std::thread::sleep(std::time::Duration::from_millis(2_500));
        // What looks like the hosts' own traffic is sent to a host.
        let target = match kind {
            "vxlan" => host_of_two(cloud)?,
            _ => "10.0.0.11".to_owned(),
        };
        let sent = red.ssh("one", &["./probe", "send", "eth0", kind, &target])?;
        assert_eq!(sent, "sent 20", "{kind}");
        let (own, other) = (heard(own)?, heard(other)?);
        assert_eq!(other, 0, "{kind} reached another project");
        if kind == "honest" {
            assert!(own > 0, "honest packets must arrive: the ear is deaf");
        } else {
            assert_eq!(own, 0, "{kind} was delivered");
        }
    }
    Ok(())
}

/// Address of a host on its own network, as the cell's files know it.
fn host_of_two(cloud: &Cloud) -> anyhow::Result<String> {
    let nodes = cloud.json(&["node", "list"])?;
    let address = &nodes["nodes"][1]["overlay_address"];
    Ok(address.as_str().context("overlay_address")?.to_owned())
}
