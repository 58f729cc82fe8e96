//! One set of tasks per tap: begun when a port comes, ended when it goes, and
//! begun anew when its tap is another device under the old name (sockets are
//! bound to devices, not to names).

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use nube_types::InstanceId;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Context, dhcp, dhcp6, ra};
use crate::host::link::Links;

/// Devices are looked at this often even when nothing was told.
const LOOK: Duration = Duration::from_secs(15);

/// A device that is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tap {
    pub(crate) instance: InstanceId,
    pub(crate) name: String,
    pub(crate) index: u32,
}

/// Follows the ports of a network.
pub(crate) async fn supervise(context: Context) -> io::Result<()> {
    let mut served: BTreeMap<InstanceId, (Tap, DropGuard)> = BTreeMap::new();
    let mut changes = context.current.clone();
    loop {
        changes.borrow_and_update();
        let there = devices(&context).await?;
        served.retain(|instance, (tap, _)| there.get(instance) == Some(tap));
        for (instance, tap) in there {
            served
                .entry(instance)
                .or_insert_with(|| (tap.clone(), begin(&context, &tap)));
        }
        // Whoever drops the sender ends these tasks as well.
        let _ = tokio::time::timeout(LOOK, changes.changed()).await;
    }
}

fn begin(context: &Context, tap: &Tap) -> DropGuard {
    let child = context.child();
    let stop: CancellationToken = child.stop.clone();
    let of = tap.clone();
    child.keep("dhcp", move |context| dhcp::serve(context, of.clone()));
    let of = tap.clone();
    child.keep("router advertisement", move |context| {
        ra::serve(context, of.clone())
    });
    let of = tap.clone();
    child.keep("dhcp for ipv6", move |context| {
        dhcp6::serve(context, of.clone())
    });
    stop.drop_guard()
}

/// Taps of known ports that exist now.
async fn devices(context: &Context) -> io::Result<BTreeMap<InstanceId, Tap>> {
    let current = context.now();
    let wanted: Vec<(InstanceId, String)> = current
        .site
        .ports
        .iter()
        .map(|(instance, local)| (*instance, local.tap.clone()))
        .collect();
    let look = move || async move {
        let links = Links::open()?;
        let mut found = BTreeMap::new();
        for (instance, name) in wanted {
            if let Some(index) = links.index(&name).await? {
                let tap = Tap {
                    instance,
                    name,
                    index,
                };
                found.insert(instance, tap);
            }
        }
        Ok(found)
    };
    current.site.namespace.run_async(look).await
}
