//! The same guest without the cloud: the machine process of a running guest is
//! read from /proc, and started again by this program. Every descriptor that the
//! agent passes is replaced by what it stands for, a path. Only the network's
//! backend is another one, so that nothing has to be set up: QEMU's user network
//! with a forwarded port instead of a tap.

use std::fs::{self, File};
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use nube_harness::{eventually, run};

use super::LIMIT;

/// Between two attempts at the banner.
const PAUSE: Duration = Duration::from_millis(50);
/// The guest says so on its console: from here on it answers or refuses
/// connections. Earlier ones hang in the user network until it tries again,
/// which would be charged to the guest.
const NETWORK_IS_UP: &[u8] = b"nube: network";

/// A started machine; ended with this value.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait()) {
            eprintln!("machine {} was not ended: {error}", self.0.id());
        }
    }
}

/// How the cloud starts a guest, with paths instead of descriptors where they
/// are the same for every guest.
pub struct Recipe {
    program: PathBuf,
    arguments: Vec<String>,
    base: PathBuf,
    disk_mib: u64,
    /// The guest's network port.
    mac: String,
    mtu: String,
}

impl Recipe {
    /// From a running guest; it may end afterwards.
    pub fn of(pid: u32, disk_mib: u64) -> anyhow::Result<Self> {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let line = fs::read(process.join("cmdline"))?;
        let line = String::from_utf8(line)?;
        let all: Vec<&str> = line.trim_end_matches('\0').split('\0').collect();
        let (mut arguments, mut boot) = (Vec::<String>::new(), Vec::new());
        let mut rest = all.iter().skip(1);
        while let Some(&argument) = rest.next() {
            match (argument, arguments.last().map(String::as_str)) {
                ("-add-fd", _) => drop(rest.next()),
                (path, Some("-kernel" | "-initrd")) => {
                    let number = path.rsplit('/').next().unwrap_or_default();
                    let path = fs::read_link(process.join("fd").join(number))?;
                    arguments.push(path.display().to_string());
                    boot.push(path);
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
            base: base_of(&process, &boot)?,
            disk_mib,
            mac: value("mac=").context("no MAC")?,
            mtu: value("host_mtu=").context("no MTU")?,
            arguments,
        })
    }

    /// One boot, in a directory of its own: seconds from exec to banner.
    pub fn run(&self, dir: &Path) -> anyhow::Result<f64> {
        fs::create_dir(dir)?;
        self.seed(dir)?;
        let size = format!("{}M", self.disk_mib);
        let mut create = Command::new("qemu-img");
        create.args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]);
        run(create.arg(&self.base).arg(dir.join("root.qcow2")).arg(size))?.ok()?;
        // Free now; nobody else hands out ports here in the meantime.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new(&self.program);
        command
            .args(self.arguments_in(dir, address))
            .stdin(Stdio::null());
        command
            .stdout(Stdio::null())
            .stderr(File::create(dir.join("stderr"))?);
        let begun = Instant::now();
        let machine = Machine(command.spawn()?);
        console_says(&dir.join("serial.sock"), NETWORK_IS_UP)
            .with_context(|| fs::read_to_string(dir.join("stderr")).unwrap_or_default())?;
        while !banner(address).is_ok_and(|banner| banner.starts_with(b"SSH-2.0-")) {
            anyhow::ensure!(begun.elapsed() < LIMIT, "no banner by hand");
            std::thread::sleep(PAUSE);
        }
        let banner = begun.elapsed().as_secs_f64();
        drop(machine);
        Ok(banner)
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
        let network = format!("address: 10.0.2.15/24\ngateway: 10.0.2.2\nmac: {mac}\nmtu: {mtu}\n");
        fs::write(dir.join("meta-data"), meta_data)?;
        fs::write(dir.join("network"), network)?;
        fs::write(dir.join("user-data"), "")?;
        let entropy: [[u8; 32]; 2] = rand::random();
        Ok(fs::write(dir.join("entropy"), entropy.concat())?)
    }

    fn arguments_in(&self, dir: &Path, address: SocketAddr) -> Vec<String> {
        let options = std::iter::once("").chain(self.arguments.iter().map(String::as_str));
        let stand_in = |(argument, option): (&String, &str)| {
            match option {
                // Not to be taken for a guest of the cloud's.
                "-name" => "guest=by-hand,debug-threads=on".to_owned(),
                "-blockdev" => argument
                    .replace("/dev/fdset/1", &self.base.display().to_string())
                    .replace(
                        "/dev/fdset/2",
                        &dir.join("root.qcow2").display().to_string(),
                    ),
                "-fw_cfg" => {
                    let name = argument.split(',').next().unwrap_or_default();
                    let file = name.rsplit('/').next().unwrap_or_default();
                    format!("{name},file={}", dir.join(file).display())
                }
                "-chardev" => {
                    let id = if argument.contains("id=serial") {
                        "serial"
                    } else {
                        "qmp"
                    };
                    let path = dir.join(format!("{id}.sock"));
                    format!("socket,id={id},path={},server=on,wait=off", path.display())
                }
                "-netdev" => format!("user,id=port0,hostfwd=tcp:{address}-10.0.2.15:22"),
                _ => argument.clone(),
            }
        };
        self.arguments.iter().zip(options).map(stand_in).collect()
    }
}

/// The image's disk: what else the process has open beside kernel and initrd.
/// QEMU renumbers the descriptors of its sets, so the arguments cannot tell.
fn base_of(process: &Path, boot: &[PathBuf]) -> anyhow::Result<PathBuf> {
    let images = boot.first().and_then(|kernel| kernel.parent());
    let open = fs::read_dir(process.join("fd"))?.flatten();
    open.filter_map(|entry| fs::read_link(entry.path()).ok())
        .find(|path| path.parent() == images && !boot.contains(path))
        .context("no base image is open")
}

/// Returns when a text is seen on the serial console.
fn console_says(socket: &Path, text: &[u8]) -> anyhow::Result<()> {
    let mut console = eventually("a console", LIMIT, || Ok(UnixStream::connect(socket)?))?;
    console.set_read_timeout(Some(LIMIT))?;
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    while !seen.windows(text.len()).any(|window| window == text) {
        let len = console.read(&mut buffer)?;
        anyhow::ensure!(len > 0, "it ended: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..len]);
    }
    Ok(())
}

/// What the guest's port says first. The user network accepts before the guest.
fn banner(address: SocketAddr) -> anyhow::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut buffer = [0; 64];
    let len = stream.read(&mut buffer)?;
    Ok(buffer[..len].to_vec())
}
