//! C2 for tenants on real processes: as many as the quota says, whoever asks at
//! once and whoever dies meanwhile; and what ends, ends everywhere.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use nube_cluster_tests::door::Door;
use nube_harness::{Cloud, Size, eventually};
use nube_proto::v1;
use nube_proto::v1::instance_service_client::InstanceServiceClient;
use nube_proto::v1::watch_service_client::WatchServiceClient;
use tonic::Code;

const PARALLEL: usize = 100;
const QUOTA: usize = 10;

/// One launch by a patient client: the same request id until there is an answer.
async fn launch(door: &Door, number: usize) -> anyhow::Result<Result<(), tonic::Status>> {
    let message = v1::LaunchInstancesRequest {
        request_id: uuid::Uuid::new_v4().to_string(),
        name: format!("vm-{number}"),
        image: "micro".to_owned(),
        ..v1::LaunchInstancesRequest::default()
    };
    for attempt in 0..60 {
        if let Ok(channel) = door.connect(number + attempt).await {
            let request = door.request(message.clone())?;
            let call = InstanceServiceClient::new(channel)
                .launch_instances(request)
                .await;
            match call {
                Ok(_) => return Ok(Ok(())),
                Err(status) if matches!(status.code(), Code::Unavailable | Code::Unknown) => {}
                Err(status) => return Ok(Err(status)),
            }
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    anyhow::bail!("launch {number} never had an answer")
}

/// A hundred at once; how many were accepted.
fn storm(cloud: &Cloud, kill_leader: bool) -> anyhow::Result<usize> {
    let door = Door::operator(cloud)?.in_project("small");
    let accepted = AtomicUsize::new(0);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let leader = cloud.process(&format!("controller-{}", cloud.leader()?))?;
    runtime.block_on(async {
        let calls = (0..PARALLEL).map(|number| {
            let (door, accepted) = (&door, &accepted);
            async move {
                if kill_leader && number == PARALLEL / 2 {
                    leader.kill()?;
                }
                match launch(door, number).await? {
                    Ok(()) => accepted.fetch_add(1, Ordering::Relaxed),
                    Err(status) => {
                        let text = status.message();
                        anyhow::ensure!(
                            status.code() == Code::ResourceExhausted && text.contains("quota"),
                            "{status:?}"
                        );
                        0
                    }
                };
                Ok(())
            }
        });
        futures::future::join_all(calls)
            .await
            .into_iter()
            .collect::<anyhow::Result<Vec<()>>>()
    })?;
    Ok(accepted.into_inner())
}

#[test]
fn a_hundred_parallel_launches_at_a_quota_of_ten_make_exactly_ten() -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cloud = Cloud::up(Size {
        controllers: 3,
        nodes: 2,
    })?;
    cloud.ctl(&["project", "create", "small", "--instances", "10"])?;
    let image = nube_harness::micro_image()?;
    let image = image.to_str().context("a UTF-8 path")?;
    cloud.ctl(&["--project", "small", "image", "import", image])?;
    for kill_leader in [false, true] {
        assert_eq!(
            storm(&cloud, kill_leader)?,
            QUOTA,
            "kill_leader: {kill_leader}"
        );
        if kill_leader {
            cloud.start()?;
        }
        let list = cloud.json(&["--project", "small", "list"])?;
        let list = list["instances"].as_array().cloned().unwrap_or_default();
        assert_eq!(list.len(), QUOTA, "{list:?}");
        let names: Vec<&str> = list.iter().filter_map(|i| i["name"].as_str()).collect();
        let mut delete = vec!["--project", "small", "delete"];
        delete.extend(names);
        cloud.ctl(&delete)?;
        eventually("all are gone", Duration::from_secs(180), || {
            let list = cloud.json(&["--project", "small", "list"])?;
            let left = list["instances"].as_array().map_or(0, Vec::len);
            anyhow::ensure!(left == 0, "{left} are left");
            Ok(())
        })?;
    }
    cloud.verify_bill()
}

#[test]
fn a_deleted_access_key_ends_calls_and_open_watches() -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cloud = Cloud::up_bare(Size {
        controllers: 3,
        nodes: 1,
    })?;
    cloud.ctl(&["principal", "create", "alice"])?;
    cloud.ctl(&[
        "principal",
        "role",
        "alice",
        "viewer",
        "--project",
        "default",
    ])?;
    let create = ["access-key", "create", "--principal", "alice"];
    let made =
        cloud.json(&[&create[..], &["--project", "default", "--role", "viewer"]].concat())?;
    let token = made["token"].as_str().context("a token")?;
    let door = Door::stranger(&cloud)?.with_token(token);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        // On every controller at once: none is behind for longer than an entry.
        let mut streams = Vec::new();
        for number in 0..door.count() {
            let request = door.request(v1::WatchRequest::default())?;
            let mut client = WatchServiceClient::new(door.connect(number).await?);
            let mut stream = client.watch(request).await?.into_inner();
            let first = stream.message().await?.context("the first list")?;
            anyhow::ensure!(first.initial, "{first:?}");
            streams.push(stream);
        }
        let id = made["access_key"]["id"].as_str().context("its id")?;
        cloud.ctl(&["access-key", "delete", id])?;
        for mut stream in streams {
            let end = tokio::time::timeout(Duration::from_secs(20), async {
                loop {
                    match stream.message().await {
                        Ok(Some(_)) => {}
                        other => return other,
                    }
                }
            });
            let end = end.await.context("the watch went on")?;
            let code = end.map(|_| Code::Ok).unwrap_or_else(|status| status.code());
            anyhow::ensure!(code == Code::Unauthenticated, "{code:?}");
        }
        for number in 0..door.count() {
            let request = door.request(v1::ListInstancesRequest::default())?;
            let mut client = InstanceServiceClient::new(door.connect(number).await?);
            let status = client
                .list_instances(request)
                .await
                .expect_err("it has ended");
            anyhow::ensure!(status.code() == Code::Unauthenticated, "{status:?}");
        }
        Ok(())
    })
}
