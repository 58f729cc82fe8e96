//! The metadata service from inside: what cloud-init does, and what it must not
//! let anybody else do.

use anyhow::Context;
use nube_e2e::{Probe, launch};
use nube_harness::{Cloud, Size};

const SERVICE: &str = "169.254.169.254";
const SERVICE_V6: &str = "fd00:ec2::254";
const TTL: &str = "X-aws-ec2-metadata-token-ttl-seconds: 60";

/// Status code and body of an answer.
fn ask(cloud: &Cloud, probe: &Probe, guest: &str, args: &[&str]) -> anyhow::Result<(u16, String)> {
    let said = probe.ask(cloud, guest, &[&["http"], args].concat())?;
    let status = said.split_whitespace().nth(1).context("a status")?;
    let status = status.parse().with_context(|| said.clone())?;
    let body = said.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.trim().to_owned()))
}

#[test]
fn it_answers_who_may_ask_and_nobody_else() -> anyhow::Result<()> {
    let cloud = Cloud::up(Size {
        controllers: 1,
        nodes: 1,
    })?;
    let one = launch(&cloud, "one", &[])?;
    launch(&cloud, "two", &[])?;
    let probe = Probe::build(&cloud)?;
    for guest in ["one", "two"] {
        probe.put(&cloud, guest)?;
    }
    let (path, token_path) = ("/latest/meta-data/instance-id", "/latest/api/token");
    let ask = |guest: &str, args: &[&str]| ask(&cloud, &probe, guest, args);
    for service in [SERVICE, SERVICE_V6] {
        let (status, token) = ask("one", &["PUT", service, "80", token_path, &quoted(TTL)])?;
        assert_eq!(status, 200, "{service}: {token}");
        let header = quoted(&format!("X-aws-ec2-metadata-token: {token}"));
        let get = |guest: &str, more: &[&str]| {
            ask(guest, &[&["GET", service, "80", path], more].concat())
        };
        let (status, body) = get("one", &[&header])?;
        assert_eq!(
            (status, body.as_str()),
            (200, one["id"].as_str().context("id")?)
        );
        assert_eq!(get("one", &[])?.0, 401, "without a token");
        assert_eq!(get("two", &[&header])?.0, 401, "with a foreign token");
        let proxy = quoted("X-Forwarded-For: 10.0.0.9");
        assert_eq!(get("one", &[&header, &proxy])?.0, 403, "through a proxy");
        let (status, _) = ask(
            "one",
            &["PUT", service, "80", token_path, &quoted(TTL), &proxy],
        )?;
        assert_eq!(status, 403, "a token through a proxy");
        let (status, _) = ask("one", &["PUT", service, "80", token_path])?;
        assert_eq!(status, 400, "a token for no time");
    }
    a_spoofed_source_hears_nothing(&cloud, &probe)?;
    // Link-local leads nowhere else.
    for closed in ["169.254.169.250", "169.254.64.1", "169.254.1.1"] {
        let said = probe.ask(&cloud, "one", &["connect", closed, "80"])?;
        assert_ne!(said, "open", "{closed}");
    }
    Ok(())
}

/// The login's shell takes an argument with blanks apart.
fn quoted(text: &str) -> String {
    format!("'{text}'")
}

fn a_spoofed_source_hears_nothing(cloud: &Cloud, probe: &Probe) -> anyhow::Result<()> {
    let two = cloud.json(&["show", "two"])?;
    let foreign = two["private_ip"].as_str().context("address")?;
    // As if it were the other guest: the address is added, and used as source.
    let add =
        format!("ip addr add {foreign}/32 dev eth0; ip route add {SERVICE} dev eth0 src {foreign}");
    cloud.ssh("one", &[&add])?;
    let said = probe.ask(cloud, "one", &["connect", SERVICE, "80"])?;
    let undo = format!("ip route del {SERVICE}; ip addr del {foreign}/32 dev eth0");
    cloud.ssh("one", &[&undo])?;
    assert_eq!(said, "silent");
    assert_eq!(
        probe.ask(cloud, "one", &["connect", SERVICE, "80"])?,
        "open"
    );
    Ok(())
}

#[test]
fn an_image_that_knows_ec2_alone_gets_everything_by_metadata() -> anyhow::Result<()> {
    let cloud = Cloud::up(Size {
        controllers: 1,
        nodes: 1,
    })?;
    let image = nube_harness::image("micro-ec2")?;
    cloud.ctl(&["image", "import", image.to_str().context("a path")?])?;
    let script = cloud.scratch().join("setup.sh");
    std::fs::write(&script, "#!/bin/sh\necho by metadata > /srv/told\n")?;
    let script = script.to_str().context("a path")?;
    let launch = [
        "launch",
        "micro-ec2",
        "--name",
        "pure",
        "--user-data",
        script,
    ];
    cloud.ctl(&launch)?;
    // Logging in proves both keys: the guest's own is checked, ours let us in.
    assert_eq!(cloud.ssh("pure", &["hostname"])?, "pure");
    nube_harness::eventually("user-data ran", std::time::Duration::from_secs(60), || {
        let told = cloud.ssh("pure", &["cat", "/srv/told"])?;
        anyhow::ensure!(told == "by metadata", "{told}");
        Ok(())
    })?;
    let seeds =
        "ls /sys/firmware/qemu_fw_cfg/by_name/opt/nube 2>/dev/null | wc -l; ls /dev/vd* | wc -l";
    let said = cloud.ssh("pure", &[seeds])?;
    let counts: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(counts, ["0", "1"], "no seed may be attached: {said}");
    Ok(())
}
