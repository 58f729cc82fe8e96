//! Which cloud is meant, and what its file says. Two kinds of file: a cloud's
//! own `client.toml`, and the user's `config.toml` with named contexts.
//!
//! ```text
//! --context ─► --config, --dir ─► NUBE_CONTEXT ─► NUBE_CONFIG, NUBE_DIR
//!     ─► `current` in config.toml ─► client.toml in the default directory
//! ```
//!
//! The command line beats the environment. Two places named at the same level
//! are refused: a guess here would delete things in the wrong cloud.

mod contexts;
mod profile;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::args::Global;
use crate::error::{Context, Error, Exit, Result};

pub use contexts::{Contexts, LOCAL, check_name as check_context_name};
pub use profile::{Credentials, Profile, Secret, check_endpoint, read_token};

/// Paths that follow from flags and environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locations {
    /// The file that names the cloud.
    pub config: PathBuf,
    /// The context in it; `None` for a `client.toml`.
    pub context: Option<String>,
}

impl Locations {
    /// Reads flags (clap has merged the environment into them) and defaults.
    pub fn of(global: &Global) -> Result<Self> {
        Self::choose(global, |name| std::env::var_os(name))
    }

    fn choose(global: &Global, env: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let context = named(&global.context);
        let place = global.config.is_some() || global.dir.is_some();
        let context = match context {
            Some(context) if place && !context_wins(global, context, &env)? => None,
            other => other,
        };
        if context == Some(LOCAL) || (context.is_none() && place) {
            return Self::client_file(global);
        }
        let file = Contexts::path(&env)?;
        let context = match context {
            Some(context) => Some(context.to_owned()),
            None => Contexts::read(&file)?.current,
        };
        match context {
            Some(context) => Ok(Self {
                config: file,
                context: Some(context),
            }),
            None => Self::client_file(global),
        }
    }

    fn client_file(global: &Global) -> Result<Self> {
        let config = match &global.config {
            Some(file) => std::path::absolute(file).context(format!("`{}`", file.display()))?,
            None => cloud_dir(global)?.join("client.toml"),
        };
        Ok(Self {
            config,
            context: None,
        })
    }

    /// Where generated private SSH keys are kept, beside the configuration.
    pub fn keys(&self) -> PathBuf {
        self.config_dir().join("keys")
    }

    /// Reads the file; its paths come back absolute.
    pub fn read(&self) -> Result<Profile> {
        let Some(context) = &self.context else {
            return self.read_client_file();
        };
        let mut contexts = Contexts::read(&self.config)?;
        let Some(profile) = contexts.contexts.remove(context) else {
            let known = contexts.names().join(", ");
            let file = self.config.display();
            return Err(Error::new(
                Exit::NotFound,
                format!("context `{context}` is not in `{file}`"),
            )
            .hint(format!("known: {known}; `cloudctl context add` makes one")));
        };
        let what = format!("`{}`: context `{context}`", self.config.display());
        profile.settle(&what, self.config_dir())
    }

    fn read_client_file(&self) -> Result<Profile> {
        let what = format!("`{}`", self.config.display());
        let text = match std::fs::read_to_string(&self.config) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::new(
                    Exit::Unavailable,
                    format!("no cloud is known: {what} does not exist"),
                )
                .hint(
                    "`cloudctl up` makes a cloud on this machine; `cloudctl context add` names \
                     another one, --config and --dir point at its client.toml",
                ));
            }
            other => other.context(&what)?,
        };
        let profile: Profile = toml::from_str(&text).context(&what)?;
        if profile.token.is_some() {
            profile::refuse_readable_by_others(&self.config)?;
        }
        profile.settle(&what, self.config_dir())
    }

    /// What a program started by this one needs to find the same cloud:
    /// variables to set, or to remove.
    pub fn environment(&self) -> Vec<(&'static str, Option<OsString>)> {
        match &self.context {
            Some(context) => vec![
                ("NUBE_CONTEXT", Some(context.into())),
                ("NUBE_CONFIG", None),
                ("NUBE_DIR", None),
            ],
            None => vec![
                ("NUBE_CONFIG", Some(self.config.clone().into_os_string())),
                ("NUBE_CONTEXT", None),
            ],
        }
    }

    fn config_dir(&self) -> &Path {
        self.config.parent().unwrap_or(Path::new("/"))
    }
}

/// The directory of the cloud on this machine: what `up` makes.
pub fn cloud_dir(global: &Global) -> Result<PathBuf> {
    let dir = match &global.dir {
        Some(dir) => dir.clone(),
        None => default_dir()?,
    };
    std::path::absolute(&dir).context(format!("`{}`", dir.display()))
}

/// An empty variable means the same as none.
pub fn named(value: &Option<String>) -> Option<&str> {
    value.as_deref().filter(|value| !value.is_empty())
}

/// Both a context and a file are named: the one on the command line is meant.
fn context_wins(
    global: &Global,
    context: &str,
    env: &impl Fn(&str) -> Option<OsString>,
) -> Result<bool> {
    let from_env = |name: &str, value: Option<&Path>| {
        value.is_none_or(|value| env(name).is_some_and(|text| Path::new(&text) == value))
    };
    let context_from_env = env("NUBE_CONTEXT").is_some_and(|text| text == context);
    let place_from_env = from_env("NUBE_CONFIG", global.config.as_deref())
        && from_env("NUBE_DIR", global.dir.as_deref());
    if context_from_env != place_from_env {
        return Ok(place_from_env);
    }
    let text = match context_from_env {
        true => "NUBE_CONTEXT names one cloud, and NUBE_CONFIG or NUBE_DIR another",
        false => "--context names one cloud, and --config or --dir another",
    };
    Err(Error::usage(text).hint("say --context alone; `--context local` is the client.toml"))
}

fn default_dir() -> Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/nube"));
    }
    let data = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    data.or_else(home)
        .map(|base| base.join("nube"))
        .ok_or_else(|| Error::usage("neither XDG_DATA_HOME nor HOME is set: give --dir"))
}

#[cfg(test)]
mod test;
