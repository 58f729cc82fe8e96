//! Keys as OpenSSH makes them: taken, and known by the fingerprint OpenSSH prints.

use nube_harness::{Cloud, Size, run};

#[test]
fn every_usual_kind_of_key_is_registered_under_its_fingerprint() -> anyhow::Result<()> {
    let cloud = Cloud::up_bare(Size {
        controllers: 1,
        nodes: 1,
    })?;
    for (name, kind, bits) in [
        ("ed25519", "ed25519", "256"),
        ("p256", "ecdsa", "256"),
        ("p384", "ecdsa", "384"),
        ("p521", "ecdsa", "521"),
        ("rsa2048", "rsa", "2048"),
        ("rsa4096", "rsa", "4096"),
    ] {
        let path = cloud.scratch().join(name);
        let mut keygen = std::process::Command::new("ssh-keygen");
        keygen
            .args(["-q", "-t", kind, "-b", bits, "-N", "", "-f"])
            .arg(&path);
        run(&mut keygen)?.ok()?;
        let public = format!("{}.pub", path.display());
        let key = cloud.json(&["ssh-key", "import", name, &public])?;
        let printed = run(std::process::Command::new("ssh-keygen").args(["-lf", &public]))?.ok()?;
        let fingerprint = key["fingerprint"].as_str().unwrap_or("none");
        assert!(
            printed.contains(fingerprint),
            "{printed} is not {fingerprint}"
        );
    }
    let path = cloud.scratch().join("weak");
    let mut keygen = std::process::Command::new("ssh-keygen");
    keygen
        .args(["-q", "-t", "rsa", "-b", "1024", "-N", "", "-f"])
        .arg(&path);
    run(&mut keygen)?.ok()?;
    let public = format!("{}.pub", path.display());
    let text = cloud
        .try_ctl(&["ssh-key", "import", "weak", &public])?
        .refused(1)?;
    assert!(text.contains("2048"), "{text}");
    // The same key under another name is a duplicate.
    let again = format!("{}.pub", cloud.scratch().join("p256").display());
    let text = cloud
        .try_ctl(&["ssh-key", "import", "again", &again])?
        .refused(5)?;
    assert!(text.contains("registered already as `p256`"), "{text}");
    Ok(())
}
