//! Real processes: this test program is also its own fencer and its own agent
//! (`act_as_…`). The guest is a `sleep` of another user.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::*;
use crate::driver::qemu::spawn::{Launch, launch};
use crate::host::clock::boot_time_ms;
use crate::host::process as processes;

/// Far above what anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How far an agent in these tests prolongs, ten times a second.
const LEASE_MS: u64 = 4_000;
/// Nobody waits for it; it only ends what a failed test leaves behind.
const FAR_MS: u64 = 300_000;
/// Tells the agent in these tests where its files are.
const DIRECTORY: &str = "NUBE_TEST_FENCER_DIRECTORY";

/// Makes this very program a fencer.
pub(crate) fn arguments() -> Vec<OsString> {
    let path = "fencer::test::act_as_fencer";
    ["--exact", "--nocapture", path].map(Into::into).to_vec()
}

/// Not a test: what `arguments` start. The pid is the last argument.
#[test]
fn act_as_fencer() {
    let last = std::env::args().next_back().expect("an argument");
    if let Ok(guest) = last.parse() {
        run(guest);
        // Not a word of a test's result to anyone.
        rustix::process::kill_process(rustix::process::getpid(), Signal::KILL).expect("killed");
    }
}

/// Not a test: an agent with one leased guest that prolongs until it is killed.
#[test]
fn act_as_agent() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let directory = Path::new(&directory);
    let deadline = Deadline::open(directory, "test").expect("open");
    let prolong = || {
        deadline
            .prolong(boot_time_ms() + LEASE_MS)
            .expect("written")
    };
    prolong();
    let guest = start(&deadline);
    let unready = directory.join("unready");
    std::fs::write(&unready, guest.to_string()).expect("write");
    std::fs::rename(unready, directory.join("guest")).expect("rename");
    loop {
        prolong();
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: needs root");
    }
    root
}

fn start(deadline: &Deadline) -> u32 {
    let file = std::fs::File::open(deadline.path()).expect("open");
    let launched = launch(Launch {
        program: "/bin/sleep".into(),
        arguments: vec!["3600".into()],
        inherited: Vec::new(),
        cgroups: Vec::new(),
        uid: 199_998,
        group: None,
        fencer: Some(Fencer {
            arguments: arguments(),
            deadline: file.into(),
        }),
    });
    launched.expect("launched").pid
}

fn lives(pid: u32) -> bool {
    processes::run_of(pid, "any").is_some()
}

fn wait(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn field(pid: u32, name: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.map(|rest| rest.trim_start_matches(':').trim().to_owned())
        .unwrap_or_default()
}

/// The guest's parent, once it has withdrawn as fencers do.
pub(crate) fn fencer_of(guest: u32) -> u32 {
    let parent = || field(guest, "PPid").parse().unwrap_or(0);
    wait("a fencer", || {
        let ignored = u64::from_str_radix(&field(parent(), "SigIgn"), 16).unwrap_or(0);
        ignored & 1 << (Signal::TERM.as_raw() - 1) != 0
    });
    parent()
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a pid");
    kill_process(pid, signal).expect("signalled");
}

fn fresh(for_ms: u64) -> (tempfile::TempDir, Deadline) {
    let dir = tempfile::tempdir().expect("dir");
    let deadline = Deadline::open(dir.path(), "test").expect("open");
    deadline.prolong(boot_time_ms() + for_ms).expect("written");
    (dir, deadline)
}

struct Agent {
    dir: tempfile::TempDir,
    process: Child,
}

impl Agent {
    fn begin() -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let path = "fencer::test::act_as_agent";
        let process = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "--nocapture", path])
            .env(DIRECTORY, dir.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("an agent");
        Self { dir, process }
    }

    fn guest(&self) -> u32 {
        let file = self.dir.path().join("guest");
        wait("a guest", || file.exists());
        let text = std::fs::read_to_string(file).expect("read");
        text.parse().expect("a pid")
    }

    /// Neither early, as the lease must carry a guest over any trouble of the
    /// agent, nor never.
    fn guest_ends_at_the_deadline(&self, guest: u32) {
        let deadline = Deadline::open(self.dir.path(), "test").expect("open");
        wait("the end of the lease", || !lives(guest));
        assert!(boot_time_ms() >= deadline.read());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_guest_lives_as_long_as_it_is_prolonged_and_outlives_a_killed_agent_to_the_deadline() {
    if !is_root() {
        return;
    }
    let mut agent = Agent::begin();
    let guest = agent.guest();
    let enough_ms = boot_time_ms() + LEASE_MS * 3 / 2;
    wait("more than a lease", || {
        assert!(lives(guest), "it was prolonged all the time");
        boot_time_ms() > enough_ms
    });
    let fencer = fencer_of(guest);
    agent.process.kill().expect("killed");
    agent.process.wait().expect("gone");
    assert!(lives(guest) && lives(fencer), "neither is the agent's");
    agent.guest_ends_at_the_deadline(guest);
    wait("the fencer's end", || !lives(fencer));
}

#[test]
fn a_stopped_agent_prolongs_nothing() {
    if !is_root() {
        return;
    }
    let agent = Agent::begin();
    let guest = agent.guest();
    signal(agent.process.id(), Signal::STOP);
    wait("it stands", || {
        field(agent.process.id(), "State").starts_with('T')
    });
    agent.guest_ends_at_the_deadline(guest);
    signal(agent.process.id(), Signal::CONT);
}

#[test]
fn a_killed_fencer_takes_its_guest_along() {
    if !is_root() {
        return;
    }
    let (_dir, deadline) = fresh(FAR_MS);
    let guest = start(&deadline);
    let fencer = fencer_of(guest);
    assert!(lives(guest));
    assert_eq!(field(guest, "Uid"), "199998\t199998\t199998\t199998");
    // Terminals and service managers do not end it.
    signal(fencer, Signal::TERM);
    signal(fencer, Signal::HUP);
    assert!(lives(fencer));
    signal(fencer, Signal::KILL);
    wait("the guest's end", || !lives(guest));
}

#[test]
fn a_guest_that_ends_lets_its_fencer_go() {
    if !is_root() {
        return;
    }
    let (_dir, deadline) = fresh(FAR_MS);
    let guest = start(&deadline);
    let fencer = fencer_of(guest);
    signal(guest, Signal::KILL);
    wait("the guest's end", || !lives(guest));
    wait("the fencer's end", || !lives(fencer));
}

#[test]
fn without_a_deadline_in_force_nothing_lives() {
    if !is_root() {
        return;
    }
    let (_dir, over) = fresh(0);
    let guest = start(&over);
    wait("the end of one that came too late", || !lives(guest));
    let (_dir, unreadable) = fresh(FAR_MS);
    std::fs::write(unreadable.path(), [0; 3]).expect("written");
    let guest = start(&unreadable);
    wait("the end of one with half a deadline", || !lives(guest));
}

/// What a fencer that cannot be started means: the guest does not live.
#[test]
fn a_fencer_that_does_not_fence_takes_its_guest_along() {
    if !is_root() {
        return;
    }
    let (_dir, deadline) = fresh(FAR_MS);
    let file = std::fs::File::open(deadline.path()).expect("open");
    // This program lists its tests and ends.
    let arguments = vec!["--list".into()];
    let launched = launch(Launch {
        program: "/bin/sleep".into(),
        arguments: vec!["3600".into()],
        inherited: Vec::new(),
        cgroups: Vec::new(),
        uid: 199_998,
        group: None,
        fencer: Some(Fencer {
            arguments,
            deadline: file.into(),
        }),
    });
    // Its end may come even before its exec, which then fails.
    if let Ok(launched) = launched {
        wait("the guest's end", || !lives(launched.pid));
    }
}

#[test]
fn a_program_that_is_missing_is_an_error_and_leaves_no_fencer() {
    if !is_root() {
        return;
    }
    let (_dir, deadline) = fresh(FAR_MS);
    let file = std::fs::File::open(deadline.path()).expect("open");
    let launched = launch(Launch {
        program: "/nonexistent/qemu".into(),
        arguments: Vec::new(),
        inherited: Vec::new(),
        cgroups: Vec::new(),
        uid: 199_998,
        group: None,
        fencer: Some(Fencer {
            arguments: arguments(),
            deadline: file.into(),
        }),
    });
    let error = launched.expect_err("missing");
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
}
