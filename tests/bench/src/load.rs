//! Closed-loop clients: the next write follows the answer.

use std::time::{Duration, Instant};

use crate::write::{Target, Writer};

/// HTTP/2 carries many calls, but one connection is one task at the server.
const CLIENTS_PER_CHANNEL: usize = 16;
/// Not counted: connections and caches get warm.
const WARM_UP: Duration = Duration::from_millis(500);

/// What came of a round.
#[derive(Default)]
pub struct Sum {
    /// Committed writes.
    pub rate: f64,
    /// Latency of each, in ms, sorted.
    pub times_ms: Vec<f64>,
    pub errors: u64,
}

impl Sum {
    /// Of the latencies; NaN without any.
    pub fn permille(&self, permille: usize) -> f64 {
        let index = self.times_ms.len().saturating_sub(1) * permille / 1000;
        self.times_ms.get(index).copied().unwrap_or(f64::NAN)
    }
}

/// `clients` clients, their connections spread over the addresses.
pub async fn run(
    target: &Target<'_>,
    addresses: &[String],
    clients: usize,
    length: Duration,
) -> anyhow::Result<Sum> {
    let count = clients
        .div_ceil(CLIENTS_PER_CHANNEL)
        .max(addresses.len().min(clients));
    let mut channels = Vec::new();
    for address in addresses.iter().cycle().take(count) {
        channels.push(target.connect(address).await?);
    }
    let begin = Instant::now() + WARM_UP;
    let end = begin + length;
    let numbered = channels.iter().cycle().take(clients).enumerate();
    let tasks: Vec<_> = numbered
        .map(|(n, channel)| tokio::spawn(client(target.writer(channel.clone(), n), begin, end)))
        .collect();
    let mut sum = Sum::default();
    for task in tasks {
        let (times_ms, errors) = task.await?;
        sum.times_ms.extend(times_ms);
        sum.errors += errors;
    }
    sum.times_ms.sort_by(f64::total_cmp);
    sum.rate = sum.times_ms.len() as f64 / length.as_secs_f64();
    Ok(sum)
}

/// Counts what was answered between the two moments.
async fn client(mut writer: Writer, begin: Instant, end: Instant) -> (Vec<f64>, u64) {
    let (mut times_ms, mut errors) = (Vec::new(), 0);
    loop {
        let asked = Instant::now();
        let answer = writer.write().await;
        let now = Instant::now();
        if now > end {
            return (times_ms, errors);
        }
        match answer {
            Ok(()) if now >= begin => times_ms.push((now - asked).as_secs_f64() * 1e3),
            Ok(()) => {}
            Err(_) => errors += 1,
        }
    }
}
