//! Starts a machine process that is nobody's child and owns nothing but the
//! descriptors it was given.
//!
//! ```text
//!  agent ─fork─► middle ─fork─► guest: own session ─► cgroup ─► limits ─► uid ─► exec
//!                  └ tells the pid and ends at once
//!
//!  a leased guest has a parent that lives:
//!  agent ─fork─► middle ─fork─► fencer ─fork─► guest: as above ─► dies with it ─► exec
//!                  └ ends at once  └ tells the pid ─► exec of this program
//! ```
//!
//! The guest joins its cgroup before it becomes QEMU: an agent that dies at any
//! moment finds it again. Between fork and exec only calls that are safe after
//! a fork of a threaded process are made: no allocation, no locks.

use std::ffi::{CString, OsString, c_char};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::fencer::Fencer;

/// Arguments of a fencer before the guest's pid; only tests use more than one.
const FENCER_ARGUMENTS_MAX: usize = 4;
/// QEMU opens few files itself: event and timer descriptors per device.
const OPEN_FILES_MAX: libc::rlim_t = 1024;

/// What to start.
#[derive(Debug)]
pub struct Launch {
    /// QEMU.
    pub program: PathBuf,
    /// Its arguments, naming descriptors by number.
    pub arguments: Vec<OsString>,
    /// Stay open in the process under the numbers they have here.
    pub inherited: Vec<OwnedFd>,
    /// See `Cgroups::open_doors`.
    pub cgroups: Vec<OwnedFd>,
    /// User and group.
    pub uid: u32,
    /// The only further group, where one is needed.
    pub group: Option<u32>,
    /// Set for a leased guest: what ends it with the lease.
    pub fencer: Option<Fencer>,
}

/// A process that runs.
#[derive(Debug)]
pub struct Launched {
    /// Of the machine process.
    pub pid: u32,
    /// Its complaints. The writing end never blocks: when nobody reads any
    /// more, they are dropped.
    pub stderr: OwnedFd,
}

/// Starts it. When this returns an error, no process is left. Blocks shortly.
pub fn launch(launch: Launch) -> io::Result<Launched> {
    let (mut pid_reader, pid_writer) = io::pipe()?;
    let (stderr_reader, stderr_writer) = io::pipe()?;
    let stderr_writer = OwnedFd::from(stderr_writer);
    rustix::fs::fcntl_setfl(&stderr_writer, rustix::fs::OFlags::NONBLOCK)?;

    let inherited: Vec<RawFd> = launch.inherited.iter().map(AsRawFd::as_raw_fd).collect();
    let cgroups: Vec<RawFd> = launch.cgroups.iter().map(AsRawFd::as_raw_fd).collect();
    let fencer = launch.fencer.as_ref().map(Guard::new).transpose()?;
    let orders = Orders {
        pid_number: pid_writer.as_raw_fd(),
        cgroups,
        inherited,
        uid: launch.uid,
        group: launch.group,
        fencer,
    };
    let mut command = Command::new(&launch.program);
    command
        .args(&launch.arguments)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::from(stderr_writer));
    // SAFETY: `become_guest` makes only system calls on values that were
    // collected before the fork; it neither allocates nor takes locks.
    unsafe { command.pre_exec(move || orders.become_guest()) };
    // An error of the last exec comes back through here, also past two forks.
    let mut middle = command.spawn()?;
    middle.wait()?;
    // Our copies of the listening sockets must go: a client of a machine that
    // died early is to see the end of the connection.
    drop(command);
    drop(pid_writer);
    drop(launch);
    let mut pid = [0; 4];
    pid_reader.read_exact(&mut pid)?;
    Ok(Launched {
        pid: u32::from_ne_bytes(pid),
        stderr: OwnedFd::from(stderr_reader),
    })
}

/// All that the child needs, collected before the fork.
struct Orders {
    pid_number: RawFd,
    cgroups: Vec<RawFd>,
    inherited: Vec<RawFd>,
    uid: u32,
    group: Option<u32>,
    fencer: Option<Guard>,
}

/// A fencer that is ready to be started.
struct Guard {
    arguments: Vec<CString>,
    deadline: RawFd,
}

impl Guard {
    fn new(fencer: &Fencer) -> io::Result<Self> {
        if fencer.arguments.len() > FENCER_ARGUMENTS_MAX {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let text = |argument: &OsString| CString::new(argument.clone().into_vec());
        let arguments = fencer.arguments.iter().map(text);
        Ok(Self {
            arguments: arguments.collect::<Result<_, _>>()?,
            deadline: fencer.deadline.as_raw_fd(),
        })
    }

    /// In the guest's parent: becomes the fencer. When that fails, this end is
    /// the guest's end.
    fn take_over(&self, guest: libc::pid_t) -> ! {
        let mut digits = [0; 12];
        let mut arguments = [std::ptr::null(); FENCER_ARGUMENTS_MAX + 3];
        arguments[0] = c"cloud-agent".as_ptr();
        for (place, argument) in arguments[1..].iter_mut().zip(&self.arguments) {
            *place = argument.as_ptr();
        }
        arguments[1 + self.arguments.len()] = decimal(guest, &mut digits);
        let environment: [*const c_char; 1] = [std::ptr::null()];
        let words = c"this host's agent could not start the guest's fencer\n";
        // SAFETY: plain system calls; both arrays end with a null pointer, and
        // what they point to outlives them.
        unsafe {
            // What ends at the exec is all but 0 to 2: the deadline becomes 0.
            if libc::dup2(self.deadline, 0) == 0 {
                let program = c"/proc/self/exe".as_ptr();
                libc::execve(program, arguments.as_ptr(), environment.as_ptr());
            }
            libc::write(2, words.as_ptr().cast(), words.count_bytes());
            libc::_exit(1)
        }
    }
}

/// Writes a number as text, without allocating.
fn decimal(number: libc::pid_t, digits: &mut [u8; 12]) -> *const c_char {
    let mut rest = number.unsigned_abs();
    // The last byte stays zero: it ends the text.
    let mut at = digits.len() - 1;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            return digits[at..].as_ptr().cast();
        }
    }
}

impl Orders {
    /// In the child: forks again, twice for a leased guest, and prepares the
    /// last one, which goes on to exec.
    fn become_guest(&self) -> io::Result<()> {
        // SAFETY: plain system calls; buffers are on this stack and outlive them.
        unsafe {
            match libc::fork() {
                -1 => return Err(io::Error::last_os_error()),
                0 => {}
                // The fencer will tell the guest's pid: it is not born yet.
                _ if self.fencer.is_some() => libc::_exit(0),
                pid => libc::_exit(i32::from(!self.tell(pid))),
            }
            check(libc::setsid())?;
            let mut parent = None;
            if let Some(fencer) = &self.fencer {
                let this = libc::getpid();
                match libc::fork() {
                    -1 => return Err(io::Error::last_os_error()),
                    0 => parent = Some(this),
                    guest if self.tell(guest) => fencer.take_over(guest),
                    _ => libc::_exit(1),
                }
                check(libc::setsid())?;
            }
            self.settle_in()?;
            if let Some(parent) = parent {
                // Only now: a change of users takes it back.
                check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0))?;
                if libc::getppid() != parent {
                    // It died before it could take anybody along.
                    return Err(io::Error::from_raw_os_error(libc::ESRCH));
                }
            }
        }
        Ok(())
    }

    fn tell(&self, pid: libc::pid_t) -> bool {
        let bytes = pid.to_ne_bytes();
        // SAFETY: reads a buffer on this stack.
        let told = unsafe { libc::write(self.pid_number, bytes.as_ptr().cast(), bytes.len()) };
        told == bytes.len().cast_signed()
    }

    /// Cgroup, limits, descriptors, user.
    fn settle_in(&self) -> io::Result<()> {
        let uid = self.uid;
        // SAFETY: plain system calls; buffers are on this stack and outlive them.
        unsafe {
            for door in &self.cgroups {
                // `0` means: whoever writes this.
                let told = libc::write(*door, c"0".as_ptr().cast(), 1);
                if told != 1 {
                    return Err(io::Error::last_os_error());
                }
            }
            limit(libc::RLIMIT_CORE, 0)?;
            limit(libc::RLIMIT_NOFILE, OPEN_FILES_MAX)?;
            for number in &self.inherited {
                check(libc::fcntl(*number, libc::F_SETFD, 0))?;
            }
            let groups = [self.group.unwrap_or(uid)];
            check(libc::setgroups(
                usize::from(self.group.is_some()),
                groups.as_ptr(),
            ))?;
            check(libc::setresgid(uid, uid, uid))?;
            check(libc::setresuid(uid, uid, uid))?;
            check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        }
    }
}

fn check(code: libc::c_int) -> io::Result<()> {
    if code < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn limit(resource: libc::__rlimit_resource_t, value: libc::rlim_t) -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: value,
        rlim_max: value,
    };
    // SAFETY: reads one structure on this stack.
    check(unsafe { libc::setrlimit(resource, &raw const limit) })
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::host::process;

    fn start(program: &str, arguments: &[&str]) -> io::Result<Launched> {
        launch(Launch {
            program: program.into(),
            arguments: arguments.iter().map(OsString::from).collect(),
            inherited: Vec::new(),
            cgroups: Vec::new(),
            uid: 199_999,
            group: None,
            fencer: None,
        })
    }

    #[tokio::test]
    async fn the_process_is_no_child_and_has_its_own_uid() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: needs root");
            return;
        }
        let launched = start("/bin/sleep", &["60"]).expect("launched");
        let status = std::fs::read_to_string(format!("/proc/{}/status", launched.pid));
        let status = status.expect("it lives");
        assert!(status.contains("Uid:\t199999\t199999\t199999\t199999"));
        assert!(status.contains("NoNewPrivs:\t1"));
        assert!(!status.contains(&format!("PPid:\t{}\n", std::process::id())));
        let boot_id = process::boot_id().expect("boot id");
        process::kill_all(&[launched.pid], &boot_id)
            .await
            .expect("killed");
        assert!(process::run_of(launched.pid, &boot_id).is_none());
    }

    #[test]
    fn a_program_that_is_missing_is_an_error() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: needs root");
            return;
        }
        let error = start("/nonexistent/qemu", &[]).expect_err("missing");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn its_complaints_can_be_read() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: needs root");
            return;
        }
        let launched = start("/bin/ls", &["/nonexistent"]).expect("launched");
        let mut text = String::new();
        let mut stderr = std::fs::File::from(launched.stderr);
        stderr.read_to_string(&mut text).expect("read");
        assert!(text.contains("/nonexistent"), "{text}");
    }
}
