//! A real machine under a fencer: it is found again by the next agent, lives
//! while its lease is prolonged, and ends with it.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::fencer::{self, Deadline};
use crate::host::clock::boot_time_ms;

/// Far above what a busy machine needs between two looks.
const LEASE_MS: u64 = 8_000;

/// An agent's hub and core, as far as a fencer can tell.
fn prolong(deadline: Arc<Deadline>) -> Arc<AtomicBool> {
    let goes_on = Arc::new(AtomicBool::new(true));
    let asked = Arc::clone(&goes_on);
    // A thread: what the runtime waits for must not end a lease.
    std::thread::spawn(move || {
        while asked.load(Ordering::Acquire) {
            deadline
                .prolong(boot_time_ms() + LEASE_MS)
                .expect("prolonged");
            std::thread::sleep(Duration::from_millis(200));
        }
    });
    goes_on
}

#[tokio::test]
async fn a_leased_machine_is_adopted_and_ends_with_the_lease() {
    let Some(mut bench) = Bench::new(13) else {
        return;
    };
    let deadline = Arc::new(Deadline::open(bench.directory.path(), "test").expect("deadline"));
    bench.config.fence = Some(Fence {
        deadline: deadline.path().to_owned(),
        arguments: fencer::test::arguments(),
    });
    deadline
        .prolong(boot_time_ms() + LEASE_MS)
        .expect("prolonged");
    let granted = prolong(Arc::clone(&deadline));
    let (image, files) = empty_image(bench.directory.path());
    let guest = GuestSpec {
        leased: true,
        ..spec(1, image)
    };
    let driver = bench.driver();
    driver.prepare(&guest, &files).await.expect("prepared");
    let run = driver.start(guest.instance).await.expect("started");
    let program = std::fs::read_link(format!("/proc/{}/exe", run.pid)).expect("it runs");
    assert!(
        program.to_string_lossy().contains("qemu"),
        "the run is the machine's, not its fencer's: {program:?}"
    );
    let fencer = fencer::test::fencer_of(run.pid);
    let cgroups = Cgroups::detect(bench.config.node.hex()).expect("cgroups");
    let inside = cgroups.processes(&guest.instance.hex());
    assert!(
        !inside.contains(&fencer),
        "a throttled guest must not throttle its fencer"
    );

    // The agent is replaced; the lease goes on.
    drop(driver);
    let driver = bench.driver();
    let mut ends = driver.ended();
    let (found, unexplained) = driver.recover().await.expect("looked");
    assert_eq!(
        found,
        [Recovered::Running(Box::new(guest.clone()), run.clone())]
    );
    assert_eq!(unexplained, Vec::<String>::new());
    let more_than_a_lease_ms = boot_time_ms() + LEASE_MS * 5 / 4;
    while boot_time_ms() < more_than_a_lease_ms {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(process::is_alive(&run, &run.host_boot_id), "prolonged");
    }

    granted.store(false, Ordering::Release);
    let ended = next_end(&mut ends).await;
    assert!(boot_time_ms() >= deadline.read(), "not before the deadline");
    assert_eq!(ended.run, run);
    assert!(matches!(ended.exit, GuestExit::Crashed(_)), "{ended:?}");
    // Nothing starts on a lease that is over, or not for long.
    if driver.start(guest.instance).await.is_ok() {
        next_end(&mut ends).await;
    }
    driver.remove(guest.instance).await.expect("removed");
    drop(driver);
    assert_eq!(bench.leftovers().await, Vec::<String>::new());
}

#[tokio::test]
async fn without_a_fencer_no_leased_machine_starts() {
    let Some(bench) = Bench::new(14) else {
        return;
    };
    let (image, files) = empty_image(bench.directory.path());
    let guest = GuestSpec {
        leased: true,
        ..spec(1, image)
    };
    let driver = bench.driver();
    driver.prepare(&guest, &files).await.expect("prepared");
    let error = driver.start(guest.instance).await.expect_err("refused");
    assert!(error.to_string().contains("fencer"), "{error}");
    driver.remove(guest.instance).await.expect("removed");
}
