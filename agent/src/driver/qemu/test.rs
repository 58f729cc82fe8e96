//! Real machines on this host: needs root and QEMU. Each test builds an
//! emulated host of its own, and looks for leftovers at the end.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nube_types::{InstanceId, NetworkId, NodeId, PlacementEpoch};
use tokio::io::AsyncReadExt;

use super::*;
use crate::driver::{DirectBoot, DiskFormat, GuestExit, ImageSpec, PortSpec};
use crate::host::{clean, namespace, port, testbed};

const QEMU: &str = "/usr/bin/qemu-system-x86_64";
const HOST_KEY: &str = "-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW
QyNTUxOQAAACCpPkVJhSgDz2FyV4JNwTCAJVGUs3Ks9m9CMIBWgWTmIgAAAJCz0Ygls9GI
JQAAAAtzc2gtZWQyNTUxOQAAACCpPkVJhSgDz2FyV4JNwTCAJVGUs3Ks9m9CMIBWgWTmIg
AAAEDaVgBYUtO3/6Y0FWfKSdyLhsVZmkQbcHuTFRaIXDzKAKk+RUmFKAPPYXJXgk3BMIAl
UZSzcqz2b0IwgFaBZOYiAAAABnRlc3QtaAECAwQFBgc=
-----END OPENSSH PRIVATE KEY-----
";

/// An emulated host with a driver's configuration; gone with all in it at the
/// end, also when a test fails.
struct Bench {
    cell: String,
    directory: tempfile::TempDir,
    config: QemuConfig,
}

impl Bench {
    /// `ordinal` keeps tests that run at the same time apart.
    fn new(ordinal: u8) -> Option<Self> {
        if !rustix::process::geteuid().is_root() || !Path::new(QEMU).exists() {
            println!("skipped: needs root and {QEMU}");
            return None;
        }
        let salt = std::process::id() & 0xffff;
        let cell = format!("{salt:04x}{ordinal:04x}");
        // Bridges are named by the first four digits.
        let cell = format!("{ordinal:02x}{}{}", &cell[2..4], &cell[..4]);
        let subnet = Ipv4Addr::new(10, 213, 240 + ordinal, 0);
        let hosts = testbed::create(&cell, &["bench".to_owned()], subnet).expect("testbed");
        let directory = tempfile::tempdir().expect("directory");
        let config = QemuConfig {
            node: NodeId(u64::from(salt) << 16 | u64::from(ordinal)),
            instances_dir: directory.path().join("instances"),
            qemu: PathBuf::from(QEMU),
            accelerator: Accelerator::Tcg,
            uid_base: 0x7000_0000 + (salt << 12) + (u32::from(ordinal) << 28 >> 4),
            host_namespace: Some(hosts[0].namespace.clone()),
            closed: Vec::new(),
        };
        Some(Self {
            cell,
            directory,
            config,
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
        let prefix = port::namespace_prefix(self.config.node);
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
        if let Err(error) = testbed::delete(&self.cell) {
            println!("testbed: {error}");
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
        },
        authorized_keys: vec!["ssh-ed25519 AAAA,file=/etc/shadow".to_owned()],
        user_data: Vec::new(),
        ssh_host_private_key: HOST_KEY.to_owned(),
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
    assert!(!line.contains("shadow") && !line.contains("guest-1"), "{line}");
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

    // Things that no record explains are reported, not touched.
    let foreign = namespace::Namespace::named(port::namespace_name(bench.config.node, 77));
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_guest_boots_answers_and_powers_off() {
    let Some((image, files)) = micro_image() else {
        println!("skipped: NUBE_MICRO_IMAGE names no image");
        return;
    };
    let Some(bench) = Bench::new(4) else { return };
    let first = spec(1, image.clone());
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
    let log = driver.serial_log(first.instance, 1 << 20).await.expect("log");
    println!("serial log: {} bytes", log.len());

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
