//! What QEMU writes to its standard error: kept short, made harmless, and told
//! as the reason when the machine died.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// Kept of it: the end says why.
const BYTES_MAX: usize = 2048;
/// Shown of it: reasons are one paragraph.
const CHARS_MAX: usize = 300;
/// A process that has ended has written all; its pipe only has to be emptied.
const DEADLINE: Duration = Duration::from_millis(500);

/// The newest complaints of one machine process.
#[derive(Debug, Clone, Default)]
pub struct Complaints(Arc<Mutex<Vec<u8>>>);

impl Complaints {
    /// Reads until the process ends.
    pub async fn listen(self, stderr: OwnedFd) {
        let nonblocking = rustix::fs::OFlags::NONBLOCK;
        if rustix::fs::fcntl_setfl(&stderr, nonblocking).is_err() {
            return;
        }
        let Ok(mut pipe) = pipe::Receiver::from_owned_fd(stderr) else {
            return;
        };
        let mut chunk = [0; 512];
        while let Ok(count @ 1..) = pipe.read(&mut chunk).await {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            kept.extend_from_slice(&chunk[..count]);
            let surplus = kept.len().saturating_sub(BYTES_MAX);
            kept.drain(..surplus);
        }
    }

    /// As one printable line; empty when there were none.
    #[must_use]
    pub fn text(&self) -> String {
        printable(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Why a machine that has ended already did so.
pub async fn last(stderr: OwnedFd) -> String {
    let complaints = Complaints::default();
    // Late complaints are lost, not waited for.
    let _ = tokio::time::timeout(DEADLINE, complaints.clone().listen(stderr)).await;
    complaints.text()
}

/// QEMU's words may carry what a guest wrote: one line of plain characters.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let words: Vec<&str> = text.split_whitespace().collect();
    let plain = |c: char| match c {
        ' '..='~' => c,
        _ => '?',
    };
    words.join(" ").chars().map(plain).take(CHARS_MAX).collect()
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn complaints_become_one_harmless_line() {
        let text = printable("qemu: \x1b[31mbad\x07\n \u{202e}thing\n".as_bytes());
        assert_eq!(text, "qemu: ?[31mbad? ?thing");
        assert_eq!(printable(&[b'x'; 1000]).len(), CHARS_MAX);
    }
}
