//! The wire between the members of a lab: a network namespace for each, one
//! bridge in a namespace of its own (the hub, where clients live). Nothing is
//! made in this machine's own namespace, so nothing of a lab can stay there.
//!
//! ```text
//!  hub (.1, clients) ── br0 ══ veth ══ eth0 (.11) controller-1
//!                          ══ veth ══ eth0 (.31) host-1
//! ```

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::run::run;

/// Every lab has the same addresses: nobody outside sees them.
const SUBNET: &str = "10.214.0";
const HUB: &str = "hub";
const NAMESPACES: &str = "/run/netns";

/// The namespaces of one lab; removed when dropped.
#[derive(Debug)]
pub struct Network {
    run: String,
    members: Vec<(String, u8)>,
}

fn ip(args: &[&str]) -> anyhow::Result<String> {
    run(Command::new("ip").args(args))?.ok()
}

impl Network {
    /// Makes hub, bridge and members; `run` names them on this machine.
    pub fn create(run: &str, members: Vec<(String, u8)>) -> anyhow::Result<Self> {
        let network = Self {
            run: run.to_owned(),
            members,
        };
        let hub = network.namespace(HUB);
        ip(&["netns", "add", &hub])?;
        ip(&["-n", &hub, "link", "set", "lo", "up"])?;
        ip(&["-n", &hub, "link", "add", "br0", "type", "bridge"])?;
        let address = format!("{SUBNET}.1/24");
        ip(&["-n", &hub, "addr", "add", &address, "dev", "br0"])?;
        ip(&["-n", &hub, "link", "set", "br0", "up"])?;
        for (member, host) in &network.members {
            network.plug(&hub, member, *host)?;
        }
        Ok(network)
    }

    fn plug(&self, hub: &str, member: &str, host: u8) -> anyhow::Result<()> {
        let namespace = self.namespace(member);
        let port = format!("port{host}");
        let address = format!("{SUBNET}.{host}/24");
        let gateway = format!("{SUBNET}.1");
        ip(&["netns", "add", &namespace])?;
        let veth = ["-n", hub, "link", "add", &port, "type", "veth", "peer"];
        ip(&[&veth[..], &["name", "eth0", "netns", &namespace]].concat())?;
        ip(&["-n", hub, "link", "set", &port, "master", "br0", "up"])?;
        let inside = ["-n", namespace.as_str()];
        let inside = |args: &[&str]| ip(&[&inside[..], args].concat());
        inside(&["link", "set", "lo", "up"])?;
        inside(&["addr", "add", &address, "dev", "eth0"])?;
        inside(&["link", "set", "eth0", "up"])?;
        inside(&["route", "add", "default", "via", &gateway])?;
        // A host passes on what its guests send; answers to what was delayed come
        // in by another way than they went out.
        self.inside(member, || {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
            std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "0")?;
            Ok(())
        })
    }

    /// Name of a member's namespace.
    #[must_use]
    pub fn namespace(&self, member: &str) -> String {
        format!("nube-lab-{}-{member}", self.run)
    }

    /// A member's address.
    pub fn address(&self, member: &str) -> anyhow::Result<String> {
        let found = self.members.iter().find(|(name, _)| name == member);
        let (_, host) = found.with_context(|| format!("no member {member}"))?;
        Ok(format!("{SUBNET}.{host}"))
    }

    /// Moves the calling thread, and what it starts later, into the hub.
    pub fn enter_hub(&self) -> anyhow::Result<()> {
        enter(&self.namespace(HUB))
    }

    /// Runs work on a thread of its own inside a member's namespace.
    pub fn inside<T: Send>(
        &self,
        member: &str,
        work: impl FnOnce() -> anyhow::Result<T> + Send,
    ) -> anyhow::Result<T> {
        let namespace = self.namespace(member);
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                enter(&namespace)?;
                work()
            });
            match inside.join() {
                Ok(done) => done,
                Err(_) => anyhow::bail!("work inside {namespace} panicked"),
            }
        })
    }

    /// Starts a program inside a member's namespace.
    pub fn spawn(&self, member: &str, command: &mut Command) -> anyhow::Result<Child> {
        let what = format!("{command:?}");
        command.stdin(Stdio::null());
        self.inside(member, || command.spawn().context(what))
    }

    /// Gives a member's packet filter these rules, in one transaction.
    pub fn rules(&self, member: &str, rules: &str) -> anyhow::Result<()> {
        use std::io::Write;
        let mut nft = Command::new("nft");
        nft.args(["-f", "-"]).stdin(Stdio::piped());
        nft.stderr(Stdio::piped());
        let done = self.inside(member, || {
            let mut child = nft.spawn().context("starting nft")?;
            let mut input = child.stdin.take().context("a pipe")?;
            input.write_all(rules.as_bytes())?;
            drop(input);
            Ok(child.wait_with_output()?)
        })?;
        let said = String::from_utf8_lossy(&done.stderr);
        anyhow::ensure!(done.status.success(), "nft in {member}: {said}\n{rules}");
        Ok(())
    }

    /// All members.
    pub fn members(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|(name, _)| name.as_str())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for member in self.members().chain([HUB]) {
            let name = self.namespace(member);
            if Path::new(NAMESPACES).join(&name).exists()
                && let Err(error) = ip(&["netns", "del", &name])
            {
                eprintln!("{name} was not removed: {error:#}");
            }
        }
    }
}

/// Moves the calling thread into a named namespace.
fn enter(name: &str) -> anyhow::Result<()> {
    use std::os::fd::AsFd;
    let path = Path::new(NAMESPACES).join(name);
    let file = File::open(&path).with_context(|| path.display().to_string())?;
    let kind = Some(LinkNameSpaceType::Network);
    Ok(move_into_link_name_space(file.as_fd(), kind)?)
}
