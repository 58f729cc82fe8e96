//! Removes everything of one node from this machine, also what no record
//! explains: for `cloudctl down --purge` and for tests. The agent of that node
//! must be stopped.

use std::io;
use std::path::PathBuf;

use nube_types::NodeId;

use super::cgroup::Cgroups;
use super::firewall;
use super::link::Links;
use super::namespace::{self, Namespace};
use super::network::{host_table, namespace_prefix};
use super::nft;
use super::{process, uid};
use crate::network::elastic;

/// Whose traces.
#[derive(Debug, Clone)]
pub struct Target {
    /// The node.
    pub node: NodeId,
    /// Where its instances have their directories.
    pub instances_dir: PathBuf,
    /// First uid of its guests.
    pub uid_base: u32,
    /// The emulated host that its agent ran in, if any.
    pub host_namespace: Option<String>,
}

/// Removes processes, taps, namespaces, rules, cgroups and directories. Returns
/// what was there, for people. May be repeated.
pub async fn clean(target: &Target) -> io::Result<Vec<String>> {
    let mut removed = Vec::new();
    let cgroups = Cgroups::detect(target.node.hex())?;
    let names = cgroups.list();

    let boot_id = process::boot_id()?;
    let mut pids: Vec<u32> = uid::range(target.uid_base)
        .ok_or_else(|| io::Error::other("uids of guests begin at 65536"))
        .and_then(|uids| process::by_uid(&uids))?
        .into_values()
        .flatten()
        .collect();
    pids.extend(names.iter().flat_map(|name| cgroups.processes(name)));
    pids.sort_unstable();
    pids.dedup();
    process::kill_all(&pids, &boot_id).await?;
    removed.extend(pids.iter().map(|pid| format!("process {pid}")));

    for name in namespace::list(&namespace_prefix(target.node))? {
        Namespace::named(name.clone()).delete()?;
        removed.push(format!("network namespace {name}"));
    }
    clean_host(target).await?;
    for name in names {
        cgroups.remove(&name).await?;
        removed.push(format!("cgroup {name}"));
    }
    cgroups.remove_node();
    match std::fs::remove_dir_all(&target.instances_dir) {
        Ok(()) => removed.push(format!("directory {}", target.instances_dir.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(removed)
}

/// Rules and links in the host namespace, unless it is gone with all in it.
async fn clean_host(target: &Target) -> io::Result<()> {
    let host = Namespace::of(target.host_namespace.as_deref());
    if !host.exists() {
        return Ok(());
    }
    let table = host_table(target.node);
    host.run_async(move || async move {
        // Their routes lead into networks that are gone; nobody answers for them.
        elastic::withdraw(&elastic::Announced::new()).await?;
        nft::apply(&nft::no_table("inet", &table))?;
        let links = Links::open()?;
        let prefix = firewall::UPLINK_PATTERN.trim_end_matches('*');
        for name in links.names().await? {
            if name.starts_with(prefix) {
                links.delete(&name).await?;
            }
        }
        Ok(())
    })
    .await
}
