//! A1 and A3 on real processes: leaders die under a stream of writes; what was
//! acknowledged stays, and every request has one effect.

use nube_harness::{Cloud, Size};

const KEYS: usize = 24;
/// The leader is killed before each of these writes.
const KILLS: [usize; 3] = [6, 12, 18];

fn public_key(cloud: &Cloud, number: usize) -> anyhow::Result<String> {
    let path = cloud.scratch().join(format!("key-{number}"));
    let mut keygen = std::process::Command::new("ssh-keygen");
    keygen
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"])
        .arg(&path);
    nube_harness::run(&mut keygen)?.ok()?;
    Ok(format!("{}.pub", path.display()))
}

#[test]
fn acknowledged_writes_outlive_their_leaders() -> anyhow::Result<()> {
    let cloud = Cloud::up_bare(Size {
        controllers: 3,
        nodes: 1,
    })?;
    for number in 0..KEYS {
        if KILLS.contains(&number) {
            // Two of three remain; the dead one is started again right away.
            cloud
                .process(&format!("controller-{}", cloud.leader()?))?
                .kill()?;
        }
        let (name, file) = (format!("key-{number}"), public_key(&cloud, number)?);
        cloud.ctl(&["ssh-key", "import", &name, &file])?;
        if KILLS.contains(&number) {
            cloud.start()?;
        }
    }
    let list = cloud.json(&["ssh-key", "list"])?;
    let names: std::collections::BTreeSet<_> = list["ssh_keys"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|key| key["name"].as_str().map(str::to_owned))
        .collect();
    let wanted: std::collections::BTreeSet<_> = (0..KEYS).map(|n| format!("key-{n}")).collect();
    assert_eq!(names, wanted);
    cloud.verify_bill()
}

#[test]
fn a_repeated_request_has_one_effect_and_a_reused_id_is_refused() -> anyhow::Result<()> {
    const ID: &str = "5a5a5a5a-0000-4000-8000-000000000001";
    let cloud = Cloud::up_bare(Size {
        controllers: 3,
        nodes: 1,
    })?;
    let (one, two) = (public_key(&cloud, 1)?, public_key(&cloud, 2)?);
    let import = |name: &str, file: &str| {
        cloud.try_ctl(&[
            "ssh-key",
            "import",
            name,
            file,
            "--request-id",
            ID,
            "-o",
            "json",
        ])
    };
    let first = import("once", &one)?.ok()?;
    // The answer was lost, the leader died: the client asks again.
    cloud
        .process(&format!("controller-{}", cloud.leader()?))?
        .kill()?;
    assert_eq!(import("once", &one)?.ok()?, first);
    let text = import("other", &two)?.refused(5)?;
    assert!(text.contains("request id"), "{text}");
    cloud.start()?;
    assert_eq!(
        import("once", &one)?.ok()?,
        first,
        "also after everybody is back"
    );
    let list = cloud.json(&["ssh-key", "list"])?;
    assert_eq!(
        list["ssh_keys"].as_array().map(Vec::len),
        Some(1),
        "{list:#}"
    );
    Ok(())
}
