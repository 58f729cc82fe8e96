//! `logs`: the guest's serial console, made safe for the reader's terminal.

mod follow;
pub mod plain;

use nube_proto::v1::ReadSerialLogRequest;
use nube_proto::v1::instance_service_client::InstanceServiceClient;

use super::App;
use crate::args::instance::Logs;
use crate::error::Result;
use crate::output;

/// `logs`.
pub async fn run(app: &App, args: Logs) -> Result<()> {
    let client = app.client()?;
    if args.follow {
        return follow::run(&client, args).await;
    }
    let request = ReadSerialLogRequest {
        instance: args.instance,
        bytes_max: args.bytes,
        follow: false,
    };
    // Read to the end within one attempt: a log that broke off in the middle is
    // fetched anew, not printed twice.
    let read = |channel| {
        let request = request.clone();
        async move {
            let mut client = InstanceServiceClient::new(channel);
            let mut stream = client.read_serial_log(request).await?.into_inner();
            let mut bytes = Vec::new();
            while let Some(chunk) = stream.message().await? {
                bytes.extend_from_slice(&chunk.data);
                if bytes.len() as u64 > 2 * nube_types::limits::SERIAL_RING_BYTES {
                    return Err(tonic::Status::out_of_range("the log does not end"));
                }
            }
            Ok(tonic::Response::new(bytes))
        }
    };
    let bytes: Vec<u8> = client.call("logs", read).await?;
    if bytes.is_empty() {
        eprintln!("the serial log is empty so far");
        return Ok(());
    }
    if args.raw {
        return output::print_bytes(&bytes);
    }
    output::print(&plain::plain(&bytes))
}
