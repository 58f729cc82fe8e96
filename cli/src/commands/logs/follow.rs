//! `logs --follow`: through the death of controllers and hosts' agents, without
//! repeating what was printed.
//!
//! A log has no positions on the wire. After a lost connection the newest 64 KiB
//! are read again, and the last bytes that were printed are looked for in them:
//! what comes behind is new.

use std::io::Write;
use std::time::Duration;

use nube_proto::v1::ReadSerialLogRequest;
use nube_proto::v1::instance_service_client::InstanceServiceClient;

use super::plain::Plain;
use crate::args::instance::Logs;
use crate::client::{Client, is_lost};
use crate::error::{Context, Error, Exit, Result};

/// Read again after a lost connection; comes in one message.
const RESUME_BYTES: u64 = 64 * 1024;
/// Remembered of what was printed: enough to be found again and no other place.
const TAIL_BYTES: usize = 1024;
/// A controller that ends each stream at once must not be asked in a tight loop.
const REOPEN_PAUSE: Duration = Duration::from_millis(200);

/// Until Ctrl-C, the end of the reader or of the instance.
pub async fn run(client: &Client, args: Logs) -> Result<()> {
    tokio::select! {
        followed = follow(client, args) => followed,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

async fn follow(client: &Client, args: Logs) -> Result<()> {
    let mut filter = (!args.raw).then(Plain::default);
    let mut request = ReadSerialLogRequest {
        instance: args.instance,
        bytes_max: args.bytes,
        follow: true,
    };
    let mut tail = Tail::default();
    let mut resumes = false;
    loop {
        let open = |channel| {
            let request = request.clone();
            async move {
                InstanceServiceClient::new(channel)
                    .read_serial_log(request)
                    .await
            }
        };
        let mut stream = match client.call("logs", open).await {
            Err(error) if resumes && error.exit() == Exit::NotFound => return Ok(()),
            opened => opened?,
        };
        loop {
            let data = match stream.message().await {
                Ok(Some(chunk)) => chunk.data,
                Ok(None) => return Ok(()),
                Err(status) if is_lost(&status) => break,
                Err(status) => return Err(Error::from_status("logs", &status)),
            };
            let fresh = match std::mem::take(&mut resumes) {
                true => tail.after(&data),
                false => &data,
            };
            tail.push(fresh);
            let printed = match &mut filter {
                Some(filter) => print(filter.feed(fresh).as_bytes()),
                None => print(fresh),
            };
            if !printed? {
                return Ok(());
            }
        }
        resumes = true;
        request.bytes_max = RESUME_BYTES;
        tokio::time::sleep(REOPEN_PAUSE).await;
    }
}

/// False when nobody reads any more (`| head`).
fn print(bytes: &[u8]) -> Result<bool> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("standard output"),
    }
}

/// The last bytes that were printed.
#[derive(Debug, Default)]
struct Tail(Vec<u8>);

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        let start = bytes.len().saturating_sub(TAIL_BYTES);
        self.0.extend_from_slice(&bytes[start..]);
        let surplus = self.0.len().saturating_sub(TAIL_BYTES);
        self.0.drain(..surplus);
    }

    /// What of a log's newest bytes was not printed yet.
    fn after<'a>(&self, newest: &'a [u8]) -> &'a [u8] {
        if self.0.is_empty() {
            return newest;
        }
        let places = newest.windows(self.0.len());
        match places.into_iter().rposition(|place| place == self.0) {
            Some(start) => &newest[start + self.0.len()..],
            None => {
                eprintln!(
                    "logs: the connection was lost for long: some lines may be missing or \
                     come twice"
                );
                newest
            }
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn what_was_printed_is_found_again() {
        let mut tail = Tail::default();
        assert_eq!(tail.after(b"all is new"), b"all is new");
        tail.push(b"boot\nlogin: ");
        assert_eq!(tail.after(b"boot\nlogin: "), b"");
        assert_eq!(tail.after(b"old boot\nlogin: root\n"), b"root\n");
        assert_eq!(tail.after(b"elsewhere"), b"elsewhere");
        let long: Vec<u8> = (0..5_000_u32).flat_map(u32::to_le_bytes).collect();
        tail.push(&long);
        assert_eq!(tail.0.len(), TAIL_BYTES);
        let newest = [&long[9_000..], b"more"].concat();
        assert_eq!(tail.after(&newest), b"more");
    }
}
