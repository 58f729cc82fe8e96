//! `ssh`: the system's OpenSSH through a tunnel, strict from the first login.
//!
//! The host key was made by the control plane before the guest booted, so there
//! is nothing to trust on first use: OpenSSH gets a private file with exactly
//! that key, and refuses every other. `-F none` keeps settings of the user's
//! own configuration (connection sharing, DNS host keys) from weakening this.
//!
//! ProxyCommand is run by a shell. Only two things get into it: the path of
//! this program, quoted, and a checked instance id. Which cloud is meant
//! travels in the environment instead.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use nube_proto::v1::{Instance, InstanceState};
use nube_types::{InstanceId, SshKeyId};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use super::{App, instance};
use crate::args::ssh::{Login, Ssh};
use crate::error::{Context, Error, Result};
use crate::files;
use crate::output::text::enum_word;

/// What OpenSSH says when it failed itself.
const SSH_FAILED: u8 = 255;

/// `ssh`: the exit code is that of the remote command.
pub async fn run(app: &App, args: Ssh) -> Result<u8> {
    let instance = instance::get(&app.client()?, &args.instance).await?;
    let session = Session::prepare(app, &instance, &args.login)?;
    let mut command = session.command("ssh", &args.login)?;
    if args.tty {
        command.arg("-t");
    }
    command.arg(&session.id);
    if !args.command.is_empty() {
        // The host name is behind us: a command that starts with a dash is none
        // of ssh's options.
        command.arg("--").args(&args.command);
    }
    session.run(command, "ssh").await
}

/// What one connection to one guest needs, and a file that goes away with it.
pub struct Session {
    /// Host alias for OpenSSH: the instance id.
    pub id: String,
    options: Vec<String>,
    identities: Vec<PathBuf>,
    known_hosts: KnownHosts,
    environment: Vec<(&'static str, Option<OsString>)>,
}

impl Session {
    /// Checks everything that comes from the server before it gets near ssh.
    pub fn prepare(app: &App, instance: &Instance, login: &Login) -> Result<Self> {
        check_state(instance)?;
        let locations = app.locations()?;
        let id: InstanceId = instance.id.parse().context("the instance")?;
        let known_hosts = KnownHosts::write(&known_hosts_line(id, instance)?)?;
        let program = std::env::current_exe().context("this program's path")?;
        let proxy = proxy_command(&program, id, login.boot_wait)?;
        let user = match &login.user {
            Some(user) => user.clone(),
            None => login_user(instance)?.to_owned(),
        };
        let identities = match &login.identity {
            Some(file) => vec![file.clone()],
            None => saved_keys(&locations.keys(), &instance.ssh_key_ids),
        };
        let mut environment = locations.environment();
        if let Some(project) = &app.global.project {
            environment.push(("NUBE_PROJECT", Some(project.into())));
        }
        // ssh hands ProxyCommand to $SHELL, and the quoting is for this one.
        environment.push(("SHELL", Some(OsString::from("/bin/sh"))));
        let options = options(
            id,
            &user,
            &proxy,
            known_hosts.path(),
            !identities.is_empty(),
        );
        Ok(Self {
            id: id.to_string(),
            options,
            identities,
            known_hosts,
            environment,
        })
    }

    /// `ssh` or `scp` with all options, before its own arguments.
    pub fn command(&self, program: &str, login: &Login) -> Result<Command> {
        let mut command = Command::new(program);
        command.args(["-F", "none"]);
        for option in &self.options {
            command.args(["-o", option]);
        }
        for identity in &self.identities {
            let file = std::path::absolute(identity).context("the identity file")?;
            command.arg("-i").arg(file);
        }
        // The first value of an option wins in OpenSSH: these cannot undo ours.
        command.args(&login.ssh_args);
        for (name, value) in &self.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        Ok(command)
    }

    /// Runs to the end and cleans up, also when a signal ends it.
    pub async fn run(self, mut command: Command, program: &str) -> Result<u8> {
        command.kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| {
            Error::failed(format!("cannot run `{program}`: {error}"))
                .hint("install it: apt-get install openssh-client")
        })?;
        // Ctrl-C reaches ssh by itself; this process must outlive it to clean
        // up. The others are meant for both.
        let mut interrupt = signal(SignalKind::interrupt()).context("signals")?;
        let mut quit = signal(SignalKind::quit()).context("signals")?;
        let mut terminate = signal(SignalKind::terminate()).context("signals")?;
        let mut hangup = signal(SignalKind::hangup()).context("signals")?;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status.context(program)?,
                _ = interrupt.recv() => {}
                _ = quit.recv() => {}
                _ = terminate.recv() => child.start_kill().context(program)?,
                _ = hangup.recv() => child.start_kill().context(program)?,
            }
        };
        drop(self.known_hosts);
        Ok(exit_code(status))
    }
}

fn check_state(instance: &Instance) -> Result<()> {
    use InstanceState::{Pending, Running, Starting};
    if matches!(instance.state(), Pending | Starting | Running) {
        return Ok(());
    }
    let state = enum_word(instance.state().as_str_name(), "INSTANCE_STATE");
    let error = Error::failed(format!("`{}` is {state}", instance.name));
    Err(match instance.reason.as_str() {
        "" => error.hint(format!("`cloudctl start {} --wait`", instance.name)),
        reason => error.detail(reason),
    })
}

/// `<instance-id> <algorithm> <base64>`: one line, whatever the server sent.
fn known_hosts_line(id: InstanceId, instance: &Instance) -> Result<String> {
    let refuse = || Error::failed(format!("the cloud holds no usable host key of `{id}`"));
    let mut words = instance.ssh_host_public_key.split(' ');
    let (Some("ssh-ed25519"), Some(key)) = (words.next(), words.next()) else {
        return Err(refuse());
    };
    let base64 = |b: u8| b.is_ascii_alphanumeric() || b"+/=".contains(&b);
    if key.is_empty() || !key.bytes().all(base64) {
        return Err(refuse());
    }
    Ok(format!("{id} ssh-ed25519 {key}\n"))
}

fn login_user(instance: &Instance) -> Result<&str> {
    let user = instance.user.as_str();
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b);
    let valid = (1..=32).contains(&user.len())
        && user.bytes().all(allowed)
        && !user.starts_with(['-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']);
    if valid {
        return Ok(user);
    }
    Err(Error::failed(format!(
        "the image's login user `{user}` is not a user name"
    ))
    .hint("give one with -l"))
}

/// Private halves that `ssh-key generate` saved, of the keys this guest has.
fn saved_keys(dir: &Path, key_ids: &[String]) -> Vec<PathBuf> {
    // Parsing keeps a key id from being a path.
    let ids = key_ids.iter().filter_map(|id| id.parse::<SshKeyId>().ok());
    ids.map(|id| dir.join(id.to_string()))
        .filter(|path| path.is_file())
        .collect()
}

fn options(
    id: InstanceId,
    user: &str,
    proxy: &str,
    known_hosts: &Path,
    identities_only: bool,
) -> Vec<String> {
    let mut options: Vec<String> = [
        "StrictHostKeyChecking=yes",
        "GlobalKnownHostsFile=/dev/null",
        "HostKeyAlgorithms=ssh-ed25519",
        "VerifyHostKeyDNS=no",
        "UpdateHostKeys=no",
        "CheckHostIP=no",
        "ControlMaster=no",
        "ControlPath=none",
        "ForwardAgent=no",
        "LogLevel=ERROR",
    ]
    .map(str::to_owned)
    .into();
    options.push(format!("UserKnownHostsFile={}", known_hosts.display()));
    options.push(format!("HostKeyAlias={id}"));
    options.push(format!("ProxyCommand={proxy}"));
    options.push(format!("User={user}"));
    if identities_only {
        // An agent full of keys would use up the guest's attempts first.
        options.push("IdentitiesOnly=yes".to_owned());
    }
    options
}

/// The shell line for ProxyCommand.
fn proxy_command(program: &Path, id: InstanceId, boot_wait_s: u32) -> Result<String> {
    let program = program
        .to_str()
        .filter(|path| !path.contains(char::is_control));
    let program = program.ok_or_else(|| Error::failed("this program's path is not plain text"))?;
    let wait_ms = u64::from(boot_wait_s) * 1000;
    // ssh expands %x in this text before the shell sees it.
    let quoted = quote(program).replace('%', "%%");
    Ok(format!(
        "{quoted} tunnel {id} --port 22 --wait-ms {wait_ms}"
    ))
}

/// Quotes one word for a POSIX shell.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// As a shell would say it: the code itself, or 128 and the signal.
fn exit_code(status: ExitStatus) -> u8 {
    let by_signal = status.signal().map(|signal| 128 + signal);
    let code = status.code().or(by_signal);
    code.and_then(|code| u8::try_from(code).ok())
        .unwrap_or(SSH_FAILED)
}

/// A private file with one host key, removed when dropped.
#[derive(Debug)]
struct KnownHosts {
    path: PathBuf,
}

impl KnownHosts {
    fn write(line: &str) -> Result<Self> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let mut dirs = runtime
            .into_iter()
            .chain([std::env::temp_dir(), PathBuf::from("/tmp")]);
        let dir = dirs.find(|dir| is_plain(dir) && dir.is_dir());
        let dir = dir.ok_or_else(|| Error::failed("no directory for temporary files"))?;
        let name = format!("nube-known-hosts-{}", uuid::Uuid::new_v4().simple());
        let path = dir.join(name);
        files::write_private(&path, line.as_bytes())?;
        Ok(Self { path })
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for KnownHosts {
    fn drop(&mut self) {
        // Nothing secret is in it; a leftover does no harm.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// ssh splits this option at spaces and expands %, ~ and ${…} in it.
fn is_plain(path: &Path) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-".contains(&b);
    path.is_absolute()
        && path
            .as_os_str()
            .as_encoded_bytes()
            .iter()
            .all(|b| plain(*b))
}

#[cfg(test)]
#[path = "ssh/test.rs"]
mod test;
