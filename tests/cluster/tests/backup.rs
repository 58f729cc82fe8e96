//! A backup taken under load comes back as another cloud that knows the same and
//! is somebody else; a lost majority is survived by what the last one has.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::Context;
use nube_harness::{Cloud, Size, guest_of};

const BEFORE: usize = 6;

fn public_key(cloud: &Cloud, name: &str) -> anyhow::Result<String> {
    let path = cloud.scratch().join(name);
    let mut keygen = std::process::Command::new("ssh-keygen");
    keygen
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"])
        .arg(&path);
    nube_harness::run(&mut keygen)?.ok()?;
    Ok(format!("{}.pub", path.display()))
}

fn import(cloud: &Cloud, name: &str) -> anyhow::Result<()> {
    let file = public_key(cloud, name)?;
    cloud.ctl(&["ssh-key", "import", name, &file]).map(drop)
}

fn key_names(cloud: &Cloud) -> anyhow::Result<Vec<String>> {
    let list = cloud.json(&["ssh-key", "list"])?;
    let keys = list["ssh_keys"].as_array().cloned().unwrap_or_default();
    let names = keys.iter().filter_map(|key| key["name"].as_str());
    Ok(names.map(str::to_owned).collect())
}

fn text<'a>(value: &'a serde_json::Value, key: &str) -> anyhow::Result<&'a str> {
    value[key]
        .as_str()
        .with_context(|| format!("{key} in {value:#}"))
}

/// A secret that outlives its controller.
fn saved_secret(cloud: &Cloud) -> anyhow::Result<PathBuf> {
    let saved = cloud.scratch().join("cluster.secret");
    std::fs::copy(cloud.dir().join("controller-1/cluster.secret"), &saved)?;
    Ok(saved)
}

/// Calls `to` with a certificate and a CA of somebody's; the refusal.
fn call_as(
    to: &Cloud,
    ca: &Cloud,
    holder: &Cloud,
    certificate: &str,
) -> anyhow::Result<nube_harness::Finished> {
    let file = to.scratch().join("other.toml");
    let config = format!(
        "endpoints = [\"127.0.0.1:{}\"]\nca = \"{}\"\ncert = \"{}.pem\"\nkey = \"{}.key\"\n",
        to.base_port(),
        ca.dir().join("pki/ca.pem").display(),
        holder.dir().join(certificate).display(),
        holder.dir().join(certificate).display(),
    );
    std::fs::write(&file, config)?;
    let file = file.to_str().context("a UTF-8 path")?;
    to.try_ctl(&["cluster", "status", "--config", file, "--timeout", "3"])
}

#[test]
fn a_backup_under_load_comes_back_as_another_cell() -> anyhow::Result<()> {
    let size = Size {
        controllers: 3,
        nodes: 1,
    };
    let old = Cloud::up_bare(size)?;
    for number in 0..BEFORE {
        import(&old, &format!("before-{number}"))?;
    }
    let file = old.scratch().join("cell.nube");
    let name = file.to_str().context("a UTF-8 path")?;
    // Writes go on all the time while the backup is taken.
    let (stop, written) = (AtomicBool::new(false), AtomicUsize::new(0));
    let backup = std::thread::scope(|scope| {
        let load = scope.spawn(|| -> anyhow::Result<()> {
            while !stop.load(Ordering::Relaxed) {
                let number = written.load(Ordering::Relaxed);
                import(&old, &format!("during-{number}"))?;
                written.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        while written.load(Ordering::Relaxed) < 2 && !load.is_finished() {
            std::thread::yield_now();
        }
        let acknowledged = written.load(Ordering::Relaxed);
        let backup = old.json(&["cluster", "backup", name]);
        stop.store(true, Ordering::Relaxed);
        load.join().expect("no panic")?;
        backup.map(|backup| (backup, acknowledged))
    });
    let (backup, acknowledged) = backup?;
    let refused = old.try_ctl(&["cluster", "backup", name])?.refused(1)?;
    assert!(refused.contains("--force"), "{refused}");

    let new = Cloud::empty(size)?;
    let restored = new.restore(&file, &saved_secret(&old)?, false)?.ok()?;
    let restored: serde_json::Value = serde_json::from_str(&restored)?;
    let hash = text(&backup, "state_hash")?;
    assert_eq!(text(&restored, "state_hash")?, hash);
    assert_ne!(text(&restored, "cluster_id")?, text(&backup, "cluster_id")?);
    // Each controller has it on its disk, by its own account.
    for number in 1..=3 {
        let config = new
            .dir()
            .join(format!("controller-{number}/controller.toml"));
        let copy = new.scratch().join(format!("copy-{number}"));
        let args = ["backup-offline", "--config"];
        let paths = [&config, &copy].map(|path| path.display().to_string());
        let said = new
            .controller(&[args[0], args[1], &paths[0], &paths[1]])?
            .ok()?;
        assert!(said.contains(hash), "{said}");
    }
    new.start()?;
    let status = new.json(&["cluster", "status"])?;
    assert_eq!(text(&status, "id")?, text(&restored, "cluster_id")?);
    let names = key_names(&new)?;
    for number in 0..BEFORE {
        assert!(names.contains(&format!("before-{number}")), "{names:?}");
    }
    for number in 0..acknowledged {
        assert!(names.contains(&format!("during-{number}")), "{names:?}");
    }
    new.verify_bill()?;
    strangers(&old, &new)
}

/// Nobody of one cell is heard by the other, whatever CA the caller believes.
fn strangers(old: &Cloud, new: &Cloud) -> anyhow::Result<()> {
    // The way of asking works: the cell's own operator is let in, its own agent
    // and controller get past TLS and are told that this is not for them.
    call_as(new, new, new, "pki/operator")?.ok()?;
    for own in ["node-1/tls", "controller-2/tls"] {
        let text = call_as(new, new, new, own)?.refused(7)?;
        assert!(text.contains("may not call"), "{own}: {text}");
    }
    for (here, there) in [(new, old), (old, new)] {
        for certificate in ["pki/operator", "node-1/tls", "controller-2/tls"] {
            // Believing the right CA, with a certificate of the other one.
            let text = call_as(here, here, there, certificate)?.refused(4)?;
            assert!(!text.contains("may not call"), "{certificate}: {text}");
            // Believing its own CA: it does not speak to the stranger.
            let text = call_as(here, there, there, certificate)?.refused(4)?;
            assert!(text.contains("certificate"), "{certificate}: {text}");
        }
    }
    Ok(())
}

#[test]
fn a_lost_majority_is_survived_by_what_the_last_controller_has() -> anyhow::Result<()> {
    let cloud = Cloud::up(Size {
        controllers: 3,
        nodes: 1,
    })?;
    let instance = cloud.launch("web")?;
    let id = text(&instance, "id")?.to_owned();
    let guest = guest_of(&id)?;
    import(&cloud, "last-write")?;
    let (secret, names) = (saved_secret(&cloud)?, key_names(&cloud)?);
    let old = cloud.json(&["cluster", "status"])?;
    // The leader holds everything that was acknowledged; the others are gone.
    let left = cloud.leader()?;
    for number in (1..=3).filter(|number| *number != left) {
        let member = format!("controller-{number}");
        cloud.process(&member)?.kill()?;
        std::fs::remove_dir_all(cloud.dir().join(&member))?;
    }
    cloud
        .try_ctl(&["ssh-key", "list", "--timeout", "3"])?
        .refused(4)?;
    cloud.process(&format!("controller-{left}"))?.kill()?;
    let config = cloud
        .dir()
        .join(format!("controller-{left}/controller.toml"));
    let file = cloud.scratch().join("last.nube");
    let paths = [&config, &file].map(|path| path.display().to_string());
    cloud
        .controller(&["backup-offline", "--config", &paths[0], &paths[1]])?
        .ok()?;

    let restored = cloud.restore(&file, &secret, true)?.ok()?;
    let restored: serde_json::Value = serde_json::from_str(&restored)?;
    assert_ne!(text(&restored, "cluster_id")?, text(&old, "id")?);
    cloud.start()?;
    assert_eq!(key_names(&cloud)?, names);
    let now = cloud.wait_state("web", "INSTANCE_STATE_RUNNING")?;
    assert_eq!(text(&now, "id")?, id);
    assert!(guest.is_alive(), "the guest did not notice");
    assert_eq!(guest_of(&id)?, guest, "adopted, not started again");
    assert_eq!(cloud.ssh("web", &["hostname"])?, "web");
    cloud.verify_bill()?;
    cloud.ctl(&["delete", "web", "--wait"])?;
    cloud.verify_bill()
}
