//! Bad input gets an error that names field and rule, and changes nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use nube_harness::{Cloud, Size};

const INVALID: i32 = 1;
const NOT_FOUND: i32 = 3;
const NO_CAPACITY: i32 = 6;

/// (arguments, exit code, words of the error).
fn table(scratch: &str) -> Vec<(Vec<String>, i32, Vec<&'static str>)> {
    let row = |line: &str, code, words: &[&'static str]| {
        let args = line
            .split('|')
            .map(|word| word.replace("SCRATCH", scratch))
            .collect();
        (args, code, words.to_vec())
    };
    vec![
        row("launch|nothing", NOT_FOUND, &["image", "nothing"]),
        row(
            "launch|micro|--type|n9.huge",
            NOT_FOUND,
            &["instance type", "n9.huge"],
        ),
        row(
            "launch|micro|--ssh-key|nobody",
            NOT_FOUND,
            &["ssh key", "nobody"],
        ),
        row(
            "launch|micro|--name|,file=/etc/shadow",
            INVALID,
            &["name", "a-z, 0-9"],
        ),
        row("launch|micro|--name|../x", INVALID, &["name", "a-z, 0-9"]),
        row("launch|micro|--name|a\nb", INVALID, &["name", "a-z, 0-9"]),
        row(
            "launch|micro|--user-data|SCRATCH/large",
            INVALID,
            &["user_data", "16384"],
        ),
        row(
            "launch|micro|--type|n1.large",
            NO_CAPACITY,
            &["memory", "8192"],
        ),
        row(
            "launch|micro|--isolation|hardware",
            NO_CAPACITY,
            &["isolation"],
        ),
        row("launch|micro|--zone|mars", NO_CAPACITY, &["zone"]),
        row(
            "ssh-key|import|opts|SCRATCH/options.pub",
            INVALID,
            &["public_key", "options"],
        ),
        row(
            "ssh-key|import|huge|SCRATCH/huge.pub",
            INVALID,
            &["public_key", "16384"],
        ),
        row(
            "ssh-key|import|secret|SCRATCH/private",
            INVALID,
            &["private key"],
        ),
        row("delete|never-was", NOT_FOUND, &["instance", "never-was"]),
        row("image|delete|nothing", NOT_FOUND, &["image"]),
    ]
}

#[test]
fn every_refusal_names_its_rule_and_changes_nothing() -> anyhow::Result<()> {
    let cloud = Cloud::up(Size {
        controllers: 3,
        nodes: 1,
    })?;
    let file = |name: &str, bytes: &[u8]| std::fs::write(cloud.scratch().join(name), bytes);
    file("large", &[b'x'; 16 * 1024 + 1])?;
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    file(
        "options.pub",
        format!("command=\"/bin/sh\" {key}\n").as_bytes(),
    )?;
    file("huge.pub", &[b'a'; 1024 * 1024])?;
    file("private", b"-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n")?;
    for (args, code, words) in table(&cloud.scratch().display().to_string()) {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        unchanged(&cloud, || {
            let text = cloud.try_ctl(&args)?.refused(code)?;
            for word in &words {
                assert!(
                    text.contains(word),
                    "{args:?} does not say `{word}`: {text}"
                );
            }
            Ok(())
        })?;
    }
    noise_on_every_port(&cloud)
}

/// Proofs of life of hosts are committed now and then: a bracket that one of
/// them fell into is tried again.
fn unchanged(cloud: &Cloud, act: impl Fn() -> anyhow::Result<()>) -> anyhow::Result<()> {
    const ATTEMPTS: u32 = 4;
    for _ in 0..ATTEMPTS {
        let before = cloud.state_hash()?;
        act()?;
        if cloud.state_hash()? == before {
            return Ok(());
        }
    }
    anyhow::bail!("the state hash changed {ATTEMPTS} times in a row")
}

/// Random bytes, half a TLS record, plain HTTP: the processes stay.
fn noise_on_every_port(cloud: &Cloud) -> anyhow::Result<()> {
    let before: Vec<_> = cloud
        .members()
        .iter()
        .map(|m| cloud.process(m))
        .collect::<anyhow::Result<_>>()?;
    let mut noise = vec![0u8; 64 * 1024];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut noise)?;
    let plain = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
    let http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00".to_vec();
    let half = vec![0x16, 0x03, 0x01, 0x40, 0x00, 0x01];
    for port in cloud.base_port()..cloud.base_port() + 3 {
        for bytes in [&noise, &plain, &http2, &half] {
            let mut stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.set_write_timeout(Some(Duration::from_secs(2)))?;
            // The other side may hang up in the middle: that is its right.
            let _ = stream.write_all(bytes);
        }
    }
    cloud.ctl(&["list"])?;
    assert!(
        before.iter().all(nube_harness::Process::is_alive),
        "a process ended"
    );
    Ok(())
}
