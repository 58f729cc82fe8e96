//! What the cloud costs a launch: seconds from `cloudctl launch` to the SSH
//! banner, over the same guest started by hand with the same QEMU command line.
//! Pairs, interleaved in one run: absolute times of a shared machine say little.
//!
//! ```text
//! cargo run --release -p nube-harness --example launch [PAIRS]
//! ```
//!
//! By hand, every descriptor that the agent passes is replaced by what it stands
//! for: a path. Only the network's backend is another one, so that nothing has
//! to be set up: QEMU's user network with a forwarded port instead of a tap.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use nube_harness::{Cloud, Size, eventually, guest_of, run};

const PAIRS: usize = 5;
/// Between two attempts at the banner.
const PAUSE: Duration = Duration::from_millis(50);
/// Ends a run that hangs; nothing is measured with it.
const LIMIT: Duration = Duration::from_secs(120);
/// The guest says so on its console: from here on it answers or refuses
/// connections. Earlier ones hang in the user network until it tries again,
/// which would be charged to the guest.
const NETWORK_IS_UP: &[u8] = b"nube: network";

fn main() -> anyhow::Result<()> {
    let pairs = std::env::args().nth(1).map_or(Ok(PAIRS), |n| n.parse())?;
    let load_before = fs::read_to_string("/proc/loadavg")?;
    let cloud = Cloud::up(Size::default())?;
    let recipe = warm_up(&cloud)?;
    println!("NIC backend: tap in the cloud, user network by hand; all other arguments are equal.");
    println!("By hand there is no cgroup, no network namespace and no user of its own.\n");
    println!("pair first cloud s (placed running) hand s (network) ratio");
    let mut columns: [Vec<f64>; 6] = Default::default();
    for pair in 1..=pairs {
        let in_cloud = |cloud: &Cloud| through_cloud(cloud, &format!("bench-{pair}"));
        let by_hand = || recipe.run(&cloud.scratch().join(format!("hand-{pair}")));
        let cloud_first = pair % 2 == 1;
        let (stages, hand) = if cloud_first {
            (in_cloud(&cloud)?, by_hand()?)
        } else {
            let hand = by_hand()?;
            (in_cloud(&cloud)?, hand)
        };
        let stage = |name: &str| stages.get(name).copied().unwrap_or(f64::NAN);
        let (total, ratio) = (stage("end"), stage("end") / hand.banner);
        let (placed, running) = (stage("placed"), stage("running"));
        println!(
            "{pair:4} {:>5} {total:7.3} ({placed:6.3} {running:7.3}) {:6.3} ({:7.3}) {ratio:5.2}",
            if cloud_first { "cloud" } else { "hand" },
            hand.banner,
            hand.network
        );
        let row = [total, placed, running, hand.banner, hand.network, ratio];
        columns.iter_mut().zip(row).for_each(|(c, v)| c.push(v));
    }
    println!();
    let names = [
        "cloud: banner, s",
        "cloud: placed, s",
        "cloud: running, s",
        "hand: banner, s",
        "hand: network up, s",
        "ratio cloud/hand",
    ];
    for (name, values) in names.iter().zip(&mut columns) {
        values.sort_by(f64::total_cmp);
        let (min, max) = (values.first(), values.last());
        let (min, max) = min.zip(max).context("no pair was run")?;
        println!("{name:20} median {:.3}  min {min:.3}  max {max:.3}", median(values));
    }
    let load_after = fs::read_to_string("/proc/loadavg")?;
    println!("load before {}, after {}", load_before.trim(), load_after.trim());
    Ok(())
}

/// Of sorted values.
fn median(sorted: &[f64]) -> f64 {
    let (low, high) = ((sorted.len() - 1) / 2, sorted.len() / 2);
    (sorted[low] + sorted[high]) / 2.0
}

/// One guest on each host, so that no timed launch fetches the image, and the
/// command line of one of them.
fn warm_up(cloud: &Cloud) -> anyhow::Result<Recipe> {
    let record = cloud.launch("warm-1")?;
    cloud.launch("warm-2")?;
    let id = record["id"].as_str().context("an id")?;
    let disk_mib = record["disk_mib"].as_str().context("a disk")?.parse()?;
    let recipe = Recipe::of(guest_of(id)?.pid, disk_mib)?;
    delete(cloud, "warm-1")?;
    delete(cloud, "warm-2")?;
    Ok(recipe)
}

/// Seconds after which `cloudctl` told each stage; `end` is its own end.
fn through_cloud(cloud: &Cloud, name: &str) -> anyhow::Result<BTreeMap<String, f64>> {
    let mut command = cloud.command(&["launch", "micro", "--name", name])?;
    let begun = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stages = BTreeMap::new();
    let mut told = String::new();
    for line in BufReader::new(child.stderr.take().context("stderr")?).lines() {
        let line = line?;
        let stage = line.split(": ").nth(1).unwrap_or_default();
        let word = stage.split(' ').next().unwrap_or_default();
        stages.insert(word.to_owned(), begun.elapsed().as_secs_f64());
        told = told + &line + "\n";
    }
    let status = child.wait()?;
    stages.insert("end".to_owned(), begun.elapsed().as_secs_f64());
    anyhow::ensure!(status.success(), "launch: {status}\n{told}");
    delete(cloud, name)?;
    Ok(stages)
}

fn delete(cloud: &Cloud, name: &str) -> anyhow::Result<()> {
    let record = cloud.json(&["show", name])?;
    cloud.ctl(&["delete", name])?;
    cloud.wait_state(record["id"].as_str().context("an id")?, "INSTANCE_STATE_DELETED")?;
    Ok(())
}

/// A started machine; ended with this value.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait()) {
            eprintln!("machine {} was not ended: {error}", self.0.id());
        }
    }
}

/// Seconds since the exec.
struct Hand {
    network: f64,
    banner: f64,
}

/// How the cloud starts a guest, with paths instead of descriptors where they
/// are the same for every guest.
struct Recipe {
    program: PathBuf,
    arguments: Vec<String>,
    base: PathBuf,
    disk_mib: u64,
    /// The guest's network port.
    mac: String,
    mtu: String,
}

impl Recipe {
    fn of(pid: u32, disk_mib: u64) -> anyhow::Result<Self> {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let line = fs::read(process.join("cmdline"))?;
        let line = String::from_utf8(line)?;
        let all: Vec<&str> = line.trim_end_matches('\0').split('\0').collect();
        let file = |number: &str| fs::read_link(process.join("fd").join(number));
        let (mut arguments, mut base) = (Vec::new(), None);
        let mut rest = all.iter().skip(1);
        while let Some(&argument) = rest.next() {
            match (argument, arguments.last().map(String::as_str)) {
                ("-add-fd", _) => {
                    let set = rest.next().context("a set")?;
                    if let Some(number) = set.strip_prefix("set=1,fd=") {
                        base = Some(file(number)?);
                    }
                }
                (path, Some("-kernel" | "-initrd")) => {
                    let number = path.rsplit('/').next().unwrap_or_default();
                    arguments.push(file(number)?.display().to_string());
                }
                _ => arguments.push(argument.to_owned()),
            }
        }
        let nic = all.iter().find(|a| a.starts_with("virtio-net-pci,"));
        let value = |name: &str| {
            let value = nic?.split(',').find_map(|pair| pair.strip_prefix(name))?;
            Some(value.to_owned())
        };
        Ok(Self {
            program: fs::read_link(process.join("exe"))?,
            base: base.context("no base image")?,
            disk_mib,
            mac: value("mac=").context("no MAC")?,
            mtu: value("host_mtu=").context("no MTU")?,
            arguments,
        })
    }

    /// One boot, in a directory of its own.
    fn run(&self, dir: &Path) -> anyhow::Result<Hand> {
        fs::create_dir(dir)?;
        self.seed(dir)?;
        let size = format!("{}M", self.disk_mib);
        let mut create = Command::new("qemu-img");
        create.args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]);
        run(create.arg(&self.base).arg(dir.join("root.qcow2")).arg(size))?.ok()?;
        // Free now; nobody else hands out ports here in the meantime.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new(&self.program);
        command.args(self.arguments_in(dir, address)).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(File::create(dir.join("stderr"))?);
        let begun = Instant::now();
        let machine = Machine(command.spawn()?);
        let network = console_says(&dir.join("serial.sock"), NETWORK_IS_UP)
            .with_context(|| fs::read_to_string(dir.join("stderr")).unwrap_or_default())?;
        let network = network.duration_since(begun).as_secs_f64();
        while !banner(address).is_ok_and(|banner| banner.starts_with(b"SSH-2.0-")) {
            anyhow::ensure!(begun.elapsed() < LIMIT, "no banner by hand");
            std::thread::sleep(PAUSE);
        }
        let banner = begun.elapsed().as_secs_f64();
        drop(machine);
        Ok(Hand { network, banner })
    }

    fn seed(&self, dir: &Path) -> anyhow::Result<()> {
        let key = dir.join("ssh-host-ed25519-key");
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]);
        run(keygen.arg(&key))?.ok()?;
        fs::copy(key.with_extension("pub"), dir.join("authorized-keys"))?;
        let id = rand::random::<u64>();
        let meta_data = format!("instance-id: i-{id:016x}\nlocal-hostname: by-hand\n");
        let (mac, mtu) = (&self.mac, &self.mtu);
        let network =
            format!("address: 10.0.2.15/24\ngateway: 10.0.2.2\nmac: {mac}\nmtu: {mtu}\n");
        fs::write(dir.join("meta-data"), meta_data)?;
        fs::write(dir.join("network"), network)?;
        fs::write(dir.join("user-data"), "")?;
        let entropy: [[u8; 32]; 2] = rand::random();
        Ok(fs::write(dir.join("entropy"), entropy.concat())?)
    }

    fn arguments_in(&self, dir: &Path, address: SocketAddr) -> Vec<String> {
        let mut previous = "";
        let stand_in = |argument: &String| {
            let option = std::mem::replace(&mut previous, argument);
            match option {
                // Not to be taken for a guest of the cloud's.
                "-name" => "guest=by-hand,debug-threads=on".to_owned(),
                "-blockdev" => argument
                    .replace("/dev/fdset/1", &self.base.display().to_string())
                    .replace("/dev/fdset/2", &dir.join("root.qcow2").display().to_string()),
                "-fw_cfg" => {
                    let name = argument.split(',').next().unwrap_or_default();
                    let file = name.rsplit('/').next().unwrap_or_default();
                    format!("{name},file={}", dir.join(file).display())
                }
                "-chardev" => {
                    let id = if argument.contains("id=serial") { "serial" } else { "qmp" };
                    let path = dir.join(format!("{id}.sock"));
                    format!("socket,id={id},path={},server=on,wait=off", path.display())
                }
                "-netdev" => format!("user,id=port0,hostfwd=tcp:{address}-10.0.2.15:22"),
                _ => argument.clone(),
            }
        };
        self.arguments.iter().map(stand_in).collect()
    }
}

/// When a text was seen on the serial console.
fn console_says(socket: &Path, text: &[u8]) -> anyhow::Result<Instant> {
    let mut console = eventually("a console", LIMIT, || Ok(UnixStream::connect(socket)?))?;
    console.set_read_timeout(Some(LIMIT))?;
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    while !seen.windows(text.len()).any(|window| window == text) {
        let len = console.read(&mut buffer)?;
        anyhow::ensure!(len > 0, "it ended: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..len]);
    }
    Ok(Instant::now())
}

/// What the guest's port says first. The user network accepts before the guest.
fn banner(address: SocketAddr) -> anyhow::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut buffer = [0; 64];
    let len = stream.read(&mut buffer)?;
    Ok(buffer[..len].to_vec())
}
