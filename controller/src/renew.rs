//! A controller renews its own certificate: it holds the CA's key, and asks
//! nobody. Also at its start, however long it was off.

use std::sync::Arc;

use nube_tls::{Identity, KeyRequest};
use tokio::time::sleep;

use crate::cell::Cell;
use crate::clock;
use crate::identity::Role;
use crate::pki::Issuer;

/// Two thirds of the life are over, or it is longer than the config now allows.
#[must_use]
pub fn is_due(identity: &Identity, issuer: &Issuer, jitter: f64) -> bool {
    let life = identity.life();
    life.is_due(clock::wall().seconds(), jitter) || life.seconds() > issuer.lifetime().as_secs()
}

/// A new key and certificate, taken into use.
pub fn renew(
    identity: &Identity,
    issuer: &Issuer,
    cluster_id: &str,
    role: Role,
    name: &str,
) -> anyhow::Result<()> {
    let request = KeyRequest::generate()?;
    let certificate = issuer.issue(cluster_id, role, name, &request.der)?;
    Ok(identity.replace(&certificate, &request.key_pem)?)
}

/// Runs for the life of the controller.
pub async fn run(cell: Arc<Cell>, identity: Arc<Identity>) {
    let jitter: f64 = rand::random();
    let mut failures = 0;
    loop {
        let life = identity.life();
        if !is_due(&identity, &cell.issuer, jitter) {
            sleep(life.look_again_after()).await;
            continue;
        }
        let (config, identity) = (cell.config.clone(), Arc::clone(&identity));
        let renewing = Arc::clone(&cell);
        // Files are synced: not on a thread that serves.
        let renewed = tokio::task::spawn_blocking(move || {
            let name = config.id.to_string();
            let issuer = &renewing.issuer;
            renew(
                &identity,
                issuer,
                &config.cluster_id,
                Role::Controller,
                &name,
            )
        });
        match renewed.await {
            Ok(Ok(())) => {
                failures = 0;
                tracing::info!("own certificate renewed");
            }
            Ok(Err(error)) => {
                failures += 1;
                tracing::error!("own certificate was not renewed, trying again: {error:#}");
            }
            Err(error) => {
                failures += 1;
                tracing::error!("own certificate was not renewed, trying again: {error}");
            }
        }
        sleep(life.retry_after(failures)).await;
    }
}
