//! Real machines on this host: needs root and QEMU. Each test builds an
//! emulated host of its own, and looks for leftovers at the end.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nube_types::{InstanceId, NetworkId, PlacementEpoch};
use tokio::io::AsyncReadExt;

use super::*;
use crate::driver::{DirectBoot, DiskFormat, GuestExit, ImageSpec, PortSpec};
use crate::host::scratch::Scratch;
use crate::host::{clean, namespace, network};

mod console;
mod lease;

const QEMU: &str = "/usr/bin/qemu-system-x86_64";
/// A driver's configuration in an emulated host; gone with all in it at the
/// end, also when a test fails.
struct Bench {
    directory: tempfile::TempDir,
    config: QemuConfig,
    _scratch: Scratch,
}

impl Bench {
    fn new(ordinal: u8) -> Option<Self> {
        if !Path::new(QEMU).exists() {
            println!("skipped: needs {QEMU}");
            return None;
        }
        let scratch = Scratch::new(ordinal)?;
        let directory = tempfile::tempdir().expect("directory");
        let config = QemuConfig {
            node: scratch.node,
            instances_dir: directory.path().join("instances"),
            qemu: PathBuf::from(QEMU),
            accelerator: Accelerator::Tcg,
            uid_base: scratch.uid_base,
            host_namespace: Some(scratch.host.namespace.clone()),
            closed: Vec::new(),
            fence: None,
        };
        Some(Self {
            directory,
            config,
            _scratch: scratch,
        })
    }

    fn driver(&self) -> QemuDriver {
        QemuDriver::open(self.config.clone()).expect("driver")
    }

    fn target(&self) -> clean::Target {
        clean::Target {
            node: self.config.node,
            instances_dir: self.config.instances_dir.clone(),
            uid_base: self.config.uid_base,
            host_namespace: self.config.host_namespace.clone(),
        }
    }

    /// Everything that guests leave on a host, except the drivers' own folder.
    async fn leftovers(&self) -> Vec<String> {
        let mut found = Vec::new();
        let uids = uid::range(self.config.uid_base).expect("range");
        let processes = process::by_uid(&uids).expect("processes");
        found.extend(processes.into_iter().map(|entry| format!("{entry:?}")));
        let prefix = network::namespace_prefix(self.config.node);
        found.extend(namespace::list(&prefix).expect("namespaces"));
        let cgroups = Cgroups::detect(self.config.node.hex()).expect("cgroups");
        found.extend(cgroups.list());
        let entries = std::fs::read_dir(&self.config.instances_dir).expect("directory");
        found.extend(entries.map(|entry| format!("{:?}", entry.expect("entry").path())));
        let host = namespace::Namespace::of(self.config.host_namespace.as_deref());
        let links = host
            .run_async(|| async { crate::host::link::Links::open()?.names().await })
            .await
            .expect("links");
        found.extend(links.into_iter().filter(|name| name.starts_with("nl-")));
        found
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let target = self.target();
        let cleaning = std::thread::spawn(move || {
            namespace::block_on(async { clean::clean(&target).await.map(|_| ()) })
        });
        if let Ok(Err(error)) = cleaning.join() {
            println!("clean: {error}");
        }
    }
}

fn spec(number: u8, image: ImageSpec) -> GuestSpec {
    GuestSpec {
        instance: InstanceId(0x1000 + u64::from(number)),
        epoch: PlacementEpoch(1),
        hostname: format!("guest-{number}"),
        vcpus: 1,
        memory_mib: 128,
        disk_mib: 128,
        image,
        port: PortSpec {
            network: NetworkId(9),
            network_number: 9,
            address: Ipv4Addr::new(10, 0, 0, 10 + number),
            prefix_length: 16,
            gateway: Ipv4Addr::new(10, 0, 0, 1),
            mac: [0x02, 0, 0, 0, 0, 10 + number],
            mtu: 1400,
            address_v6: None,
            network_name: String::new(),
        },
        authorized_keys: vec!["ssh-ed25519 AAAA,file=/etc/shadow".to_owned()],
        user_data: Vec::new(),
        ssh_host_private_key: "-----BEGIN OPENSSH PRIVATE KEY-----\n".to_owned(),
        leased: false,
        metadata_only: false,
    }
}

/// A disk that does nothing: the firmware finds no system and waits.
fn empty_image(directory: &Path) -> (ImageSpec, ImageFiles) {
    let disk = directory.join("empty.raw");
    std::fs::write(&disk, vec![0; 1 << 20]).expect("disk");
    let image = ImageSpec {
        disk_sha256: "00".repeat(32),
        disk_size_bytes: 1 << 20,
        disk_format: DiskFormat::Raw,
        boot: None,
    };
    (image, ImageFiles { disk, boot: None })
}

fn micro_image() -> Option<(ImageSpec, ImageFiles)> {
    let directory = PathBuf::from(std::env::var_os("NUBE_MICRO_IMAGE")?);
    let text = std::fs::read(directory.join("image.json")).expect("image.json");
    let json: serde_json::Value = serde_json::from_slice(&text).expect("json");
    let digest = |part: &str| json[part]["sha256"].as_str().expect("digest").to_owned();
    let bytes = |part: &str| json[part]["size_bytes"].as_u64().expect("size");
    let file = |part: &str| directory.join(json[part]["file"].as_str().expect("file"));
    let image = ImageSpec {
        disk_sha256: digest("disk"),
        disk_size_bytes: bytes("disk"),
        disk_format: DiskFormat::Qcow2,
        boot: Some(DirectBoot {
            kernel_sha256: digest("kernel"),
            kernel_size_bytes: bytes("kernel"),
            initrd_sha256: digest("initrd"),
            initrd_size_bytes: bytes("initrd"),
            cmdline: json["cmdline"].as_str().expect("cmdline").to_owned(),
        }),
    };
    let files = ImageFiles {
        disk: file("disk"),
        boot: Some((file("kernel"), file("initrd"))),
    };
    Some((image, files))
}

async fn next_end(ends: &mut mpsc::Receiver<GuestEnded>) -> GuestEnded {
    tokio::time::timeout(Duration::from_secs(30), ends.recv())
        .await
        .expect("in time")
        .expect("an end")
}

async fn banner(driver: &QemuDriver, instance: InstanceId, within: Duration) -> String {
    let began = Instant::now();
    loop {
        if let Ok(mut stream) = driver.connect(instance, 22).await {
            let mut bytes = [0; 64];
            let reading = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut bytes));
            if let Ok(Ok(count @ 1..)) = reading.await {
                return String::from_utf8_lossy(&bytes[..count]).into_owned();
            }
        }
        if began.elapsed() > within {
            let log = driver.serial_log(instance, 4000).await.expect("log");
            panic!("no banner; serial log: {}", String::from_utf8_lossy(&log));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_outlives_its_agent_and_leaves_nothing() {
    let Some(bench) = Bench::new(1) else { return };
    let (image, files) = empty_image(bench.directory.path());
    let spec = spec(1, image);
    let driver = bench.driver();
    let mut ends = driver.ended();
    assert_eq!(driver.recover().await.expect("recovered"), (vec![], vec![]));
    assert!(matches!(
        driver.start(spec.instance).await,
        Err(DriverError::Absent(_))
    ));
    for _ in 0..2 {
        let began = Instant::now();
        driver.prepare(&spec, &files).await.expect("prepared");
        println!("prepare: {:?}", began.elapsed());
    }
    let began = Instant::now();
    let run = driver.start(spec.instance).await.expect("started");
    println!("start to QMP: {:?}", began.elapsed());
    assert_eq!(driver.start(spec.instance).await.expect("again"), run);
    check_confinement(&run);

    // The agent goes; the machine does not, and the next agent finds it.
    drop(driver);
    drop(ends);
    let driver = bench.driver();
    ends = driver.ended();
    let (found, unexplained) = driver.recover().await.expect("recovered");
    assert_eq!(unexplained, Vec::<String>::new());
    let expected = Recovered::Running(Box::new(spec.clone()), run.clone());
    assert_eq!(found, vec![expected]);

    driver.power_cut(spec.instance).await.expect("cut");
    let end = next_end(&mut ends).await;
    assert_eq!(end.run, run);
    assert_eq!(end.exit, GuestExit::Crashed("its power was cut".to_owned()));
    // Its port and disk are still there: it starts again, as another life.
    let second = driver.start(spec.instance).await.expect("started again");
    assert_ne!(second, run);

    // Killed from outside: the end is told, and the text says so.
    let pid = rustix::process::Pid::from_raw(second.pid as i32).expect("pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
    let end = next_end(&mut ends).await;
    let killed = GuestExit::Crashed("the machine process was killed".to_owned());
    assert_eq!((end.run, end.exit), (second, killed));

    for _ in 0..2 {
        let began = Instant::now();
        driver.remove(spec.instance).await.expect("removed");
        println!("remove: {:?}", began.elapsed());
    }
    assert_eq!(bench.leftovers().await, Vec::<String>::new());
}

/// As the guest's own uid, without privileges, in its cgroup, nobody's child.
fn check_confinement(run: &Run) {
    let process = PathBuf::from(format!("/proc/{}", run.pid));
    let status = std::fs::read_to_string(process.join("status")).expect("status");
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("no {name}")).to_owned()
    };
    assert!(field("CapEff").ends_with("0000000000000000"));
    assert!(field("CapPrm").ends_with("0000000000000000"));
    assert_eq!(field("NoNewPrivs"), "NoNewPrivs:\t1");
    assert_eq!(field("Seccomp:"), "Seccomp:\t2");
    assert_eq!(field("Groups:").trim_end(), "Groups:");
    assert!(!field("Uid:").contains("\t0"));
    assert_ne!(field("PPid:"), format!("PPid:\t{}", std::process::id()));
    let cgroup = std::fs::read_to_string(process.join("cgroup")).expect("cgroup");
    assert!(cgroup.contains("/nube/"), "{cgroup}");
    let line = std::fs::read(process.join("cmdline")).expect("cmdline");
    let line = String::from_utf8_lossy(&line);
    assert!(
        !line.contains("shadow") && !line.contains("guest-1"),
        "{line}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_step_leaves_what_recovery_finds() {
    let Some(bench) = Bench::new(2) else { return };
    let (image, files) = empty_image(bench.directory.path());
    let spec = spec(1, image);
    let directory = Directory::of(&bench.config.instances_dir, spec.instance);

    // After the directory, before the record: nothing else can exist.
    let driver = bench.driver();
    std::fs::create_dir(directory.path()).expect("directory");
    assert_eq!(driver.recover().await.expect("recovered"), (vec![], vec![]));
    assert!(!directory.path().exists());

    // After the record, before all else.
    let record = Record::new(bench.config.uid_base, &spec, &files);
    directory.write(&record).expect("record");
    let driver = bench.driver();
    let prepared = Recovered::Prepared(Box::new(spec.clone()));
    let (found, unexplained) = driver.recover().await.expect("recovered");
    assert_eq!((found, unexplained), (vec![prepared], vec![]));
    driver.remove(spec.instance).await.expect("removed");
    assert_eq!(bench.leftovers().await, Vec::<String>::new());

    // After the process began, before anyone noted it: start finds it.
    driver.prepare(&spec, &files).await.expect("prepared");
    let run = driver.start(spec.instance).await.expect("started");
    drop(driver);
    let driver = bench.driver();
    assert_eq!(driver.start(spec.instance).await.expect("found"), run);

    // In the middle of the removal: recovery ends it.
    drop(driver);
    directory.mark_removing().expect("marked");
    let driver = bench.driver();
    assert_eq!(driver.recover().await.expect("recovered"), (vec![], vec![]));
    assert_eq!(bench.leftovers().await, Vec::<String>::new());

    // A record that cannot be read is reported, and can be removed.
    driver.prepare(&spec, &files).await.expect("prepared");
    driver.start(spec.instance).await.expect("started");
    drop(driver);
    std::fs::write(directory.path().join("record.json"), b"{").expect("spoilt");
    let driver = bench.driver();
    let (found, unexplained) = driver.recover().await.expect("recovered");
    assert!(
        found.is_empty() && unexplained.len() == 3,
        "{unexplained:?}"
    );
    driver.remove(spec.instance).await.expect("removed");
    assert_eq!(bench.leftovers().await, Vec::<String>::new());

    // Things that no record explains are reported, not touched.
    let foreign = namespace::Namespace::named(network::namespace_name(bench.config.node, 77));
    foreign.create().expect("created");
    foreign
        .run(|| crate::host::tap::open("tforeign").map(|_| ()))
        .await
        .expect("tap");
    let (_, unexplained) = driver.recover().await.expect("recovered");
    assert_eq!(unexplained.len(), 1, "{unexplained:?}");
    assert!(foreign.exists());
    let removed = clean::clean(&bench.target()).await.expect("cleaned");
    assert_eq!(removed.len(), 2, "{removed:?}");
    assert!(!foreign.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_and_a_start_that_nobody_waits_for() {
    let Some(bench) = Bench::new(5) else { return };
    let (image, files) = empty_image(bench.directory.path());
    let specs: Vec<GuestSpec> = (1..5)
        .map(|number| {
            let mut spec = spec(number, image.clone());
            spec.port.network_number = u32::from(number % 2);
            spec
        })
        .collect();
    let driver = bench.driver();
    let lives = specs.iter().map(|spec| async {
        driver.prepare(spec, &files).await.expect("prepared");
        if spec.instance == specs[0].instance {
            // Its caller gives up in the middle, whatever that hits.
            let brief = Duration::from_millis(25);
            let _ = tokio::time::timeout(brief, driver.start(spec.instance)).await;
        }
        driver.start(spec.instance).await.expect("started")
    });
    let runs = futures::future::join_all(lives).await;
    drop(driver);
    let driver = bench.driver();
    let (found, unexplained) = driver.recover().await.expect("recovered");
    assert_eq!(unexplained, Vec::<String>::new());
    let expected = specs.iter().zip(&runs);
    let expected: Vec<Recovered> = expected
        .map(|(spec, run)| Recovered::Running(Box::new(spec.clone()), run.clone()))
        .collect();
    assert_eq!(found, expected);
    let uids = uid::range(bench.config.uid_base).expect("range");
    let processes = process::by_uid(&uids).expect("processes");
    assert_eq!(processes.len(), specs.len(), "{processes:?}");
    assert!(
        processes.values().all(|pids| pids.len() == 1),
        "{processes:?}"
    );
    let removals = specs.iter().map(|spec| driver.remove(spec.instance));
    for removed in futures::future::join_all(removals).await {
        removed.expect("removed");
    }
    assert_eq!(bench.leftovers().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_cannot_start_says_why_and_is_gone() {
    let Some(bench) = Bench::new(3) else { return };
    let (image, files) = empty_image(bench.directory.path());
    let mut spec = spec(1, image);
    // More than the pinned machine takes.
    spec.vcpus = 10_000;
    let driver = bench.driver();
    let mut ends = driver.ended();
    driver.prepare(&spec, &files).await.expect("prepared");
    let error = driver.start(spec.instance).await.expect_err("too many");
    assert!(error.to_string().starts_with("start machine: "), "{error}");
    assert!(error.to_string().contains("CPU"), "{error}");
    assert!(ends.try_recv().is_err(), "a failed start tells no end");
    driver.remove(spec.instance).await.expect("removed");
    assert_eq!(bench.leftovers().await, Vec::<String>::new());
}

/// A fresh key pair: the private file, and the public line without a comment.
fn key_pair(directory: &Path, name: &str) -> (PathBuf, String) {
    let private = directory.join(name);
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
        .arg(&private)
        .status()
        .expect("ssh-keygen runs");
    assert!(made.success());
    let public = std::fs::read_to_string(private.with_extension("pub")).expect("public key");
    (private, public.trim().to_owned())
}

/// Runs a command in the guest, trusting only the key that was put there.
async fn ssh(bench: &Bench, spec: &GuestSpec, user: &Path, host: &str, command: &str) -> String {
    let known = bench.directory.path().join("known_hosts");
    let address = spec.port.address;
    std::fs::write(&known, format!("{address} {host}\n")).expect("known hosts");
    let name = network::namespace_name(bench.config.node, spec.port.network_number);
    let (user, command) = (user.to_owned(), command.to_owned());
    let output = namespace::Namespace::named(name)
        .run(move || {
            Command::new("ssh")
                .args(["-F", "none", "-o", "BatchMode=yes"])
                .args([
                    "-o",
                    "StrictHostKeyChecking=yes",
                    "-o",
                    "IdentitiesOnly=yes",
                ])
                .arg("-o")
                .arg(format!("UserKnownHostsFile={}", known.display()))
                .arg("-i")
                .arg(&user)
                .arg(format!("root@{address}"))
                .arg(command)
                .output()
        })
        .await
        .expect("ssh runs");
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{complaints}");
    String::from_utf8(output.stdout).expect("utf-8")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_guest_boots_answers_and_powers_off() {
    let Some((image, files)) = micro_image() else {
        println!("skipped: NUBE_MICRO_IMAGE names no image");
        return;
    };
    let Some(bench) = Bench::new(4) else { return };
    let (user, user_public) = key_pair(bench.directory.path(), "user");
    let (host, host_public) = key_pair(bench.directory.path(), "host");
    let mut first = spec(1, image);
    first.authorized_keys = vec![user_public];
    first.ssh_host_private_key = std::fs::read_to_string(host).expect("host key");
    let driver = bench.driver();
    let mut ends = driver.ended();
    let began = Instant::now();
    driver.prepare(&first, &files).await.expect("prepared");
    println!("prepare: {:?}", began.elapsed());
    let began = Instant::now();
    let run = driver.start(first.instance).await.expect("started");
    println!("start to QMP: {:?}", began.elapsed());
    let greeting = banner(&driver, first.instance, Duration::from_secs(60)).await;
    println!("start to banner {greeting:?}: {:?}", began.elapsed());
    assert!(greeting.starts_with("SSH-2.0-"));
    let log = driver
        .serial_log(first.instance, 1 << 20)
        .await
        .expect("log");
    println!("serial log: {} bytes", log.len());
    let text = ssh(
        &bench,
        &first,
        &user,
        &host_public,
        "hostname; df -m / | tail -1",
    )
    .await;
    println!("in the guest: {text}");
    assert!(text.starts_with("guest-1\n"), "{text}");

    drop(driver);
    drop(ends);
    let driver = bench.driver();
    ends = driver.ended();
    let began = Instant::now();
    let (found, unexplained) = driver.recover().await.expect("recovered");
    println!("adopt: {:?}", began.elapsed());
    assert_eq!(unexplained, Vec::<String>::new());
    let expected = Recovered::Running(Box::new(first.clone()), run.clone());
    assert_eq!(found, vec![expected]);
    banner(&driver, first.instance, Duration::from_secs(10)).await;
    console::a_root_shell_answers(&driver, first.instance).await;

    let began = Instant::now();
    driver.power_button(first.instance).await.expect("pressed");
    let end = next_end(&mut ends).await;
    println!("power button to end: {:?}", began.elapsed());
    assert_eq!((end.run, end.exit), (run, GuestExit::PoweredOff));
    let began = Instant::now();
    driver.remove(first.instance).await.expect("removed");
    println!("remove: {:?}", began.elapsed());
    assert_eq!(bench.leftovers().await, Vec::<String>::new());
}
