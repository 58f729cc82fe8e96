//! The internet as far as a test needs one: a namespace behind this machine, with
//! an address of its own and a route to elastic addresses. It counts what passes
//! with the packet filter, independently of the hosts' own counters.

use std::fs::File;
use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::Context;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::run::run;

/// The machine's end, and the test's own end (TEST-NET-3, RFC 5737).
const MACHINE: &str = "203.0.113.1";

/// A namespace that plays the internet; gone when dropped.
#[derive(Debug)]
pub struct Internet {
    name: String,
    link: String,
}

fn ip(args: &[&str]) -> anyhow::Result<String> {
    run(Command::new("ip").args(args))?.ok()
}

impl Internet {
    /// Address of everything out there.
    pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 11);

    /// Makes it. One at a time on a machine.
    pub fn create() -> anyhow::Result<Self> {
        let pid = std::process::id();
        let internet = Self {
            name: format!("nube-internet-{pid}"),
            link: format!("nin{pid}"),
        };
        let (name, link) = (internet.name.as_str(), internet.link.as_str());
        ip(&["netns", "add", name])?;
        let veth = ["link", "add", link, "type", "veth", "peer", "name", "eth0"];
        ip(&[&veth[..], &["netns", name]].concat())?;
        ip(&["addr", "add", &format!("{MACHINE}/24"), "dev", link])?;
        ip(&["link", "set", link, "up"])?;
        let inside = |args: &[&str]| ip(&[&["-n", name], args].concat());
        inside(&["link", "set", "lo", "up"])?;
        let own = format!("{}/24", Self::ADDRESS);
        inside(&["addr", "add", &own, "dev", "eth0"])?;
        inside(&["link", "set", "eth0", "up"])?;
        inside(&["route", "add", "default", "via", MACHINE])?;
        internet.nft(&["add table inet count; \
             add counter inet count received; add counter inet count sent; \
             add chain inet count in { type filter hook input priority 0; }; \
             add chain inet count out { type filter hook output priority 0; }; \
             add rule inet count in iifname eth0 counter name received; \
             add rule inet count out oifname eth0 counter name sent"])?;
        Ok(internet)
    }

    fn nft(&self, args: &[&str]) -> anyhow::Result<String> {
        self.run(|| run(Command::new("nft").args(args))?.ok())
    }

    /// Runs work on a thread of its own out there. Sockets made by it stay there.
    pub fn run<T: Send>(
        &self,
        work: impl FnOnce() -> anyhow::Result<T> + Send,
    ) -> anyhow::Result<T> {
        let path = format!("/run/netns/{}", self.name);
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                use std::os::fd::AsFd;
                let file = File::open(&path).with_context(|| path.clone())?;
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(file.as_fd(), kind)?;
                work()
            });
            match inside.join() {
                Ok(done) => done,
                Err(_) => anyhow::bail!("work in the internet panicked"),
            }
        })
    }

    /// Bytes of IP packets that came in from the cloud, and that went to it.
    pub fn counted(&self) -> anyhow::Result<(u64, u64)> {
        let text = self.nft(&["-j", "list", "counters", "table", "inet", "count"])?;
        let all: serde_json::Value = serde_json::from_str(&text)?;
        let bytes = |name: &str| {
            let items = all["nftables"].as_array()?;
            let counters = items.iter().filter_map(|item| item.get("counter"));
            let mut named = counters.filter(|counter| counter["name"] == name);
            named.next()?["bytes"].as_u64()
        };
        Ok((
            bytes("received").context("received")?,
            bytes("sent").context("sent")?,
        ))
    }
}

impl Drop for Internet {
    fn drop(&mut self) {
        let gone = [
            ip(&["link", "del", &self.link]),
            ip(&["netns", "del", &self.name]),
        ];
        for error in gone.into_iter().filter_map(Result::err) {
            eprintln!("the internet was not removed: {error:#}");
        }
    }
}
