//! Running other programs: argument lists only, never a shell string.

use anyhow::{Context, Result, bail};
use std::process::{Command, Output, Stdio};

/// Runs `command` with its output on the terminal.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("start `{}`", name(command)))?;
    if !status.success() {
        bail!("`{}` ended with {status}", name(command));
    }
    Ok(())
}

/// Runs `command` and returns its standard output; what it said on standard error
/// is shown only if it fails.
pub fn capture(command: &mut Command) -> Result<Vec<u8>> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start `{}`", name(command)))?;
    expect_success(command, output)
}

/// As [`capture`], for output that is text.
pub fn capture_text(command: &mut Command) -> Result<String> {
    let bytes = capture(command)?;
    String::from_utf8(bytes).with_context(|| format!("output of `{}` is not UTF-8", name(command)))
}

fn expect_success(command: &Command, output: Output) -> Result<Vec<u8>> {
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "`{}` ended with {}: {}",
            name(command),
            output.status,
            said.trim()
        );
    }
    Ok(output.stdout)
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}
