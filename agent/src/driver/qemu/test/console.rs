//! The serial port of real machines. Their disks hold 15 bytes of program: one
//! that says what it hears, one that never stops.

use futures::StreamExt;
use nube_types::limits::SERIAL_RING_BYTES;

use super::*;
use crate::driver::ConsoleEnd;

/// Waits for a byte on COM1 and sends it back, for ever.
const ECHO: &[u8] = &[
    0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xf8, 0xba, 0xf8, 0x03, 0xec, 0xee, 0xeb, 0xf1,
];
/// Sends 0 to 255 on COM1, for ever, as fast as it can.
const FLOOD: &[u8] = &[0xba, 0xf8, 0x03, 0xee, 0xfe, 0xc0, 0xeb, 0xfb];

/// Generous: only a test that hangs meets it.
const LIMIT: Duration = Duration::from_secs(240);

fn boot_sector(directory: &Path, program: &[u8]) -> (ImageSpec, ImageFiles) {
    let (image, files) = empty_image(directory);
    let mut disk = vec![0; 1 << 20];
    disk[..program.len()].copy_from_slice(program);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    std::fs::write(&files.disk, disk).expect("disk");
    (image, files)
}

/// Types until the guest's answer holds a text; a guest that boots hears nothing.
async fn type_until(console: &mut Console, keys: &str, expected: &str) -> String {
    let mut heard = String::new();
    let talking = async {
        loop {
            console
                .input
                .send(Bytes::copy_from_slice(keys.as_bytes()))
                .await
                .expect("typed");
            let pause = tokio::time::sleep(Duration::from_secs(1));
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    bytes = console.output.next() => {
                        let bytes = bytes.expect("the console is open");
                        heard += &String::from_utf8_lossy(&bytes);
                    }
                    () = &mut pause => break,
                }
                if heard.contains(expected) {
                    return;
                }
            }
        }
    };
    let talked = tokio::time::timeout(LIMIT, talking).await;
    talked.unwrap_or_else(|_| panic!("no {expected:?} in {heard:?}"));
    heard
}

/// Follows until the log ends with a text.
async fn wait_for(log: &mut BoxStream<'static, Bytes>, expected: &str) -> Vec<u8> {
    let mut read = Vec::new();
    let reading = async {
        while !read.ends_with(expected.as_bytes()) {
            read.extend(log.next().await.expect("the log goes on"));
        }
    };
    let done = tokio::time::timeout(LIMIT, reading).await.is_ok();
    assert!(
        done,
        "no {expected:?}: {:?}",
        String::from_utf8_lossy(&read)
    );
    read
}

/// Makes the guest print while no agent is there to log it.
async fn echo_without_an_agent(directory: &Directory, text: &[u8]) {
    use tokio::io::AsyncWriteExt;
    let stream = socket::connect(directory.path(), socket::SERIAL).await;
    let mut stream = stream.expect("connected");
    stream.write_all(text).await.expect("typed");
    let mut echo = vec![0; text.len()];
    stream.read_exact(&mut echo).await.expect("echoed");
    assert_eq!(echo, text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_console_and_the_log_outlive_the_agent_without_a_gap() {
    let Some(bench) = Bench::new(6) else { return };
    let (image, files) = boot_sector(bench.directory.path(), ECHO);
    let spec = spec(1, image);
    let id = spec.instance;
    let driver = bench.driver();
    driver.prepare(&spec, &files).await.expect("prepared");
    let refused = driver.console(id).await.err().expect("it does not run");
    assert!(refused.to_string().contains("does not run"), "{refused}");
    let run = driver.start(id).await.expect("started");

    let mut first = driver.console(id).await.expect("console");
    type_until(&mut first, "ping\n", "ping\n").await;
    let mut second = driver.console(id).await.expect("console");
    assert_eq!(first.ended.await, ConsoleEnd::TakenOver);
    let mut log = driver.follow_log(id, 0).await.expect("log");
    type_until(&mut second, "<taken over>", "<taken over>").await;
    wait_for(&mut log, "<taken over>").await;

    // The agent goes; what is printed now is in the log of the next one.
    let before = driver.serial_log(id, 1 << 20).await.expect("log");
    drop((driver, second, log));
    let directory = Directory::of(&bench.config.instances_dir, id);
    echo_without_an_agent(&directory, b"<nobody is there>").await;
    let driver = bench.driver();
    let (found, _) = driver.recover().await.expect("recovered");
    assert_eq!(found, vec![Recovered::Running(Box::new(spec), run)]);
    let mut log = driver.follow_log(id, 1 << 20).await.expect("log");
    let mut console = driver.console(id).await.expect("console");
    type_until(&mut console, "<back>", "<back>").await;
    let after = wait_for(&mut log, "<back>").await;
    let between = after.strip_prefix(before.as_slice()).expect("all is kept");
    let between = String::from_utf8_lossy(between);
    assert!(between.ends_with("<nobody is there><back>"), "{between:?}");
    assert!(!between.contains("cloud-agent"), "{between:?}");

    driver.power_cut(id).await.expect("cut");
    assert_eq!(console.ended.await, ConsoleEnd::Stopped);
    driver.start(id).await.expect("started again");
    let mut console = driver.console(id).await.expect("console");
    type_until(&mut console, "<again>", "<again>").await;
    // The follower of the run before sees the next one.
    wait_for(&mut log, "<again>").await;
    driver.remove(id).await.expect("removed");
    assert!(matches!(
        console.ended.await,
        ConsoleEnd::Stopped | ConsoleEnd::Removed
    ));
    assert_eq!(log.next().await, None);
    assert_eq!(bench.leftovers().await, Vec::<String>::new());
}

/// Bytes of memory behind the machine's kept output.
fn kept_bytes(run: &Run) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(format!("/proc/{}/fd", run.pid)).expect("descriptors");
    let paths = entries.map(|entry| entry.expect("entry").path());
    let is_log = |path: &PathBuf| {
        std::fs::read_link(path).is_ok_and(|to| to.to_string_lossy().contains("nube-serial"))
    };
    let path = paths.into_iter().find(is_log).expect("a log");
    std::fs::metadata(path).expect("metadata").blocks() * 512
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_stays_small_with_and_without_an_agent() {
    let Some(bench) = Bench::new(7) else { return };
    let (image, files) = boot_sector(bench.directory.path(), FLOOD);
    let spec = spec(1, image);
    let id = spec.instance;
    let driver = bench.driver();
    driver.prepare(&spec, &files).await.expect("prepared");
    let run = driver.start(id).await.expect("started");
    // Two who do not read: neither the log nor each other waits for them.
    let _slow_console = driver.console(id).await.expect("console");
    let _slow_log = driver.follow_log(id, 0).await.expect("log");
    let mut log = driver.follow_log(id, 0).await.expect("log");
    let mut read = 0;
    let reading = async {
        while read < SERIAL_RING_BYTES + SERIAL_RING_BYTES / 4 {
            read += log.next().await.expect("it goes on").len() as u64;
            assert!(kept_bytes(&run) <= SERIAL_RING_BYTES + 8192);
        }
    };
    let began = Instant::now();
    tokio::time::timeout(LIMIT, reading).await.expect("read");
    println!("flood: {read} bytes in {:?}", began.elapsed());
    assert!(driver.serial_log(id, u64::MAX).await.expect("log").len() as u64 <= SERIAL_RING_BYTES);

    drop((driver, log));
    let full = async {
        while kept_bytes(&run) < SERIAL_RING_BYTES {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LIMIT, full).await.expect("full");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(kept_bytes(&run) <= SERIAL_RING_BYTES + 8192);
    let driver = bench.driver();
    driver.recover().await.expect("recovered");
    let mut log = driver.follow_log(id, SERIAL_RING_BYTES).await.expect("log");
    let said = async {
        let mut seen = Vec::new();
        let note = b"cloud-agent was away for too long";
        while !seen.windows(note.len()).any(|part| part == note) {
            seen.extend(log.next().await.expect("it goes on"));
        }
    };
    tokio::time::timeout(LIMIT, said)
        .await
        .expect("a line says so");
    driver.remove(id).await.expect("removed");
    assert_eq!(bench.leftovers().await, Vec::<String>::new());
}

/// Of the micro image: press Enter, be root.
pub async fn a_root_shell_answers(driver: &QemuDriver, instance: InstanceId) {
    let mut console = driver.console(instance).await.expect("console");
    let heard = type_until(&mut console, "\necho $((6*7))-$(id -u)\n", "42-0").await;
    println!("on the console: {heard:?}");
    type_until(&mut console, "exit\n", "press Enter").await;
}
