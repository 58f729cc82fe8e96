//! The user's `config.toml`: named contexts, and the one in use.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Profile;
use super::profile::refuse_readable_by_others;
use crate::error::{Context, Error, Result};
use crate::files;

/// The context that every machine has: `client.toml` in the cloud's directory.
pub const LOCAL: &str = "local";

const CONTEXTS_MAX: usize = 256;
const HEAD: &str = "# Clouds that cloudctl knows. `cloudctl context add|use|remove` write this \
                    file anew;\n# comments are not kept.\n\n";

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contexts {
    /// Used when neither flag nor environment names another. None: `local`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// By name.
    #[serde(default)]
    pub contexts: BTreeMap<String, Profile>,
}

impl Contexts {
    /// Where the file is: $XDG_CONFIG_HOME/nube, or ~/.config/nube.
    pub fn path(env: &impl Fn(&str) -> Option<OsString>) -> Result<PathBuf> {
        let config = env("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute());
        let home = || {
            let home = env("HOME").filter(|home| !home.is_empty());
            home.map(|home| PathBuf::from(home).join(".config"))
        };
        config
            .or_else(home)
            .map(|base| base.join("nube/config.toml"))
            .ok_or_else(|| Error::usage("neither XDG_CONFIG_HOME nor HOME is set: give --config"))
    }

    /// Reads the file; no file is a file without contexts.
    pub fn read(path: &Path) -> Result<Self> {
        let name = format!("`{}`", path.display());
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            other => other.context(&name)?,
        };
        let read: Self = toml::from_str(&text).context(&name)?;
        if read.contexts.len() > CONTEXTS_MAX {
            let text = format!("{name}: `contexts`: {CONTEXTS_MAX} at most");
            return Err(Error::failed(text));
        }
        for context in read.contexts.keys() {
            check_name(context).map_err(|rule| {
                Error::failed(format!("{name}: `contexts`: `{context}`: {rule}"))
            })?;
        }
        if read
            .contexts
            .values()
            .any(|profile| profile.token.is_some())
        {
            refuse_readable_by_others(path)?;
        }
        Ok(read)
    }

    /// Writes the file, whole or not at all, for its owner alone.
    pub fn write(&self, path: &Path) -> Result<()> {
        let name = format!("`{}`", path.display());
        let dir = path.parent().unwrap_or(Path::new("/"));
        files::private_dir(dir)?;
        let text = toml::to_string(self).context(&name)?;
        let fresh = dir.join(format!(".config.toml.{}", std::process::id()));
        let mut file = files::create_private(&fresh)?;
        let written = file
            .write_all(format!("{HEAD}{text}").as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| std::fs::rename(&fresh, path));
        if written.is_err() {
            // What is left of it is of no use; the first error counts.
            let _ = std::fs::remove_file(&fresh);
        }
        written.context(&name)
    }

    /// All names, `local` first.
    pub fn names(&self) -> Vec<&str> {
        let named = self.contexts.keys().map(String::as_str);
        std::iter::once(LOCAL).chain(named).collect()
    }
}

/// Names are typed and shown: the rule of every other name here.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let ends = !name.starts_with('-') && !name.ends_with('-');
    match name {
        LOCAL => Err("this name stands for the client.toml in --dir"),
        _ if (1..=63).contains(&name.len()) && name.chars().all(plain) && ends => Ok(()),
        _ => Err("1 to 63 of a-z, 0-9 and '-', neither first nor last"),
    }
}
