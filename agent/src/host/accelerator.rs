//! Whether guests can run on the processor itself (KVM) or must be emulated.
//!
//! "It opens and makes a machine" is not an answer: nested or emulated KVM
//! passes that test and then hangs real kernels. So a child process runs SSE
//! code, then a million instructions against the clock; only if both pass,
//! QEMU boots a sector with it. The child may hang: it is killed at a deadline.
//! The answer holds until the host's next boot and is kept in a file.

use std::io;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::{durable, kvm};

/// Both stages take milliseconds where KVM works.
const CHILD_DEADLINE: Duration = Duration::from_secs(2);
/// Firmware and one sector take a fraction of a second where KVM works.
const QEMU_DEADLINE: Duration = Duration::from_secs(3);
/// A processor does the million loops in about one millisecond; emulation of
/// single instructions needs hundreds.
const SPEED_MAX: Duration = Duration::from_millis(50);
/// `pxor xmm0, xmm0; hlt`.
const SSE_CODE: [u8; 5] = [0x66, 0x0f, 0xef, 0xc0, 0xf4];
/// `mov ecx, 1000000; dec ecx; jnz -4; hlt`.
const SPEED_CODE: [u8; 10] = [0xb9, 0x40, 0x42, 0x0f, 0x00, 0xff, 0xc9, 0x75, 0xfc, 0xf4];
/// `mov al, 0x21; out 0xf4, al; hlt`: the debug device makes exit code 67 of it.
const SECTOR_CODE: [u8; 5] = [0xb0, 0x21, 0xe6, 0xf4, 0xf4];
const SECTOR_EXIT_CODE: i32 = 67;
/// Firmware takes nothing smaller for a disk.
const SECTOR_DISK_BYTES: usize = 1 << 20;
const PASSED: &str = "passed";

/// How guests' processors come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// By the processor.
    Kvm,
    /// By QEMU's translator: slow, and no wall against hostile guests.
    Tcg,
}

impl Accelerator {
    /// As reported: `kvm` or `tcg`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }

    /// `hardware`, or `none`: QEMU promises no isolation for emulated guests.
    #[must_use]
    pub fn isolation(self) -> &'static str {
        match self {
            Self::Kvm => "hardware",
            Self::Tcg => "none",
        }
    }
}

/// The probe's finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// What to use.
    pub accelerator: Accelerator,
    /// Why, in plain words.
    pub reason: String,
}

#[derive(Serialize, Deserialize)]
struct Remembered {
    boot_id: String,
    answer: Answer,
}

/// The answer of this boot, from the file or by the probe. `agent` is a program
/// that runs [`probe_child`] when called with `kvm-probe`.
pub async fn detect(agent: &Path, qemu: &Path, memory: &Path, boot_id: &str) -> Answer {
    if let Some(answer) = recall(memory, boot_id) {
        return answer;
    }
    let answer = probe(agent, qemu).await;
    let remembered = Remembered {
        boot_id: boot_id.to_owned(),
        answer: answer.clone(),
    };
    // Not remembered costs two seconds at the next start, nothing else.
    if let Ok(bytes) = serde_json::to_vec(&remembered) {
        let _ = durable::replace(memory, &bytes, 0o644);
    }
    answer
}

fn recall(memory: &Path, boot_id: &str) -> Option<Answer> {
    let bytes = std::fs::read(memory).ok()?;
    let remembered: Remembered = serde_json::from_slice(&bytes).ok()?;
    (remembered.boot_id == boot_id).then_some(remembered.answer)
}

async fn probe(agent: &Path, qemu: &Path) -> Answer {
    let no = |reason: String| Answer {
        accelerator: Accelerator::Tcg,
        reason,
    };
    match probe_by_child(agent).await {
        Err(error) => return no(format!("the KVM probe could not run: {error}")),
        Ok(verdict) if verdict != PASSED => return no(verdict),
        Ok(_) => {}
    }
    match probe_by_qemu(qemu).await {
        Err(error) => no(format!("QEMU could not be tried with KVM: {error}")),
        Ok(false) => no("QEMU does not boot a sector with KVM".to_owned()),
        Ok(true) => Answer {
            accelerator: Accelerator::Kvm,
            reason: "KVM ran SSE code, a timed loop and a boot sector".to_owned(),
        },
    }
}

/// The last line that the child printed; where it hung, if it did.
async fn probe_by_child(agent: &Path) -> io::Result<String> {
    let mut child = Command::new(agent)
        .arg("kvm-probe")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = child
        .stdout
        .take()
        .ok_or_else(|| io::Error::other("the probe has no output"))?;
    let reading = tokio::spawn(async move {
        use tokio::io::AsyncReadExt;
        let mut text = String::new();
        // Bounded: the probe prints a few lines.
        let _ = stdout.take(4096).read_to_string(&mut text).await;
        text
    });
    let ended = tokio::time::timeout(CHILD_DEADLINE, child.wait())
        .await
        .is_ok();
    if !ended {
        // A child stuck in the kernel dies when the call returns; nobody waits.
        let _ = child.start_kill();
    }
    let text = tokio::time::timeout(CHILD_DEADLINE, reading).await;
    let text = text.ok().and_then(Result::ok).unwrap_or_default();
    let last = text.lines().last().unwrap_or("the probe said nothing");
    Ok(if ended {
        last.to_owned()
    } else {
        format!("KVM hangs: {last} did not end in time")
    })
}

/// Body of `cloud-agent kvm-probe`. Prints what it is about to try, so that the
/// parent knows where it hung, and the verdict last.
#[must_use]
pub fn probe_child() -> ExitCode {
    println!("SSE code");
    if let Err(error) = kvm::run(&SSE_CODE) {
        println!("KVM does not run SSE code: {error}");
        return ExitCode::FAILURE;
    }
    println!("a loop of a million instructions");
    match kvm::run(&SPEED_CODE) {
        Err(error) => println!("KVM does not run a loop: {error}"),
        Ok(took) if took > SPEED_MAX => println!(
            "KVM is emulated: a million instructions took {} ms",
            took.as_millis()
        ),
        Ok(_) => {
            println!("{PASSED}");
            return ExitCode::SUCCESS;
        }
    }
    ExitCode::FAILURE
}

async fn probe_by_qemu(qemu: &Path) -> io::Result<bool> {
    use std::os::fd::AsRawFd;
    let mut sector = vec![0; SECTOR_DISK_BYTES];
    sector[..SECTOR_CODE.len()].copy_from_slice(&SECTOR_CODE);
    sector[510..512].copy_from_slice(&[0x55, 0xaa]);
    let disk = rustix::fs::memfd_create("boot-sector", rustix::fs::MemfdFlags::empty())?;
    rustix::io::write(&disk, &sector)?;
    let drive = format!("file=/proc/self/fd/{},format=raw,if=ide", disk.as_raw_fd());
    let mut command = Command::new(qemu);
    command
        .args(["-accel", "kvm", "-machine", "pc", "-m", "64"])
        .args(["-nodefaults", "-no-user-config", "-display", "none"])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=1"])
        .args(["-drive", &drive, "-no-reboot"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    match tokio::time::timeout(QEMU_DEADLINE, command.status()).await {
        Ok(status) => Ok(status?.code() == Some(SECTOR_EXIT_CODE)),
        Err(_) => Ok(false),
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[tokio::test]
    async fn an_answer_is_remembered_for_one_boot_only() {
        let directory = tempfile::tempdir().expect("directory");
        let memory = directory.path().join("accelerator.json");
        let remembered = Remembered {
            boot_id: "boot-1".to_owned(),
            answer: Answer {
                accelerator: Accelerator::Kvm,
                reason: "tried".to_owned(),
            },
        };
        let bytes = serde_json::to_vec(&remembered).expect("json");
        durable::replace(&memory, &bytes, 0o644).expect("written");
        assert_eq!(recall(&memory, "boot-1"), Some(remembered.answer));
        assert_eq!(recall(&memory, "boot-2"), None);
    }

    #[tokio::test]
    async fn a_probe_that_cannot_start_means_emulation() {
        let missing = Path::new("/nonexistent/agent");
        let answer = probe(missing, missing).await;
        assert_eq!(answer.accelerator, Accelerator::Tcg);
        assert!(answer.reason.contains("could not run"));
    }
}
