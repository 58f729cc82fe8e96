//! A hostile network against the leader of a real cloud: whatever is sent, it is
//! refused or bounded, memory stays flat, no election is lost, and a change goes
//! through meanwhile.

mod wire;

use std::time::Duration;

use anyhow::Context;
use nube_harness::{Cloud, Size};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wire::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, RST_STREAM, Raw, call, frame,
};

/// Beyond this a controller has kept what it should have refused.
const GROWTH_KIB_MAX: u64 = 64 * 1024;
const LORIS: usize = 1_000;
const STREAMS: u32 = 10_000;
const RESETS: u32 = 20_000;

struct Watchdog<'a> {
    cloud: &'a Cloud,
    term: String,
    rss_kib: Vec<u64>,
    keys: u32,
}

impl<'a> Watchdog<'a> {
    fn new(cloud: &'a Cloud) -> anyhow::Result<Self> {
        Ok(Self {
            cloud,
            term: term(cloud)?,
            rss_kib: rss_kib(cloud)?,
            keys: 0,
        })
    }

    /// A change is committed while the attack goes on.
    fn works(&mut self, during: &str) -> anyhow::Result<()> {
        self.keys += 1;
        let name = format!("during-{}", self.keys);
        self.cloud
            .ctl(&["--timeout", "20", "ssh-key", "generate", &name])
            .map(|_| ())
            .with_context(|| format!("a change during {during}"))
    }

    fn flat(&self, after: &str) -> anyhow::Result<()> {
        let now = rss_kib(self.cloud)?;
        println!(
            "{after}: VmRSS {:?} KiB, before {:?} KiB",
            now, self.rss_kib
        );
        for (before, now) in self.rss_kib.iter().zip(&now) {
            let growth = now.saturating_sub(*before);
            anyhow::ensure!(growth < GROWTH_KIB_MAX, "{after}: {growth} KiB more");
        }
        let term = term(self.cloud)?;
        anyhow::ensure!(term == self.term, "{after}: term {term}, not {}", self.term);
        Ok(())
    }
}

fn term(cloud: &Cloud) -> anyhow::Result<String> {
    let status = cloud.json(&["cluster", "status"])?;
    Ok(status["term"].as_str().context("a term")?.to_owned())
}

fn rss_kib(cloud: &Cloud) -> anyhow::Result<Vec<u64>> {
    let controllers = cloud.members().into_iter();
    let controllers = controllers.filter(|name| name.starts_with("controller"));
    controllers
        .map(|name| {
            let pid = cloud.process(&name)?.pid;
            let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
            let line = status.lines().find(|line| line.starts_with("VmRSS:"));
            let kib = line.and_then(|line| line.split_whitespace().nth(1));
            Ok(kib.context("VmRSS")?.parse()?)
        })
        .collect()
}

#[test]
fn a_hostile_network_costs_neither_memory_nor_leadership() -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let files = getrlimit(Resource::Nofile).maximum;
    let all = Rlimit {
        current: files,
        maximum: files,
    };
    setrlimit(Resource::Nofile, all)?;
    let cloud = Cloud::up_bare(Size {
        controllers: 3,
        nodes: 1,
    })?;
    let leader = u16::try_from(cloud.leader()?)?;
    let port = cloud.base_port() + leader - 1;
    let runtime = tokio::runtime::Runtime::new()?;
    let mut watchdog = Watchdog::new(&cloud)?;
    let (cell, handle) = (cloud.dir(), runtime.handle());
    let nobody = wire::tls(&cell, false)?;
    let operator = wire::tls(&cell, true)?;

    let loris = handle.spawn(slow_loris(port, nobody.clone()));
    watchdog.works("slow loris")?;
    let left = handle.block_on(loris)??;
    anyhow::ensure!(left == 0, "{left} dribbling connections are still open");
    watchdog.flat("slow loris")?;

    handle.block_on(noise(port))?;
    watchdog.works("noise")?;
    watchdog.flat("noise")?;

    let mut flood = handle.block_on(many_streams(port, operator.clone()))?;
    watchdog.works("10,000 streams")?;
    watchdog.flat("10,000 streams")?;
    // Those within the limit are still open; all others were refused.
    let refused = STREAMS as usize - 1_024;
    handle.block_on(flood.until("streams", |seen| seen.resets >= refused || seen.goaway))?;
    drop(flood);

    let attack = handle.spawn(rapid_resets(port, operator.clone()));
    watchdog.works("rapid resets")?;
    handle.block_on(attack)??;
    watchdog.flat("rapid resets")?;

    let attack = handle.spawn(huge_messages(port, operator.clone()));
    watchdog.works("huge messages")?;
    handle.block_on(attack)??;
    watchdog.flat("huge messages")?;

    handle.block_on(endless_headers(port, operator))?;
    watchdog.works("endless headers")?;
    watchdog.flat("endless headers")
}

/// A thousand connections, half of them before and half after the handshake,
/// send a byte at a time. How many the server still bears in the end.
async fn slow_loris(port: u16, tls: tokio_rustls::TlsConnector) -> anyhow::Result<usize> {
    let mut all = tokio::task::JoinSet::new();
    for number in 0..LORIS {
        let tls = tls.clone();
        all.spawn(async move {
            if number % 2 == 0 {
                let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
                // The start of a ClientHello of 16 KiB that never comes.
                return dribble(tcp, &[0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc]).await;
            }
            match wire::connect(port, &tls).await {
                Ok(stream) => dribble(stream, PREFACE).await,
                // Pushed out already: bounded as well.
                Err(_) => Ok(false),
            }
        });
    }
    let mut left = 0;
    while let Some(ended) = all.join_next().await {
        // A refused or reset connection is over, too.
        left += usize::from(matches!(ended?, Ok(true)));
    }
    Ok(left)
}

/// True when the server had not ended it after a minute of single bytes.
async fn dribble<S>(mut stream: S, start: &[u8]) -> std::io::Result<bool>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut bytes = [0; 64];
    for step in 0..120 {
        let byte = start.get(step).copied().unwrap_or(0);
        stream.write_all(&[byte]).await?;
        stream.flush().await?;
        let read = tokio::time::timeout(Duration::from_millis(500), stream.read(&mut bytes)).await;
        if let Ok(Ok(0) | Err(_)) = read {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Bytes that are no TLS, and HTTP/2 without any.
async fn noise(port: u16) -> anyhow::Result<()> {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for number in 0..200 {
        let mut tcp = TcpStream::connect(("127.0.0.1", port)).await?;
        let bytes: Vec<u8> = if number % 4 == 0 {
            [PREFACE, &call(1)].concat()
        } else {
            let mut draw = || {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                seed.to_be_bytes()[0]
            };
            std::iter::repeat_with(&mut draw).take(4_096).collect()
        };
        // It may be closed before the last byte is out.
        let _ = tcp.write_all(&bytes).await;
        let _ = tcp.shutdown().await;
        let mut answer = Vec::new();
        let read = tcp.read_to_end(&mut answer);
        let _ = tokio::time::timeout(Duration::from_secs(20), read).await?;
    }
    Ok(())
}

async fn many_streams(port: u16, tls: tokio_rustls::TlsConnector) -> anyhow::Result<Raw> {
    let connection = Raw::open(port, &tls).await?;
    for number in 0..STREAMS {
        if !connection.send(call(1 + 2 * number)).await {
            break;
        }
    }
    Ok(connection)
}

/// CVE-2023-44487: each stream is opened and reset at once.
async fn rapid_resets(port: u16, tls: tokio_rustls::TlsConnector) -> anyhow::Result<()> {
    const CANCEL: [u8; 4] = [0, 0, 0, 8];
    for _ in 0..5 {
        let mut connection = Raw::open(port, &tls).await?;
        for burst in 0..RESETS / 100 {
            let pair = |number| {
                let stream = 1 + 2 * (burst * 100 + number);
                [call(stream), frame(RST_STREAM, 0, stream, &CANCEL)].concat()
            };
            if !connection.send((0..100).flat_map(pair).collect()).await {
                break;
            }
        }
        let over = |seen: &wire::Seen| seen.goaway || seen.ended;
        connection.until("rapid resets", over).await?;
    }
    Ok(())
}

/// Messages of 1 GiB and of the largest permitted size, announced and never
/// sent whole.
async fn huge_messages(port: u16, tls: tokio_rustls::TlsConnector) -> anyhow::Result<()> {
    const GIB: u32 = 1 << 30;
    const PERMITTED: u32 = 4 << 20;
    let mut connection = Raw::open(port, &tls).await?;
    let announced = |stream, bytes: u32| {
        let mut message = vec![0];
        message.extend(bytes.to_be_bytes());
        message.resize(512, 0x0a);
        [call(stream), frame(DATA, 0, stream, &message)].concat()
    };
    for number in 0..100 {
        connection.send(announced(1 + 2 * number, GIB)).await;
    }
    // Each is answered, without a byte more.
    connection
        .until("1 GiB messages", |seen| seen.headers + seen.resets >= 100)
        .await?;
    for number in 100..1_000 {
        connection.send(announced(1 + 2 * number, PERMITTED)).await;
    }
    // A call behind them: when it is answered, they have all been read.
    let last = [
        call(2_001),
        frame(DATA, END_STREAM, 2_001, &[0, 0, 0, 0, 0]),
    ];
    connection.send(last.concat()).await;
    connection
        .until("a call behind them", |seen| seen.headers > 100)
        .await?;
    Ok(())
}

/// CVE-2024-27316: a header block that never ends.
async fn endless_headers(port: u16, tls: tokio_rustls::TlsConnector) -> anyhow::Result<()> {
    let mut connection = Raw::open(port, &tls).await?;
    let field: Vec<u8> = wire::header("x", &"y".repeat(100));
    let block = field.repeat(150);
    connection.send(frame(HEADERS, 0, 1, &block)).await;
    for _ in 0..4_096 {
        if !connection.send(frame(CONTINUATION, 0, 1, &block)).await {
            break;
        }
    }
    let _ = connection
        .send(frame(CONTINUATION, END_HEADERS, 1, &field))
        .await;
    let over = |seen: &wire::Seen| seen.goaway || seen.ended || seen.resets > 0;
    connection.until("endless headers", over).await.map(|_| ())
}
