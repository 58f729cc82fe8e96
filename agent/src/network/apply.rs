//! Brings one network on this host into line with its plan and policy: the device
//! to other hosts, what the kernel routes, and the rules, each only as far as it
//! differs.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use futures::TryStreamExt;
use nube_types::InstanceId;
use nube_types::net::transit_mac;
use rtnetlink::LinkVxlan;
use rtnetlink::packet_route::link::{InfoData, InfoVxlan, LinkAttribute, LinkInfo};

use super::elastic::{self, Announced};
use super::kernel::{self, Changes};
use super::plan::plan;
use super::rules::{self, OVERLAY, Policy, overlay};
use super::spec::NetworkSpec;
use crate::driver::PortSpec;
use crate::host::firewall::{HostWish, OVERLAY_PORT};
use crate::host::link::{Links, fault};
use crate::host::nft::{self, Standing, Table};
use crate::host::port::Networks;

/// What a host is told about its own namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostPlan {
    /// Elastic addresses that it announces, and the number of the network of each.
    pub elastic: BTreeMap<Ipv4Addr, u32>,
    /// Hosts that frames may come from.
    pub peers: BTreeSet<Ipv4Addr>,
}

impl Networks {
    /// Makes a network here as `spec` says; without one nothing passes. A network
    /// that is not here is no error: its last guest has just left.
    pub async fn apply(
        &self,
        number: u32,
        spec: Option<&NetworkSpec>,
        overlay: Option<Ipv4Addr>,
        guests: &BTreeMap<InstanceId, PortSpec>,
    ) -> io::Result<Changes> {
        let _turn = self.turn().await;
        let namespace = self.namespace(number);
        let uplink = self.uplink(number).await?;
        let (true, Some(uplink)) = (namespace.exists(), uplink) else {
            return Ok(Changes::new());
        };
        let plan = plan(spec, overlay, guests, uplink);
        let present: BTreeSet<InstanceId> = guests.keys().copied().collect();
        let mut tables = vec![rules::closed()];
        let mut device = None;
        if let Some(spec) = spec {
            let policy = Policy {
                spec,
                overlay,
                guests: &present,
            };
            tables = vec![rules::table(&policy)];
            device = overlay::table(&policy).zip(overlay).map(|(table, own)| {
                let mtu = spec.mtu;
                Overlay {
                    number,
                    own,
                    mtu,
                    table,
                }
            });
        }
        let mut changes = Changes::new();
        if let Some(device) = device {
            if !self.has_overlay(number, device.own).await? {
                let inside = namespace.open()?;
                let (vni, own) = (number, device.own);
                self.host()
                    .run_async(move || async move { make(vni, own, inside.as_fd()).await })
                    .await?;
                changes.insert("device", 1);
            }
            tables.push(device.table.clone());
            let shaped = namespace.run_async(move || async move { device.switch_on().await });
            let _: () = shaped.await?;
        }
        let made = namespace.run_async(move || async move {
            let mut changes = kernel::apply(&plan).await?;
            let replaced = nft::replace(&Standing::read()?, &tables, &[])?;
            if replaced > 0 {
                changes.insert("rules", replaced);
            }
            Ok(changes)
        });
        changes.extend(made.await?);
        Ok(changes)
    }

    async fn has_overlay(&self, number: u32, own: Ipv4Addr) -> io::Result<bool> {
        let inside = self.namespace(number);
        inside
            .run_async(move || async move {
                let links = Links::open()?;
                let is = found(&links).await? == Some((number, own));
                if !is {
                    links.delete(OVERLAY).await?;
                }
                Ok(is)
            })
            .await
    }

    /// Withdraws elastic addresses that are not this host's any more.
    pub async fn withdraw(&self, host: &HostPlan) -> io::Result<Changes> {
        let _turn = self.turn().await;
        let announced = self.announced(host).await?;
        let gone = self
            .host()
            .run_async(move || async move { elastic::withdraw(&announced).await })
            .await?;
        Ok(counted("elastic", gone))
    }

    /// Host rules, then elastic addresses.
    pub async fn announce(&self, host: &HostPlan) -> io::Result<Changes> {
        let mut turn = self.turn().await;
        let announced = self.announced(host).await?;
        let link =
            |(address, (link, _)): (&Ipv4Addr, &(String, Ipv4Addr))| (*address, link.clone());
        let wish = HostWish {
            elastic: announced.iter().map(link).collect(),
            peers: host.peers.clone(),
        };
        let mut changes = counted("rules", self.host_rules(Some(wish.clone())).await?);
        *turn = Some(wish);
        let made = self
            .host()
            .run_async(move || async move { elastic::announce(&announced).await })
            .await?;
        changes.extend(counted("elastic", made));
        Ok(changes)
    }

    async fn announced(&self, host: &HostPlan) -> io::Result<Announced> {
        let mut announced = Announced::new();
        for (address, number) in &host.elastic {
            // A network that has left took its link along.
            if let Some(near) = self.uplink(*number).await? {
                let inside = Ipv4Addr::from_bits(near.to_bits() + 1);
                let link = crate::host::network::uplink_name(*number);
                announced.insert(*address, (link, inside));
            }
        }
        Ok(announced)
    }
}

fn counted(kind: &'static str, changes: u64) -> Changes {
    match changes {
        0 => Changes::new(),
        changes => Changes::from([(kind, changes)]),
    }
}

/// The device to other hosts.
struct Overlay {
    number: u32,
    own: Ipv4Addr,
    mtu: u16,
    table: Table,
}

impl Overlay {
    /// Inside: its rules first, so that no frame passes without.
    async fn switch_on(self) -> io::Result<()> {
        let links = Links::open()?;
        let index = links.require(OVERLAY).await?;
        if is_on(&links, index, self.own, self.mtu).await? {
            return Ok(());
        }
        tracing::debug!(number = self.number, "the overlay's device is switched on");
        nft::replace(&Standing::default(), &[self.table], &[])?;
        links.shape(index, transit_mac(self.own), self.mtu).await?;
        links.up(index).await
    }
}

async fn is_on(links: &Links, index: u32, own: Ipv4Addr, mtu: u16) -> io::Result<bool> {
    let get = links.handle().link().get().match_index(index).execute();
    let all: Vec<_> = get.try_collect().await.map_err(fault)?;
    Ok(all.iter().any(|link| {
        let attributes = &link.attributes;
        let mac = LinkAttribute::Address(transit_mac(own).to_vec());
        let up = link
            .header
            .flags
            .contains(rtnetlink::packet_route::link::LinkFlags::Up);
        up && attributes.contains(&mac) && attributes.contains(&LinkAttribute::Mtu(mtu.into()))
    }))
}

/// Number and own address of the device that is there.
async fn found(links: &Links) -> io::Result<Option<(u32, Ipv4Addr)>> {
    let Some(index) = links.index(OVERLAY).await? else {
        return Ok(None);
    };
    let get = links.handle().link().get().match_index(index).execute();
    let all: Vec<_> = get.try_collect().await.map_err(fault)?;
    let infos = all.into_iter().flat_map(|link| link.attributes);
    let infos = infos.filter_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    });
    let (mut vni, mut own) = (None, None);
    for info in infos.flatten() {
        if let LinkInfo::Data(InfoData::Vxlan(parts)) = info {
            for part in parts {
                match part {
                    InfoVxlan::Id(id) => vni = Some(id),
                    InfoVxlan::Local(address) => own = Some(address),
                    _ => {}
                }
            }
        }
    }
    Ok(vni.zip(own))
}

/// In the host's namespace, where the socket of the device stays: the device
/// itself appears in the network's.
async fn make(vni: u32, own: Ipv4Addr, inside: BorrowedFd<'_>) -> io::Result<()> {
    let device = LinkVxlan::new(OVERLAY, vni)
        .local(own)
        .port(OVERLAY_PORT)
        .learning(false)
        .setns_by_fd(inside.as_raw_fd())
        .build();
    let links = Links::open()?;
    links
        .handle()
        .link()
        .add(device)
        .execute()
        .await
        .map_err(fault)
}
