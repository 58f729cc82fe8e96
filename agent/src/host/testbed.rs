//! Emulated hosts: a cloud of many nodes on one machine, for quickstarts and
//! tests. Each node is a network namespace behind one bridge; an agent that
//! enters it sees a host of its own.
//!
//! ```text
//!  this machine ── nub<cell> (.1) ══ veth ══ eth0 (.11) nube-<cell>-0
//!                                 ══ veth ══ eth0 (.12) nube-<cell>-1
//! ```
//!
//! What was changed on the machine itself (`ip_forward`) is written down before
//! it is changed, and put back when the last testbed goes.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::durable;
use super::firewall;
use super::link::{Links, Prefix, get_sysctl, set_sysctl};
use super::namespace::{self, Namespace};
use super::nft;

/// Notes of what testbeds changed. Not in a cell's own directory: several cells
/// share the setting.
const STATE: &str = "/run/nube/testbed";
/// Node addresses begin here; below are the machine and room for people.
const FIRST_NODE: u32 = 11;
/// Of a /24, leaving the broadcast address out.
const NODES_MAX: usize = 240;

/// One emulated host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmulatedHost {
    /// As the caller named it; used nowhere in the kernel.
    pub node: String,
    /// Enter it with [`namespace::enter`], never with `ip netns exec`.
    pub namespace: String,
    /// Its address; the machine is at `.1`.
    pub address: Ipv4Addr,
}

#[derive(Debug, Serialize, Deserialize)]
struct State {
    subnet: Ipv4Addr,
    hosts: Vec<EmulatedHost>,
}

/// Makes or repairs the hosts of a cell: one per name, in order. `subnet` is
/// the network address of a /24. Call outside of any async runtime, or from a
/// blocking thread.
pub fn create(cell: &str, nodes: &[String], subnet: Ipv4Addr) -> io::Result<Vec<EmulatedHost>> {
    check(cell)?;
    if nodes.is_empty() || nodes.len() > NODES_MAX {
        return Err(refused("a testbed has 1 to 240 nodes"));
    }
    let network = Prefix::around(subnet, 24);
    let hosts = plan(cell, nodes, network);
    let _lock = lock()?;
    // Before anything is made: `delete` finds all of it from this note.
    let state = State {
        subnet: network.address,
        hosts: hosts.clone(),
    };
    durable::replace(
        &state_file(cell),
        &serde_json::to_vec_pretty(&state)?,
        0o644,
    )?;
    remember_forwarding()?;

    let gateway = nth(network, 1);
    let bridge = bridge_name(cell);
    let cell_name = cell.to_owned();
    let wanted = hosts.clone();
    on_thread(move || {
        set_sysctl("ipv4/ip_forward", "1")?;
        let table = firewall::testbed_rules(&table_name(&cell_name), &bridge, network, gateway);
        nft::replace(&nft::Standing::read()?, &[table], &[])?;
        namespace::block_on(async {
            let links = Links::open()?;
            let index = links.ensure_bridge(&bridge).await?;
            links.address(index, gateway, 24).await?;
            links.up(index).await?;
            // Goes with the bridge.
            links.route_prefix_to_link(elastic(network), index).await?;
            for (ordinal, host) in wanted.iter().enumerate() {
                ensure_host(&links, &cell_name, ordinal, index, host, gateway).await?;
            }
            Ok(())
        })
    })?;
    Ok(hosts)
}

/// Removes the hosts of a cell and puts the machine back. Absent is fine.
pub fn delete(cell: &str) -> io::Result<()> {
    check(cell)?;
    let _lock = lock()?;
    for name in namespace::list(&format!("nube-{cell}-"))? {
        Namespace::named(name).delete()?;
    }
    let cell_name = cell.to_owned();
    on_thread(move || {
        nft::apply(&nft::no_table("inet", &table_name(&cell_name)))?;
        namespace::block_on(async {
            let links = Links::open()?;
            let prefix = veth_prefix(&cell_name);
            for name in links.names().await? {
                if name.starts_with(&prefix) {
                    links.delete(&name).await?;
                }
            }
            links.delete(&bridge_name(&cell_name)).await
        })
    })?;
    remove_file(&state_file(cell))?;
    restore_forwarding()
}

/// The hosts of a cell, as made.
pub fn hosts(cell: &str) -> io::Result<Vec<EmulatedHost>> {
    check(cell)?;
    let bytes = std::fs::read(state_file(cell))?;
    let state: State = serde_json::from_slice(&bytes)?;
    Ok(state.hosts)
}

async fn ensure_host(
    links: &Links,
    cell: &str,
    ordinal: usize,
    bridge: u32,
    host: &EmulatedHost,
    gateway: Ipv4Addr,
) -> io::Result<()> {
    let namespace = Namespace::named(host.namespace.clone());
    namespace.create()?;
    let inside = namespace.open()?;
    let veth = format!("{}{ordinal}", veth_prefix(cell));
    let address = host.address;
    let has_peer = namespace
        .run_async(|| async { Ok(Links::open()?.index("eth0").await?.is_some()) })
        .await?;
    if links.index(&veth).await?.is_none() || !has_peer {
        links.delete(&veth).await?;
        links.add_veth(&veth, "eth0", inside.as_fd()).await?;
    }
    let index = links.require(&veth).await?;
    links.plug(index, bridge).await?;
    links.up(index).await?;
    namespace
        .run_async(move || async move {
            set_sysctl("ipv4/ip_forward", "1")?;
            let links = Links::open()?;
            let lo = links.require("lo").await?;
            links.up(lo).await?;
            let eth0 = links.require("eth0").await?;
            links.address(eth0, address, 24).await?;
            links.up(eth0).await?;
            links.route_default(gateway).await
        })
        .await
}

fn plan(cell: &str, nodes: &[String], network: Prefix) -> Vec<EmulatedHost> {
    let host = |(node, address): (&String, u32)| EmulatedHost {
        node: node.clone(),
        namespace: format!("nube-{cell}-{}", address - FIRST_NODE),
        address: nth(network, address),
    };
    nodes.iter().zip(FIRST_NODE..).map(host).collect()
}

fn nth(network: Prefix, host: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(network.address.to_bits() + host)
}

/// Elastic addresses of the cell: a /24 of the range for benchmarks (RFC 2544),
/// numbered as the testbed itself. `cloudctl up` gives it to the cell.
fn elastic(network: Prefix) -> Prefix {
    let [_, _, number, _] = network.address.octets();
    Prefix::around(Ipv4Addr::new(198, 18, number, 0), 24)
}

fn bridge_name(cell: &str) -> String {
    format!("nub{}", &cell[..4])
}

fn veth_prefix(cell: &str) -> String {
    format!("nv{}-", &cell[..4])
}

fn table_name(cell: &str) -> String {
    format!("nube_{cell}")
}

fn state_file(cell: &str) -> PathBuf {
    Path::new(STATE).join(format!("{cell}.json"))
}

fn refused(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// A cell is named by eight hexadecimal digits: they go into device names.
fn check(cell: &str) -> io::Result<()> {
    let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if cell.len() == 8 && cell.bytes().all(digit) {
        return Ok(());
    }
    Err(refused("a testbed's cell is eight lower-case hex digits"))
}

/// Testbeds of one machine change it one at a time; freed with the file.
fn lock() -> io::Result<File> {
    std::fs::create_dir_all(STATE)?;
    let file = File::create(Path::new(STATE).join("lock"))?;
    file.lock()?;
    Ok(file)
}

fn forwarding_file() -> PathBuf {
    Path::new(STATE).join("ip_forward.before")
}

fn remember_forwarding() -> io::Result<()> {
    let path = forwarding_file();
    if path.exists() {
        return Ok(());
    }
    durable::replace(&path, get_sysctl("ipv4/ip_forward")?.as_bytes(), 0o644)
}

fn restore_forwarding() -> io::Result<()> {
    for entry in std::fs::read_dir(STATE)? {
        if entry?.path().extension().is_some_and(|end| end == "json") {
            return Ok(());
        }
    }
    let before = match std::fs::read_to_string(forwarding_file()) {
        Ok(before) => before,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    set_sysctl("ipv4/ip_forward", before.trim())?;
    remove_file(&forwarding_file())
}

fn remove_file(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A thread without a runtime, whoever calls.
fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    std::thread::spawn(work)
        .join()
        .map_err(|_| io::Error::other("the testbed's thread panicked"))?
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn hosts_are_numbered_from_eleven() {
        let network = Prefix::around(Ipv4Addr::new(10, 213, 7, 99), 24);
        let nodes = ["a".to_owned(), "b; rm -rf /".to_owned()];
        let hosts = plan("00c0ffee", &nodes, network);
        assert_eq!(hosts[1].namespace, "nube-00c0ffee-1");
        assert_eq!(hosts[1].address, Ipv4Addr::new(10, 213, 7, 12));
    }

    #[test]
    fn a_cell_that_is_no_number_is_refused() {
        for bad in ["", "00C0FFEE", "../../ab", "00c0ffee0", "00c0ffe\u{e9}"] {
            assert!(create(bad, &["a".to_owned()], Ipv4Addr::LOCALHOST).is_err());
            assert!(delete(bad).is_err());
        }
    }

    #[test]
    fn a_testbed_is_made_twice_and_removed_twice() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: needs root");
            return;
        }
        let cell = format!("{:08x}", 0xfe00_0000_u32 | std::process::id() & 0xff_ffff);
        let cell = format!("{}{}", &cell[4..], &cell[..4]);
        let nodes = ["a".to_owned(), "b".to_owned()];
        let subnet = Ipv4Addr::new(10, 213, 254, 0);
        for _ in 0..2 {
            let made = create(&cell, &nodes, subnet).expect("created");
            assert_eq!(hosts(&cell).expect("noted"), made);
        }
        let names = namespace::list(&format!("nube-{cell}-")).expect("list");
        assert_eq!(names.len(), 2);
        for _ in 0..2 {
            delete(&cell).expect("deleted");
        }
        assert!(
            namespace::list(&format!("nube-{cell}-"))
                .expect("list")
                .is_empty()
        );
        assert!(hosts(&cell).is_err());
    }
}
