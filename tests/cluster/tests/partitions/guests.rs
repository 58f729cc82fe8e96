//! Real guests that say who they are: a beacon on the serial port, once a second,
//! with the number of the boot and a count. Two lives of one instance would be
//! seen (C1), and so would a reboot (C12).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use nube_harness::lab::{Lab, ZONE_REAL};
use nube_harness::{Process, eventually, machines};

/// Installs the beacon and starts it: user-data runs once, the beacon at each
/// boot.
const USER_DATA: &str = r#"#!/bin/sh
cat >/usr/lib/nube/beacon <<'END'
#!/bin/sh
read -r boot </proc/sys/kernel/random/boot_id
count=0
while :; do
	echo "beacon $boot $count $(date +%s)" >/dev/console
	count=$((count + 1))
	sleep 1
done
END
chmod 0755 /usr/lib/nube/beacon
echo '::respawn:/usr/lib/nube/beacon' >>/etc/inittab
sync
kill -HUP 1
"#;

const PATIENCE: Duration = Duration::from_secs(40);
const LOOK: Duration = Duration::from_millis(150);

/// One boot of one instance, as its beacons tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    pub boot: String,
    pub first_s: u64,
    pub last_s: u64,
    pub count: u64,
}

/// One guest of the test.
#[derive(Debug, Clone)]
pub struct Guest {
    pub name: String,
    pub id: String,
    pub host: String,
}

/// Launches a guest in the zone of real hosts and waits for its first beacon.
pub fn launch(lab: &Lab, name: &str, flags: &[&str]) -> anyhow::Result<Guest> {
    let script = lab.scratch().join("beacon.sh");
    std::fs::write(&script, USER_DATA)?;
    let script = script.to_str().context("a UTF-8 path")?;
    let launch = ["launch", "micro", "--name", name, "--zone", ZONE_REAL];
    let rest = ["--user-data", script, "--wait", "running"];
    lab.ctl(&[&launch[..], &rest, flags].concat())?;
    let shown = lab.json(&["show", name])?;
    let text = |key: &str| Ok::<_, anyhow::Error>(shown[key].as_str().context("text")?.to_owned());
    let guest = Guest {
        name: name.to_owned(),
        id: text("id")?,
        host: text("node_name")?,
    };
    eventually(&format!("{name} sends beacons"), PATIENCE, || {
        let lives = guest.lives(lab)?;
        let said = || guest.serial(lab, &guest.host);
        lives.first().map(|_| ()).with_context(said)
    })?;
    Ok(guest)
}

/// The same on one of the hosts: the others are closed meanwhile.
pub fn launch_on(lab: &Lab, name: &str, host: &str) -> anyhow::Result<Guest> {
    let others: Vec<String> = lab.real_hosts().into_iter().filter(|h| h != host).collect();
    for other in &others {
        lab.ctl(&["node", "drain", other])?;
    }
    let guest = launch(lab, name, &[]);
    for other in &others {
        lab.ctl(&["node", "uncordon", other])?;
    }
    guest
}

impl Guest {
    /// Its lives on the host it was launched on, from the host's serial log.
    pub fn lives(&self, lab: &Lab) -> anyhow::Result<Vec<Life>> {
        self.lives_on(lab, &self.host)
    }

    /// Its lives on one host.
    pub fn lives_on(&self, lab: &Lab, host: &str) -> anyhow::Result<Vec<Life>> {
        let text = self.serial(lab, host);
        lives(&text).map_err(|why| anyhow::anyhow!("{}: {why}", self.name))
    }

    /// What it printed, as the host keeps it.
    fn serial(&self, lab: &Lab, host: &str) -> String {
        let hex = self.id.trim_start_matches("i-");
        let dir = lab.dir(host).join("data/instances").join(hex);
        let mut text = String::new();
        for file in ["serial.log.1", "serial.log"] {
            let bytes = std::fs::read(dir.join(file)).unwrap_or_default();
            text.push_str(&String::from_utf8_lossy(&bytes));
        }
        text
    }

    /// C12: it is in its first life, without a gap, and lives now.
    pub fn runs_on(&self, lab: &Lab, since: &Life) -> anyhow::Result<Life> {
        eventually("the guest goes on", PATIENCE, || {
            let lives = self.lives(lab)?;
            anyhow::ensure!(lives.len() == 1, "C12: {} lives: {lives:?}", lives.len());
            let life = lives.into_iter().next().context("one")?;
            anyhow::ensure!(life.boot == since.boot, "C12: another life: {life:?}");
            anyhow::ensure!(life.count > since.count, "no beacon since {since:?}");
            Ok(life)
        })
    }
}

/// The lives in a serial log, in order; a gap in one is an error that shows what
/// was printed there.
pub fn lives(text: &str) -> Result<Vec<Life>, String> {
    let mut lives: Vec<Life> = Vec::new();
    let mut between = Vec::new();
    for line in text.split('\n') {
        let next = lives
            .last()
            .map(|life| (life.boot.as_str(), life.count + 1));
        // Neither is torn by another writer at the boot, or not yet whole.
        let Some((boot, count, at_s)) = beacon(line).or_else(|| doubled(line, next?)) else {
            between.push(line);
            continue;
        };
        match lives.last_mut().filter(|life| life.boot == *boot) {
            Some(life) if count == life.count + 1 => {
                life.count = count;
                life.last_s = at_s;
            }
            Some(life) => {
                return Err(format!(
                    "beacon {count} after {life:?}, between: {between:?}"
                ));
            }
            None => lives.push(Life {
                boot,
                first_s: at_s,
                last_s: at_s,
                count,
            }),
        }
        between.clear();
    }
    Ok(lives)
}

fn beacon(line: &str) -> Option<(String, u64, u64)> {
    const BOOT_ID_BYTES: usize = 36;
    let mut words = line.strip_suffix('\r')?.strip_prefix("beacon ")?.split(' ');
    let boot = words.next().filter(|boot| boot.len() == BOOT_ID_BYTES)?;
    let count = words.next()?.parse().ok()?;
    let at_s = words.next()?.parse().ok()?;
    words
        .next()
        .is_none()
        .then(|| (boot.to_owned(), count, at_s))
}

/// The beacon that is due, with one byte twice: QEMU logs a byte again each time
/// that nobody took it from its socket, as when an agent stands still.
fn doubled(line: &str, due: (&str, u64)) -> Option<(String, u64, u64)> {
    let bytes = line.as_bytes();
    let twice = (1..bytes.len()).filter(|at| bytes[*at] == bytes[at - 1]);
    let once = twice.filter_map(|at| {
        let rest = [&bytes[..at], &bytes[at + 1..]].concat();
        beacon(&String::from_utf8(rest).ok()?)
    });
    once.into_iter()
        .find(|(boot, count, _)| (boot.as_str(), *count) == due)
}

/// Looks all the time at which machines run on this computer: one instance has
/// at most one machine process at any moment, on whatever host.
pub struct Trace {
    over: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    looker: Option<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    /// Every process an instance ever had.
    ever: BTreeMap<String, Vec<Process>>,
    doubled: Option<String>,
    looks: u64,
}

impl Trace {
    pub fn start() -> Self {
        let (over, seen) = (
            Arc::new(AtomicBool::new(false)),
            Arc::<Mutex<Seen>>::default(),
        );
        let (done, into) = (Arc::clone(&over), Arc::clone(&seen));
        let looker = std::thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                let now = machines();
                into.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .look(now);
                std::thread::sleep(LOOK);
            }
        });
        Self {
            over,
            seen,
            looker: Some(looker),
        }
    }

    /// C1, and how often it was looked at.
    pub fn verdict(&self) -> anyhow::Result<u64> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match &seen.doubled {
            Some(doubled) => anyhow::bail!("C1: {doubled}"),
            None => Ok(seen.looks),
        }
    }

    /// How many machine processes an instance has had.
    pub fn processes_of(&self, id: &str) -> usize {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.ever.get(id).map_or(0, Vec::len)
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if self
            .looker
            .take()
            .is_some_and(|looker| looker.join().is_err())
        {
            eprintln!("the trace of machines panicked");
        }
    }
}

impl Seen {
    fn look(&mut self, now: Vec<(String, Process)>) {
        self.looks += 1;
        let mut running = BTreeSet::new();
        for (instance, process) in now {
            if !running.insert(instance.clone()) {
                let text = format!("{instance} runs twice, also as {process:?}");
                self.doubled.get_or_insert(text);
            }
            let ever = self.ever.entry(instance).or_default();
            if !ever.contains(&process) {
                ever.push(process);
            }
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    const A: &str = "aaaaaaaa-0000-4000-8000-000000000001";
    const B: &str = "bbbbbbbb-0000-4000-8000-000000000002";

    #[test]
    fn lives_are_told_apart_and_gaps_are_found() {
        let text = format!(
            "boot\r\nbeacon {A} 0 100\r\nnube: beacon x\r\nbeacon {A} 1 101\r\n\
             beacon {B} 0 200\r\nbeacon {B} 1"
        );
        let found = lives(&text).expect("no gap");
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].count, found[0].last_s), (1, 101));
        assert_eq!((found[1].count, found[1].first_s), (0, 200));
        assert!(lives(&format!("beacon {A} 0 1\r\nbeacon {A} 2 2\r\n")).is_err());
        let twice = format!("beacon {A} 0 1\r\nbeacon {A}1 1 2\r\nbeacon {A} 2 3\r\n");
        assert_eq!(lives(&twice).expect("a byte twice")[0].count, 2);
        let other = format!("beacon {A} 0 1\r\nbeacon {A} 22 2\r\n");
        assert!(lives(&other).is_err(), "not the one that is due");
        assert!(lives(&format!("beacon {A} 0 1\r\nbeacon {A} 0 2\r\n")).is_err());
    }

    #[test]
    fn an_instance_that_runs_twice_is_seen() {
        let process = |pid| Process {
            pid,
            start_ticks: 1,
        };
        let mut seen = Seen::default();
        seen.look(vec![
            ("i-1".to_owned(), process(1)),
            ("i-2".to_owned(), process(2)),
        ]);
        seen.look(vec![("i-1".to_owned(), process(3))]);
        assert!(seen.doubled.is_none(), "one after the other is no doubling");
        assert_eq!(seen.ever["i-1"].len(), 2);
        seen.look(vec![
            ("i-1".to_owned(), process(3)),
            ("i-1".to_owned(), process(4)),
        ]);
        assert!(seen.doubled.is_some());
    }
}
