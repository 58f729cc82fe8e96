//! Running programs and waiting for things to become true.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

/// A program that ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// What was run, for messages.
    pub what: String,
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Finished {
    /// The output of a success; an error that tells all otherwise.
    pub fn ok(self) -> anyhow::Result<String> {
        anyhow::ensure!(
            self.code == Some(0),
            "`{}` ended with {:?}\n{}{}",
            self.what,
            self.code,
            self.out,
            self.err
        );
        Ok(self.out)
    }

    /// The error text of a failure with this code; an error when it went well.
    pub fn refused(self, code: i32) -> anyhow::Result<String> {
        anyhow::ensure!(
            self.code == Some(code),
            "`{}` ended with {:?} instead of {code}\n{}{}",
            self.what,
            self.code,
            self.out,
            self.err
        );
        Ok(self.err)
    }
}

/// Runs a program to its end, with nothing on standard input.
pub fn run(command: &mut Command) -> anyhow::Result<Finished> {
    let what = format!("{command:?}");
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| what.clone())?;
    Ok(Finished {
        what,
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Asks again until the answer is there, or fails with the last reason. The
/// limit only ends a test that hangs; nothing is measured with it.
pub fn eventually<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let begun = Instant::now();
    loop {
        match look() {
            Ok(found) => return Ok(found),
            Err(error) if begun.elapsed() > limit => {
                return Err(error.context(format!("{what}: not within {limit:?}")));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}
