//! Points of a program at which a test may end its process, as a crash would:
//! beside each durable step. `NUBE_FAILPOINT=POINT@VISIT` ends the process at the
//! VISITth visit of POINT. Only where debug assertions are: a release build has
//! neither the points nor the look at the environment, so this is no feature flag.

/// The variable that names point and visit.
pub const SWITCH: &str = "NUBE_FAILPOINT";

/// A point; names are words with hyphens.
#[inline]
pub fn reach(point: &'static str) {
    #[cfg(debug_assertions)]
    armed::reach(point);
    #[cfg(not(debug_assertions))]
    let _ = point;
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// What the environment asked for when the first point was reached.
    struct Armed {
        point: String,
        visit: u64,
        visits: AtomicU64,
    }

    static ARMED: LazyLock<Option<Armed>> = LazyLock::new(|| {
        let text = std::env::var(super::SWITCH).ok()?;
        let (point, visit) = parse(&text)?;
        Some(Armed {
            point: point.to_owned(),
            visit,
            visits: AtomicU64::new(0),
        })
    });

    pub(super) fn parse(text: &str) -> Option<(&str, u64)> {
        let (point, visit) = text.split_once('@')?;
        let visit = visit.parse().ok().filter(|visit| *visit > 0)?;
        (!point.is_empty()).then_some((point, visit))
    }

    pub(super) fn reach(point: &'static str) {
        let Some(armed) = ARMED.as_ref().filter(|armed| armed.point == point) else {
            return;
        };
        if armed.visits.fetch_add(1, Ordering::Relaxed) + 1 == armed.visit {
            eprintln!("failpoint {point}, visit {}: the process ends", armed.visit);
            std::process::abort();
        }
    }
}

#[cfg(all(test, debug_assertions))]
mod test {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn only_a_point_and_a_visit_arm() {
        assert_eq!(armed::parse("log-sync@3"), Some(("log-sync", 3)));
        for bad in ["", "log-sync", "log-sync@", "log-sync@0", "@1", "a@x"] {
            assert_eq!(armed::parse(bad), None, "{bad}");
        }
    }

    const CHILD: &str = "NUBE_TEST_FAILPOINT_CHILD";

    #[test]
    fn the_process_ends_at_the_visit_that_was_asked_for() {
        if std::env::var_os(CHILD).is_some() {
            for visit in 1..=5 {
                reach("other");
                reach("here");
                println!("passed {visit}");
            }
            return;
        }
        let run = |switch: &str| {
            let exe = std::env::current_exe().expect("own path");
            let test = "test::the_process_ends_at_the_visit_that_was_asked_for";
            let mut child = Command::new(exe);
            child.args(["--exact", test, "--nocapture"]);
            child.env(CHILD, "1").env(SWITCH, switch);
            child.output().expect("runs")
        };
        let ended = run("here@3");
        assert_eq!(ended.status.signal(), Some(6), "aborted");
        let said = String::from_utf8_lossy(&ended.stdout);
        assert!(
            said.contains("passed 2") && !said.contains("passed 3"),
            "{said}"
        );
        assert!(run("nowhere@1").status.success());
    }
}
