//! What the guest printed and no agent has taken yet: a memory file that QEMU
//! writes (its chardev's `logfile`), so nothing is lost while the agent is away.
//!
//! ```text
//!  0        4096                                        4096 + 1 MiB
//!  │ mark   │ taken (holes) │ not taken │ zeros          │ sealed: no growth
//!                           ▲ mark      ▲ QEMU's offset
//! ```
//!
//! QEMU and the agent share one open file description, so its offset tells how
//! far QEMU has written, and moving it back makes room again. With no agent to
//! do that, QEMU's writes fail at the seal and the newest output is dropped:
//! memory stays flat whatever the guest prints. The mark survives the agent.
//!
//! The machine process could have been taken over by its guest: nothing that
//! is read here is trusted further than being bytes of a log.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nube_types::limits::SERIAL_RING_BYTES;
use rustix::fs::{FallocateFlags, MemfdFlags, OFlags, SealFlags, SeekFrom};
use rustix::process::PidfdGetfdFlags;

const NAME: &str = "nube-serial";
/// Data begins on a page of its own.
const START: u64 = 4096;
const END: u64 = START + SERIAL_RING_BYTES;
/// Full but for less than a page: writes fail as a whole.
const FULL: u64 = END - 4096;
/// Room is made when this much was taken: keeps the usual cost per guest low.
const REWIND_BYTES: u64 = 64 * 1024;
/// One copy.
const CHUNK_BYTES: usize = 8 * 1024;

const NOT_IN_LOG: &[u8] =
    b"\r\n[cloud-agent was away for too long: the end of that time is not in this log]\r\n";

/// The agent's hands on the memory file of one run.
#[derive(Debug)]
pub struct Kept {
    /// The description that QEMU writes through.
    shared: OwnedFd,
    /// One of our own, for reading anywhere.
    file: File,
    /// Everything before it was taken.
    mark: u64,
}

impl Kept {
    /// A fresh one, and the descriptor for QEMU (write-only: QEMU looks for
    /// exactly that in a set).
    pub fn create() -> io::Result<(Self, OwnedFd)> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(rustix::fs::memfd_create(NAME, flags)?);
        let shared = reopen(file.as_fd(), OFlags::WRONLY)?;
        rustix::fs::seek(&shared, SeekFrom::Start(START))?;
        let inherited = shared.try_clone()?;
        let kept = Self {
            shared,
            file,
            mark: START,
        };
        Ok((kept, inherited))
    }

    /// The one that a running machine process holds. `None` when it was started
    /// by an agent that knew nothing of it.
    pub fn adopt(pid: u32, pidfd: impl AsFd) -> io::Result<Option<Self>> {
        for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
            let entry = entry?;
            let is_ours = std::fs::read_link(entry.path())
                .is_ok_and(|target| target.to_string_lossy().starts_with("/memfd:nube-serial "));
            let number = entry.file_name().to_str().and_then(|n| n.parse().ok());
            let (true, Some(number)) = (is_ours, number) else {
                continue;
            };
            let flags = PidfdGetfdFlags::empty();
            let shared = rustix::process::pidfd_getfd(pidfd.as_fd(), number, flags)?;
            return Self::of(shared).map(Some);
        }
        Ok(None)
    }

    fn of(shared: OwnedFd) -> io::Result<Self> {
        // Only memory files have seals: no pipe or device got in its place.
        rustix::fs::fcntl_get_seals(&shared)?;
        let file = File::from(reopen(shared.as_fd(), OFlags::RDWR)?);
        let mut mark = [0; 8];
        // A file that nothing was printed to has no header yet.
        let mark = match file.read_exact_at(&mut mark, 0) {
            Ok(()) => u64::from_le_bytes(mark),
            Err(_) => START,
        };
        Ok(Self {
            shared,
            file,
            mark: mark.max(START),
        })
    }

    /// Fixes the size. Only after QEMU has opened its log, since that begins
    /// with cutting it to nothing; may be repeated.
    pub fn seal(&self) -> io::Result<()> {
        let seals = SealFlags::GROW | SealFlags::SHRINK;
        if rustix::fs::fcntl_get_seals(&self.file)?.contains(seals) {
            return Ok(());
        }
        self.file.set_len(END)?;
        Ok(rustix::fs::fcntl_add_seals(&self.file, seals)?)
    }

    /// Hands over all that was not taken, in small pieces, and makes room.
    pub fn take(&mut self, mut sink: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut written = self.written()?;
        // An agent died between moving the offset and the mark.
        if self.mark > written {
            self.set_mark(START)?;
        }
        let was_full = written > FULL;
        let mut chunk = [0; CHUNK_BYTES];
        while self.mark < written {
            let wanted = CHUNK_BYTES.min((written - self.mark) as usize);
            let count = self.file.read_at(&mut chunk[..wanted], self.mark)?;
            if count == 0 {
                break;
            }
            sink(&chunk[..count])?;
            self.set_mark(self.mark + count as u64)?;
            written = self.written()?;
        }
        if was_full {
            sink(NOT_IN_LOG)?;
        }
        if self.mark - START >= REWIND_BYTES {
            self.rewind(&mut sink)?;
        }
        Ok(())
    }

    fn rewind(&mut self, sink: &mut impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let before = self.mark;
        self.punch(START, before)?;
        rustix::fs::seek(&self.shared, SeekFrom::Start(START))?;
        self.set_mark(START)?;
        // What was written between the last look and the move: all beyond the
        // offset was zeros before. (Zeros that a guest prints at this very
        // moment are lost.)
        let mut late = [0; CHUNK_BYTES];
        let count = self.file.read_at(&mut late, before)?;
        if let Some(last) = late[..count].iter().rposition(|byte| *byte != 0) {
            sink(&late[..=last])?;
            self.punch(before, before + count as u64)?;
        }
        Ok(())
    }

    fn written(&self) -> io::Result<u64> {
        let offset = rustix::fs::seek(&self.shared, SeekFrom::Current(0))?;
        Ok(offset.clamp(START, END))
    }

    fn set_mark(&mut self, mark: u64) -> io::Result<()> {
        self.file.write_all_at(&mark.to_le_bytes(), 0)?;
        self.mark = mark;
        Ok(())
    }

    fn punch(&self, from: u64, to: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(&self.file, flags, from, to - from)?)
    }
}

fn reopen(file: BorrowedFd<'_>, mode: OFlags) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = mode | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?)
}

#[cfg(test)]
mod test {
    use std::io::Write;

    use super::*;

    fn all(kept: &mut Kept) -> Vec<u8> {
        let mut bytes = Vec::new();
        let sink = |part: &[u8]| {
            bytes.extend_from_slice(part);
            Ok(())
        };
        kept.take(sink).expect("taken");
        bytes
    }

    /// As QEMU does it: cut to nothing, then written.
    fn opened() -> (Kept, File) {
        let (kept, inherited) = Kept::create().expect("created");
        let machine = File::from(inherited);
        machine.set_len(0).expect("cut");
        (kept, machine)
    }

    #[test]
    fn what_is_printed_is_taken_once_over_many_rewinds() {
        let (mut kept, mut machine) = opened();
        machine.write_all(b"before the seal ").expect("printed");
        kept.seal().expect("sealed");
        kept.seal().expect("again");
        machine.write_all(b"and after").expect("printed");
        assert_eq!(all(&mut kept), b"before the seal and after");
        assert_eq!(all(&mut kept), b"");
        let printed: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 250 + 1) as u8).collect();
        let mut taken = Vec::new();
        for chunk in printed.chunks(50_000) {
            machine.write_all(chunk).expect("printed");
            taken.extend(all(&mut kept));
        }
        assert!(taken == printed);
    }

    #[test]
    fn with_nobody_there_the_first_mebibyte_is_kept_and_a_line_says_so() {
        let (mut kept, mut machine) = opened();
        kept.seal().expect("sealed");
        machine.write_all(b"taken").expect("printed");
        assert_eq!(all(&mut kept), b"taken");
        while machine.write(&[b'x'; 1000]).is_ok() {}
        assert_eq!(machine.metadata().expect("file").len(), END);
        let taken = all(&mut kept);
        assert!(taken.ends_with(NOT_IN_LOG));
        let kept_bytes = taken.len() - NOT_IN_LOG.len();
        assert!(
            kept_bytes > SERIAL_RING_BYTES as usize - 8192,
            "{kept_bytes}"
        );
        machine.write_all(b"there is room again").expect("printed");
        assert_eq!(all(&mut kept), b"there is room again");
    }

    #[tokio::test]
    async fn the_next_agent_goes_on_where_the_last_one_ended() {
        let (mut kept, mut machine) = opened();
        kept.seal().expect("sealed");
        machine.write_all(b"one").expect("printed");
        assert_eq!(all(&mut kept), b"one");
        drop(kept);
        machine.write_all(b"two").expect("printed");
        let pid = std::process::id();
        let own = rustix::process::getpid();
        let pidfd = rustix::process::pidfd_open(own, rustix::process::PidfdFlags::empty());
        let adopted = Kept::adopt(pid, pidfd.expect("pidfd")).expect("adopted");
        // Other tests of this process have theirs: any one of them will do.
        assert!(adopted.is_some());
        let mut next = Kept::of(machine.try_clone().expect("clone").into()).expect("next");
        assert_eq!(all(&mut next), b"two");
    }
}
