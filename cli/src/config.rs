//! Where the cloud's directory and `client.toml` are, and what the file says.
//! Order: the flag, the environment, the default of root or of the user.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::args::Global;
use crate::error::{Context, Error, Exit, Result};

/// What `client.toml` holds. Paths are relative to the file.
#[derive(Debug, Deserialize)]
pub struct ClientFile {
    /// `host:port` of each controller.
    pub endpoints: Vec<String>,
    /// PEM file of the cluster's certificate authority.
    pub ca: PathBuf,
    /// PEM file of this client's certificate.
    pub cert: PathBuf,
    /// PEM file of its private key.
    pub key: PathBuf,
}

/// Paths that follow from flags and environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locations {
    /// The cloud's directory: what `up` makes.
    pub dir: PathBuf,
    /// The client's configuration file.
    pub config: PathBuf,
}

impl Locations {
    /// Reads flags (clap has merged the environment into them) and defaults.
    pub fn of(global: &Global) -> Result<Self> {
        let dir = match &global.dir {
            Some(dir) => dir.clone(),
            None => default_dir()?,
        };
        let dir = std::path::absolute(&dir).context(format!("`{}`", dir.display()))?;
        let config = match &global.config {
            Some(file) => std::path::absolute(file).context(format!("`{}`", file.display()))?,
            None => dir.join("client.toml"),
        };
        Ok(Self { dir, config })
    }

    /// Where generated private SSH keys are kept, beside the configuration.
    pub fn keys(&self) -> PathBuf {
        self.config_dir().join("keys")
    }

    /// Reads `client.toml`; certificate paths come back absolute.
    pub fn read(&self) -> Result<ClientFile> {
        let text = match std::fs::read_to_string(&self.config) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::new(
                    Exit::Unavailable,
                    format!(
                        "no cloud is known: `{}` does not exist",
                        self.config.display()
                    ),
                )
                .hint(
                    "`cloudctl up` makes a cloud on this machine; --config, --dir, NUBE_CONFIG \
                     or NUBE_DIR name another one",
                ));
            }
            other => other.context(format!("`{}`", self.config.display()))?,
        };
        let mut file: ClientFile =
            toml::from_str(&text).context(format!("`{}`", self.config.display()))?;
        if file.endpoints.is_empty() {
            let name = self.config.display();
            return Err(Error::failed(format!("`{name}`: `endpoints` is empty")));
        }
        for path in [&mut file.ca, &mut file.cert, &mut file.key] {
            *path = self.config_dir().join(&*path);
        }
        Ok(file)
    }

    fn config_dir(&self) -> &Path {
        self.config.parent().unwrap_or(Path::new("/"))
    }
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
mod test {
    use super::*;

    #[test]
    fn the_flag_wins_and_paths_follow_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("my.toml");
        std::fs::write(
            &file,
            "endpoints = [\"127.0.0.1:7101\"]\nca = \"ca.pem\"\ncert = \"/c.pem\"\nkey = \"k.pem\"\n",
        )
        .expect("written");
        let global = Global {
            dir: Some("/srv/cloud".into()),
            config: Some(file),
            ..Global::default()
        };
        let locations = Locations::of(&global).expect("locations");
        assert_eq!(locations.dir, Path::new("/srv/cloud"));
        assert_eq!(locations.keys(), dir.path().join("keys"));
        let read = locations.read().expect("valid file");
        assert_eq!(read.ca, dir.path().join("ca.pem"));
        assert_eq!(read.cert, Path::new("/c.pem"));
    }

    #[test]
    fn no_cloud_says_how_to_make_one() {
        let global = Global {
            dir: Some("/nonexistent/cloud".into()),
            ..Global::default()
        };
        let error = Locations::of(&global)
            .and_then(|l| l.read())
            .expect_err("nothing there");
        assert_eq!(error.exit(), Exit::Unavailable);
        assert!(error.render().contains("cloudctl up"));
    }
}
