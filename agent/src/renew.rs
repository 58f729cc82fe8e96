//! Renews this node's certificate while it is still believed: a new key, a
//! request over an open connection, and the answer taken into use. A node whose
//! certificate has expired cannot ask any more and has to join again; its
//! guests go on.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nube_proto::v1::RenewCertificateRequest;
use nube_proto::v1::join_service_client::JoinServiceClient;
use nube_tls::{Identity, KeyRequest, Life};

use crate::session::blobs::Controllers;

/// An answer needs one read of the cluster.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs for the life of the agent.
pub async fn run(identity: Arc<Identity>, controllers: Controllers) {
    let jitter: f64 = rand::random();
    let mut failures = 0_u32;
    loop {
        let life = identity.life();
        if !life.is_due(now_s(), jitter) {
            tokio::time::sleep(life.look_again_after()).await;
            continue;
        }
        match renew(&identity, &controllers).await {
            Ok(()) => {
                failures = 0;
                tracing::info!("this node's certificate is renewed");
            }
            Err(cause) => {
                complain(&life, failures, &cause);
                failures = failures.saturating_add(1);
                tokio::time::sleep(life.retry_after(failures)).await;
            }
        }
    }
}

/// The same trouble once, and once more when it is too late.
fn complain(life: &Life, failures: u32, cause: &str) {
    let left = life.left(now_s());
    if left.is_zero() {
        if failures.is_multiple_of(60) {
            tracing::error!(
                cause,
                "this node's certificate has expired; it has to join again"
            );
        }
    } else if failures == 0 {
        tracing::warn!(cause, ?left, "this node's certificate is not renewed yet");
    }
}

/// Asks connected controllers in turn; any of them can answer.
async fn renew(identity: &Arc<Identity>, controllers: &Controllers) -> Result<(), String> {
    let mut last = "no controller is connected".to_owned();
    for (link, channel) in controllers.connected_now() {
        let request = KeyRequest::generate().map_err(|error| error.to_string())?;
        let message = RenewCertificateRequest {
            certificate_signing_request: request.der.into(),
        };
        let mut client = JoinServiceClient::new(channel);
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, client.renew_certificate(message)).await;
        let certificate = match answer {
            Ok(Ok(answer)) => answer.into_inner().certificate,
            Ok(Err(status)) => {
                last = format!("controller {link}: {}", status.message().escape_debug());
                continue;
            }
            Err(_) => {
                last = format!("controller {link}: no answer in time");
                continue;
            }
        };
        let identity = Arc::clone(identity);
        // Files are synced: not on a thread that serves.
        let replaced =
            tokio::task::spawn_blocking(move || identity.replace(&certificate, &request.key_pem));
        return match replaced.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(crate::log::chain(&error)),
            Err(error) => Err(error.to_string()),
        };
    }
    Err(last)
}

fn now_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}
