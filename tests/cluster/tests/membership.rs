//! Who the controllers are changes while everything runs: real processes that
//! join by token, are removed, and come back from old disks.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use nube_harness::{Cloud, Finished, Process, Size, eventually, run};
use serde_json::Value;

const SIZE: Size = Size {
    controllers: 3,
    nodes: 1,
};
/// A change of members waits for elections, snapshots and syncs on a busy disk.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a test does with one cloud.
struct Cell {
    cloud: Cloud,
}

impl Cell {
    fn up() -> anyhow::Result<Self> {
        let cloud = Cloud::up_bare(SIZE)?;
        Ok(Self { cloud })
    }

    fn address(&self, number: u16) -> String {
        format!("127.0.0.1:{}", self.cloud.base_port() + number - 1)
    }

    /// The underlay address, as agents reach a controller.
    fn listen(&self, number: u16) -> anyhow::Result<Vec<String>> {
        let text = std::fs::read_to_string(self.cloud.dir().join("nube.cell"))?;
        let line = text.lines().find(|line| line.starts_with("subnet_index"));
        let index = line
            .and_then(|line| line.split(" = ").nth(1))
            .context("an index")?;
        let port = self.cloud.base_port() + number - 1;
        Ok(vec![format!("10.213.{index}.1:{port}")])
    }

    fn home(&self, number: u16) -> PathBuf {
        self.cloud.dir().join(format!("controller-{number}"))
    }

    fn token(&self, group: &str, name: &str) -> anyhow::Result<String> {
        let answer = self.cloud.json(&[group, "add", name])?;
        Ok(answer["token"].as_str().context("a token")?.to_owned())
    }

    /// `cloudctl join` into the directory of `controller-N`.
    fn join(&self, token: &str, number: u16) -> anyhow::Result<Finished> {
        let mut command = self.join_command(token, self.home(number).as_path())?;
        for address in self.listen(number)? {
            command.args(["--address", &address, "--listen", &address]);
        }
        command.args(["--listen", &self.address(number)]);
        command
            .arg("--image-dir")
            .arg(self.cloud.dir().join("images"));
        run(&mut command)
    }

    fn join_command(&self, token: &str, dir: &std::path::Path) -> anyhow::Result<Command> {
        let cloudctl = self.cloud.command(&[])?.get_program().to_owned();
        let mut command = Command::new(cloudctl);
        command
            .arg("join")
            .arg("--dir")
            .arg(dir)
            .args(["--token", token]);
        for number in 1..=5 {
            command.args(["--controller", &self.address(number)]);
        }
        command.args(["--timeout", "30", "-o", "json"]);
        Ok(command)
    }

    /// All addresses that a member ever has: a client goes on to the next one.
    fn widen_client(&self) -> anyhow::Result<()> {
        let path = self.cloud.dir().join("client.toml");
        let text = std::fs::read_to_string(&path)?;
        let all: Vec<_> = (1..=5)
            .map(|n| format!("\"{}\"", self.address(n)))
            .collect();
        let rest = text.split_once(']').context("a list of endpoints")?.1;
        Ok(std::fs::write(
            path,
            format!("endpoints = [{}]{rest}", all.join(", ")),
        )?)
    }

    fn members(&self) -> anyhow::Result<Vec<(u64, String, bool)>> {
        let cluster = self.cloud.json(&["cluster", "members"])?;
        let row = |member: &Value| {
            let id = member["id"].as_str().and_then(|id| id.parse().ok());
            let role = member["role"].as_str().unwrap_or_default().to_owned();
            let passing = member["joining"] == true || member["leaving"] == true;
            (id.unwrap_or(0), role, passing)
        };
        Ok(cluster["members"]
            .as_array()
            .into_iter()
            .flatten()
            .map(row)
            .collect())
    }

    /// Waits until exactly these are voters.
    fn settled(&self, wanted: &[u64]) -> anyhow::Result<()> {
        eventually(&format!("{wanted:?} vote"), PATIENCE, || {
            let members = self.members()?;
            let learns = |role: &str| role == "MEMBER_ROLE_LEARNER";
            let passing = members
                .iter()
                .any(|(_, role, passing)| *passing || learns(role));
            let ids: Vec<u64> = members.iter().map(|member| member.0).collect();
            anyhow::ensure!(!passing && ids == wanted, "{members:?}");
            Ok(())
        })
    }

    fn process(&self, number: u16) -> anyhow::Result<Process> {
        self.cloud.process(&format!("controller-{number}"))
    }

    fn ended(&self, process: Process, what: &str) -> anyhow::Result<()> {
        eventually(what, PATIENCE, || {
            anyhow::ensure!(!process.is_alive(), "it runs");
            Ok(())
        })
    }

    /// A controller started by hand: its exit is the test's to see.
    fn start(&self, number: u16) -> anyhow::Result<Child> {
        let program = PathBuf::from(self.cloud.command(&[])?.get_program());
        let log = std::fs::File::create(self.cloud.scratch().join(format!("by-hand-{number}")))?;
        Ok(Command::new(program.with_file_name("cloud-controller"))
            .args(["run", "--config"])
            .arg(self.home(number).join("controller.toml"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()?)
    }

    fn said(&self, number: u16) -> anyhow::Result<String> {
        let path = self.cloud.scratch().join(format!("by-hand-{number}"));
        Ok(std::fs::read_to_string(path)?)
    }
}

/// Mutations and reads that never stop; every failure is kept.
fn load(cell: &Cell, number: usize, over: &AtomicBool, done: &AtomicUsize) -> Vec<String> {
    let mut failures = Vec::new();
    let mut round = 0;
    while !over.load(Ordering::Relaxed) {
        let name = format!("load-{number}-{round}");
        let calls: [&[&str]; 3] = [
            &["ssh-key", "generate", &name],
            &["ssh-key", "show", &name],
            &["ssh-key", "delete", &name],
        ];
        for call in calls {
            match cell.cloud.try_ctl(call).and_then(Finished::ok) {
                Ok(_) => {
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => failures.push(format!("{error:#}")),
            }
        }
        round += 1;
    }
    failures
}

/// Runs `work` under load; not one call may fail.
fn under_load(cell: &Cell, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    const CLIENTS: usize = 3;
    let (over, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let (over, done) = (&over, &done);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| scope.spawn(move || load(cell, number, over, done)))
            .collect();
        let worked = work();
        over.store(true, Ordering::Relaxed);
        let mut failures = Vec::new();
        for client in clients {
            failures.extend(client.join().expect("a client does not panic"));
        }
        worked?;
        let count = done.load(Ordering::Relaxed);
        eprintln!("{count} calls done, {} failed", failures.len());
        anyhow::ensure!(failures.is_empty(), "failed calls: {failures:#?}");
        anyhow::ensure!(count > CLIENTS, "only {count} calls were made");
        Ok(())
    })
}

#[test]
fn five_grow_from_three_and_shrink_again_without_a_failed_call() -> anyhow::Result<()> {
    let cell = Cell::up()?;
    cell.widen_client()?;
    under_load(&cell, || {
        for number in [4, 5] {
            let token = cell.token("cluster", &format!("spare-{number}"))?;
            cell.join(&token, number)?.ok()?;
            // `up` starts what lies in the cloud's directory.
            cell.cloud.start()?;
        }
        cell.settled(&[1, 2, 3, 4, 5])?;
        // The leader goes, and with it one more of the first.
        let leader = cell.cloud.leader()?;
        let other = (1..=3).find(|id| *id != leader).context("another")?;
        for id in [leader, other] {
            let process = cell.process(u16::try_from(id)?)?;
            cell.cloud.ctl(&["cluster", "remove", &id.to_string()])?;
            cell.ended(process, "a removed controller ends by itself")?;
        }
        let rest: Vec<u64> = (1..=5).filter(|id| ![leader, other].contains(id)).collect();
        cell.settled(&rest)
    })?;
    // The host follows: it is ready, and remembers the controllers of today.
    cell.cloud.start()?;
    let remembered = cell.cloud.dir().join("node-1/data/journal/controllers");
    eventually("the agent knows today's controllers", PATIENCE, || {
        let text = std::fs::read_to_string(&remembered)?;
        anyhow::ensure!(text.lines().count() == 3, "{text}");
        anyhow::ensure!(text.contains(&cell.listen(4)?[0]), "{text}");
        Ok(())
    })?;
    cell.cloud.verify_bill()
}

#[test]
fn a_rolling_restart_of_all_controllers_fails_no_call() -> anyhow::Result<()> {
    let cell = Cell::up()?;
    under_load(&cell, || {
        for number in 1..=3 {
            let process = cell.process(number)?;
            process.terminate()?;
            cell.ended(process, "a controller ends when asked")?;
            cell.cloud.start()?;
        }
        Ok(())
    })
}

#[test]
fn a_wiped_controller_comes_back_under_a_new_number_only() -> anyhow::Result<()> {
    let cell = Cell::up()?;
    let process = cell.process(3)?;
    process.kill()?;
    cell.ended(process, "a killed process ends")?;
    // The disk is lost; a copy of it turns up again later.
    let (data, kept) = (cell.home(3).join("data"), cell.cloud.scratch().join("kept"));
    std::fs::rename(&data, &kept)?;
    let mut child = cell.start(3)?;
    anyhow::ensure!(
        !child.wait()?.success(),
        "an empty disk starts under an old number"
    );
    let said = cell.said(3)?;
    anyhow::ensure!(said.contains("lost its memory"), "{said}");

    cell.cloud.ctl(&["cluster", "remove", "3"])?;
    let token = cell.token("cluster", "third")?;
    cell.join(&token, 4)?.ok()?;
    let mut fourth = cell.start(4)?;
    cell.settled(&[1, 2, 4])?;

    // The old data return: the process is told that it is nobody, and ends.
    std::fs::rename(&kept, &data)?;
    let mut third = cell.start(3)?;
    anyhow::ensure!(
        !third.wait()?.success(),
        "a removed member ends with a failure"
    );
    let said = cell.said(3)?;
    anyhow::ensure!(said.contains("was removed"), "{said}");
    // And it never starts again.
    let mut third = cell.start(3)?;
    anyhow::ensure!(!third.wait()?.success(), "a removed member does not start");
    cell.settled(&[1, 2, 4])?;
    fourth.kill()?;
    fourth.wait()?;
    Ok(())
}

#[test]
fn tokens_are_for_one_newcomer_of_one_role() -> anyhow::Result<()> {
    let cell = Cell::up()?;
    let refused = |finished: Finished| -> anyhow::Result<String> {
        let text = finished.refused(1)?;
        let first = text.lines().find(|line| line.starts_with("error:"));
        Ok(first.unwrap_or_default().to_owned())
    };
    let token = cell.token("cluster", "spare")?;
    let elsewhere = |name: &str| cell.cloud.scratch().join(name);
    // Unknown: another secret under the right fingerprint.
    let (whole, _) = token.rsplit_once('.').context("three parts")?;
    let unknown = format!("{whole}.{}", "A".repeat(43));
    let unknown = refused(cell.join(&unknown, 4)?)?;
    // As a host, with a controller's token.
    let mut command = cell.join_command(&token, &elsewhere("host"))?;
    assert_eq!(refused(run(&mut command)?)?, unknown);
    // Another cloud's fingerprint: nothing is sent.
    let (prefix, rest) = token.split_once('.').context("three parts")?;
    let other = format!("{prefix}.{}{}", "00".repeat(32), &rest[64..]);
    let text = cell.join(&other, 4)?.refused(1)?;
    anyhow::ensure!(text.contains("not of the cloud"), "{text}");

    cell.join(&token, 4)?.ok()?;
    // The same key again, as after a lost answer; then another key.
    std::fs::remove_file(cell.home(4).join("controller.toml"))?;
    let again = cell.join(&token, 4)?.ok()?;
    anyhow::ensure!(again.contains("\"member_id\": \"4\""), "{again}");
    assert_eq!(refused(cell.join(&token, 5)?)?, unknown, "spent");

    // A host that answers keeps its name.
    let text = cell.cloud.try_ctl(&["node", "add", "node-1"])?.refused(5)?;
    anyhow::ensure!(text.contains("exists already"), "{text}");
    let host = cell.token("node", "host-9")?;
    let mut command = cell.join_command(&host, &elsewhere("host-9"))?;
    run(&mut command)?.ok()?;
    let config = std::fs::read_to_string(elsewhere("host-9").join("agent.toml"))?;
    anyhow::ensure!(config.contains("name = \"host-9\""), "{config}");
    Ok(())
}

#[test]
fn the_removal_that_would_stop_the_cell_is_refused() -> anyhow::Result<()> {
    let cell = Cell::up()?;
    let leader = cell.cloud.leader()?;
    let dead = (1..=3).find(|id| *id != leader).context("a follower")?;
    let alive = (1..=3)
        .find(|id| ![leader, dead].contains(id))
        .context("the other")?;
    let process = cell.process(u16::try_from(dead)?)?;
    process.kill()?;
    cell.ended(process, "a killed process ends")?;
    let text = eventually("the silence is noticed", PATIENCE, || {
        cell.cloud
            .try_ctl(&["cluster", "remove", &alive.to_string()])?
            .refused(1)
    })?;
    let numbers = format!("1 of 2 voters would answer and 2 are needed; silent: {dead}");
    anyhow::ensure!(text.contains(&numbers), "{text}");
    // The silent one itself may go.
    cell.cloud.ctl(&["cluster", "remove", &dead.to_string()])?;
    let mut rest = vec![leader, alive];
    rest.sort_unstable();
    cell.settled(&rest)
}
