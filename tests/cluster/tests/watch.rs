//! A9 on real processes: a watcher that is cut off again and again, and goes on
//! at another controller each time, sees every change once and in order.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use nube_cluster_tests::door::Door;
use nube_harness::{Cloud, Size};
use nube_proto::v1;
use nube_proto::v1::ssh_key_service_client::SshKeyServiceClient;
use nube_proto::v1::watch_service_client::WatchServiceClient;
use tonic::Code;

const CUTS: usize = 50;

/// What one watcher has seen, in its own order.
#[derive(Default)]
struct Seen {
    /// The newest revision: where to go on from.
    revision: u64,
    /// Each change once: (revision, id, removed).
    changes: Vec<(u64, String, bool)>,
}

impl Seen {
    fn take(&mut self, message: &v1::WatchResponse) -> anyhow::Result<()> {
        anyhow::ensure!(!message.initial, "a list where changes were asked for");
        let news = !message.changes.is_empty();
        anyhow::ensure!(
            message.revision > self.revision || !news && message.revision >= self.revision,
            "revision {} after {}",
            message.revision,
            self.revision
        );
        self.revision = message.revision;
        for change in &message.changes {
            self.changes
                .push((message.revision, change.id.clone(), change.removed));
        }
        Ok(())
    }
}

/// Makes and deletes keys until it is told to stop; each effect in its order.
async fn write(door: &Door, stop: &AtomicBool) -> anyhow::Result<Vec<(String, bool)>> {
    let mut effects = Vec::new();
    let mut number = 0;
    let mut client = SshKeyServiceClient::new(door.connect(0).await?);
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let request = v1::GenerateSshKeyRequest {
            request_id: uuid::Uuid::new_v4().to_string(),
            name: format!("key-{number}"),
        };
        let made = client
            .generate_ssh_key(door.request(request)?)
            .await?
            .into_inner();
        let id = made.ssh_key.context("a key")?.id;
        effects.push((id.clone(), false));
        if number % 2 == 0 {
            let request = v1::DeleteSshKeyRequest {
                request_id: uuid::Uuid::new_v4().to_string(),
                ssh_key: id.clone(),
            };
            client.delete_ssh_key(door.request(request)?).await?;
            effects.push((id, true));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(effects)
}

/// One stream, cut after some messages.
async fn follow(door: &Door, number: usize, seen: &mut Seen, count: usize) -> anyhow::Result<()> {
    let request = door.request(v1::WatchRequest {
        after_revision: seen.revision,
        kinds: vec!["ssh_key".to_owned()],
        all_projects: false,
    })?;
    let mut client = WatchServiceClient::new(door.connect(number).await?);
    let mut stream = client.watch(request).await?.into_inner();
    for _ in 0..count {
        let message = tokio::time::timeout(Duration::from_secs(60), stream.message()).await;
        let message = message.context("no news")??.context("the stream ended")?;
        seen.take(&message)?;
    }
    Ok(())
}

#[test]
fn a_watcher_that_is_cut_off_fifty_times_misses_nothing_and_sees_nothing_twice()
-> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cloud = Cloud::up_bare(Size {
        controllers: 3,
        nodes: 1,
    })?;
    let door = Door::operator(&cloud)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let (mut seen, effects) = runtime.block_on(async {
        let mut client = SshKeyServiceClient::new(door.connect(0).await?);
        let list = client
            .list_ssh_keys(door.request(v1::ListSshKeysRequest::default())?)
            .await?;
        let mut seen = Seen {
            revision: list.into_inner().revision,
            changes: Vec::new(),
        };
        let stop = AtomicBool::new(false);
        let cuts = async {
            for cut in 0..CUTS {
                follow(&door, cut, &mut seen, 1 + cut % 5).await?;
            }
            stop.store(true, Ordering::Relaxed);
            anyhow::Ok(())
        };
        let (cuts, effects) = tokio::join!(cuts, write(&door, &stop));
        cuts?;
        anyhow::Ok((seen, effects?))
    })?;
    // The rest, without a cut.
    runtime.block_on(async {
        while seen.changes.len() < effects.len() {
            follow(&door, 1, &mut seen, 1).await?;
        }
        anyhow::Ok(())
    })?;
    let told: Vec<(String, bool)> = seen
        .changes
        .iter()
        .map(|(_, id, removed)| (id.clone(), *removed))
        .collect();
    assert_eq!(
        told, effects,
        "the same changes, in the order they were made"
    );
    let mut once: BTreeMap<_, usize> = BTreeMap::new();
    for change in &seen.changes {
        *once.entry(change).or_default() += 1;
    }
    assert!(once.values().all(|count| *count == 1));
    println!("{} changes over {CUTS} cuts", told.len());
    Ok(())
}

#[test]
fn a_revision_that_is_no_longer_kept_is_called_compacted() -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cloud = Cloud::up_bare(Size {
        controllers: 1,
        nodes: 1,
    })?;
    // Keeps what it has since its own start alone: entry 1 is before that.
    cloud.process("controller-1")?.kill()?;
    cloud.start()?;
    let door = Door::operator(&cloud)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let watch = |after_revision| {
            let door = &door;
            async move {
                let message = v1::WatchRequest {
                    after_revision,
                    ..v1::WatchRequest::default()
                };
                let mut client = WatchServiceClient::new(door.connect(0).await?);
                let opened = client.watch(door.request(message)?).await;
                anyhow::Ok(opened.map(|_| ()).map_err(|status| status.code()))
            }
        };
        anyhow::ensure!(watch(u64::MAX).await? == Err(Code::InvalidArgument));
        anyhow::ensure!(watch(0).await? == Ok(()));
        let early = watch(1).await?;
        anyhow::ensure!(early == Err(Code::OutOfRange), "{early:?}");
        Ok(())
    })
}
