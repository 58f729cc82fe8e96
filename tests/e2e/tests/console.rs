//! The serial console and its log, as a user has them: a login without network
//! and keys, a log that goes on over lost agents and controllers.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use nube_harness::{Cloud, Size, eventually, guest_of};

const LIMIT: Duration = Duration::from_secs(60);

/// A `cloudctl` that runs beside the test; ended with it.
struct Beside {
    child: Child,
    out: std::path::PathBuf,
}

impl Beside {
    fn start(cloud: &Cloud, name: &str, mut command: Command) -> anyhow::Result<Self> {
        let out = cloud.scratch().join(name);
        let file = File::create(&out)?;
        let child = command
            .stdin(Stdio::piped())
            .stderr(file.try_clone()?)
            .stdout(file)
            .spawn()?;
        Ok(Self { child, out })
    }

    fn text(&self) -> anyhow::Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(&self.out)?).into_owned())
    }

    fn wait_for(&self, text: &str) -> anyhow::Result<()> {
        eventually(&format!("{text:?} is printed"), LIMIT, || {
            let now = self.text()?;
            anyhow::ensure!(now.contains(text), "so far: {now:?}");
            Ok(())
        })
    }

    fn ended(&mut self) -> anyhow::Result<Option<i32>> {
        eventually("it ends", LIMIT, || {
            let status = self.child.try_wait()?.context("it still runs")?;
            Ok(status.code())
        })
    }

    fn keys(&mut self) -> anyhow::Result<&mut ChildStdin> {
        self.child.stdin.as_mut().context("its input")
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // Ended already, mostly.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Types lines into the console and returns what the guest says.
fn on_console(cloud: &Cloud, name: &str, lines: &str) -> anyhow::Result<String> {
    let mut child = cloud
        .command(&["console", name, "--linger", "10"])?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut keys = child.stdin.take().context("its input")?;
    keys.write_all(lines.as_bytes())?;
    drop(keys);
    let mut text = Vec::new();
    child
        .stdout
        .take()
        .context("its output")?
        .read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    anyhow::ensure!(child.wait()?.success(), "{text}");
    Ok(text)
}

fn print_in_guest(cloud: &Cloud, line: &str) -> anyhow::Result<()> {
    cloud.ssh("web", &[&format!("echo {line} > /dev/console")])?;
    Ok(())
}

#[test]
fn the_console_and_the_log_outlive_agents_and_controllers() -> anyhow::Result<()> {
    let cloud = Cloud::up(Size {
        controllers: 1,
        nodes: 1,
    })?;
    let id = cloud.launch("web")?["id"]
        .as_str()
        .context("an id")?
        .to_owned();
    let guest = guest_of(&id)?;
    let follow = cloud.command(&["logs", "web", "--follow"])?;
    let mut log = Beside::start(&cloud, "log", follow)?;
    log.wait_for("ssh ready")?;

    let said = on_console(&cloud, "web", "\necho $((6*7))-$(hostname)-$(id -un)\n")?;
    assert!(said.contains("42-web-root"), "{said:?}");
    log.wait_for("42-web-root")?;
    print_in_guest(&cloud, "printed-later")?;
    log.wait_for("printed-later")?;

    // Printed while no agent runs, and in the log all the same.
    print_in_guest(
        &cloud,
        "agent-falls; (sleep 2; echo without-an-agent > /dev/console) &",
    )?;
    cloud.process("node-1")?.kill()?;
    std::thread::sleep(Duration::from_secs(4));
    cloud.start()?;
    cloud.wait_state("web", "INSTANCE_STATE_RUNNING")?;
    log.wait_for("without-an-agent")?;
    let said = on_console(&cloud, "web", "\necho again-$((1+1))\n")?;
    assert!(said.contains("again-2"), "{said:?}");
    assert_eq!(guest_of(&id)?, guest, "the guest did not notice");

    cloud.process("controller-1")?.kill()?;
    cloud.start()?;
    cloud.wait_state("web", "INSTANCE_STATE_RUNNING")?;
    eventually("a tunnel", LIMIT, || print_in_guest(&cloud, "after-all"))?;
    log.wait_for("after-all")?;
    let text = log.text()?;
    for line in ["ssh ready", "printed-later", "without-an-agent"] {
        assert_eq!(text.matches(line).count(), 1, "{line}: {text}");
    }
    cloud.ctl(&["delete", "web"])?;
    assert_eq!(log.ended()?, Some(0), "{}", log.text()?);
    Ok(())
}

#[test]
fn the_second_client_takes_over_and_the_terminal_is_restored() -> anyhow::Result<()> {
    let cloud = Cloud::up(Size {
        controllers: 1,
        nodes: 1,
    })?;
    cloud.launch("web")?;
    let mut first = Beside::start(&cloud, "first", cloud.command(&["console", "web"])?)?;
    first.keys()?.write_all(b"\necho first-$((2+2))\n")?;
    first.wait_for("first-4")?;

    // On a terminal: its settings before and after are the same.
    let command = cloud.command(&["console", "web"])?;
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<String> = words.map(|word| format!("'{}'", word.display())).collect();
    let line = format!("stty -g; {}; echo code=$?; stty -g", words.join(" "));
    let mut terminal = Command::new("script");
    terminal.args(["-qec", &line, "/dev/null"]);
    let mut second = Beside::start(&cloud, "second", terminal)?;
    second.wait_for("Ctrl-] leaves")?;
    assert_eq!(first.ended()?, Some(5), "{}", first.text()?);
    assert!(
        first.text()?.contains("another client"),
        "{}",
        first.text()?
    );
    second.keys()?.write_all(b"\recho second-$((3+3))\r")?;
    second.wait_for("second-6")?;
    second.keys()?.write_all(b"\x1d")?;
    second.wait_for("code=0")?;
    second.ended()?;
    let text = second.text()?;
    let settings: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| line.split(':').count() > 10)
        .collect();
    assert_eq!(settings.len(), 2, "{text}");
    assert_eq!(settings[0], settings[1]);

    cloud.ctl(&["stop", "web"])?;
    cloud.wait_state("web", "INSTANCE_STATE_STOPPED")?;
    let refused = cloud.try_ctl(&["console", "web"])?.refused(1)?;
    assert!(refused.contains("does not run"), "{refused}");
    Ok(())
}
