//! What a fencer does all its life: wait for the deadline or for the guest's
//! end. It asks nobody, allocates nothing while it waits, and keeps what it
//! needs in memory, so that a host in trouble does not keep it from its work.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::deadline;
use crate::host::clock::boot_time_ms;

/// Ends the guest at the deadline that standard input names, or ends with it.
/// The guest is this process's child and nobody else's.
pub fn run(guest: u32) -> ExitCode {
    withdraw();
    match fence(guest) {
        Ok(()) => ExitCode::SUCCESS,
        // Nobody reads why: what counts is that this end is the guest's end.
        Err(_) => ExitCode::FAILURE,
    }
}

/// Lets go of what the guest and the agent still use, and stays in memory.
fn withdraw() {
    // SAFETY: plain system calls. Descriptors 0 to 2 are open: `spawn` made them.
    unsafe {
        // The pipe for QEMU's complaints must end with QEMU.
        libc::dup2(1, 2);
        libc::prctl(libc::PR_SET_NAME, c"nube-fencer".as_ptr());
        // Only its end and the guest's end it; its death would be the guest's.
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM] {
            libc::signal(signal, libc::SIG_IGN);
        }
        // Pages that were used once stay: a disk that hangs must not hang this.
        // What may not be locked is read again, as in any other process.
        libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT);
    }
}

fn fence(guest: u32) -> io::Result<()> {
    let pid = i32::try_from(guest).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(Errno::SRCH)?;
    // A child's pid is not given to others before its parent has collected it.
    let guest = pidfd_open(pid, PidfdFlags::empty())?;
    // SAFETY: standard input is the deadline file and is used nowhere else.
    let file = unsafe { File::from_raw_fd(0) };
    let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC)?;
    // The way to the kill is walked once while all is well.
    pidfd_probe(&guest)?;
    let ended = match wait(&guest, &file, &timer) {
        Ok(true) => true,
        // Whatever keeps it from waiting must not keep the guest alive.
        Ok(false) | Err(_) => false,
    };
    if !ended {
        pidfd_send_signal(&guest, Signal::KILL)?;
    }
    // Collects it; a guest in a stuck system call ends when that does.
    loop {
        match waitid(WaitId::PidFd(guest.as_fd()), WaitIdOptions::EXITED) {
            Err(Errno::INTR) => {}
            result => return result.map(drop).map_err(io::Error::from),
        }
    }
}

/// Returns when the guest has ended (true) or must end (false).
fn wait(guest: &OwnedFd, file: &File, timer: &OwnedFd) -> io::Result<bool> {
    loop {
        let deadline_ms = deadline::read(file)?;
        if boot_time_ms() >= deadline_ms {
            return Ok(false);
        }
        arm(timer, deadline_ms)?;
        let mut fds = [
            PollFd::new(guest, PollFlags::IN),
            PollFd::new(timer, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) if !fds[0].revents().is_empty() => return Ok(true),
            // The deadline that was known has come; there may be a later one.
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn arm(timer: &OwnedFd, at_ms: u64) -> io::Result<()> {
    let second = i64::try_from(at_ms / 1_000).unwrap_or(i64::MAX);
    let nanos = at_ms % 1_000 * 1_000_000;
    let once = Itimerspec {
        it_interval: Timespec::default(),
        it_value: Timespec {
            tv_sec: second,
            tv_nsec: nanos.cast_signed(),
        },
    };
    timerfd_settime(timer, TimerfdTimerFlags::ABSTIME, &once)?;
    Ok(())
}

fn pidfd_probe(guest: &OwnedFd) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: no signal is sent with number 0; the pointer may be null.
    let code = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            guest.as_raw_fd(),
            0,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    match code {
        0 => Ok(()),
        // Ended already: the wait sees it.
        _ if io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH) => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
