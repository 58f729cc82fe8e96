//! What a `client.toml` and each context say: where the controllers are, whom
//! to trust, and how to prove who calls.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::args::Format;
use crate::error::{Context, Error, Result};

/// Far above any real cell; a longer list is a broken file.
const ENDPOINTS_MAX: usize = 64;
const TOKEN_BYTES_MAX: usize = 512;

/// One cloud as a client knows it. Paths are relative to the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// `host:port` of each controller.
    pub endpoints: Vec<String>,
    /// PEM file of the cluster's certificate authority.
    pub ca: PathBuf,
    /// PEM file of this client's certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// PEM file of its private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// An access key, instead of `cert` and `key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// A file, mode 0600, with an access key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Name or id of the project that calls go to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// How answers are printed unless -o says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Format>,
}

/// A text that no log and no error may show.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// How calls prove who makes them.
#[derive(Debug)]
pub enum Credentials {
    /// Mutual TLS.
    Certificate { cert: PathBuf, key: PathBuf },
    /// A bearer token, over TLS that only the controller proves.
    AccessKey(Secret),
}

impl Profile {
    /// Checks what can be checked without opening another file, and makes paths
    /// absolute. `what` names the place in error texts.
    pub fn settle(mut self, what: &str, dir: &Path) -> Result<Self> {
        let bad = |text: &str| Err(Error::failed(format!("{what}: {text}")));
        if self.endpoints.is_empty() {
            return bad("`endpoints` is empty");
        }
        if self.endpoints.len() > ENDPOINTS_MAX {
            return bad(&format!("`endpoints`: {ENDPOINTS_MAX} at most"));
        }
        for endpoint in &self.endpoints {
            if let Err(rule) = check_endpoint(endpoint) {
                return bad(&format!("`endpoints`: `{endpoint}`: {rule}"));
            }
        }
        let ways = [
            self.cert.is_some() || self.key.is_some(),
            self.token.is_some(),
            self.token_file.is_some(),
        ];
        match ways.iter().filter(|way| **way).count() {
            0 => return bad("`cert` and `key`, or `token_file`, or `token` is missing"),
            1 => {}
            _ => return bad("only one of `cert` with `key`, `token_file` and `token`"),
        }
        if self.cert.is_some() != self.key.is_some() {
            return bad("`cert` and `key` belong together");
        }
        let paths = [&mut self.cert, &mut self.key, &mut self.token_file];
        for path in paths.into_iter().flatten().chain([&mut self.ca]) {
            *path = dir.join(&*path);
        }
        Ok(self)
    }

    /// The proof itself; reads `token_file`.
    pub fn credentials(&self) -> Result<Credentials> {
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            let (cert, key) = (cert.clone(), key.clone());
            return Ok(Credentials::Certificate { cert, key });
        }
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => token.clone(),
            (None, Some(file)) => read_token(file)?,
            (None, None) => return Err(Error::failed("no credentials are configured")),
        };
        Ok(Credentials::AccessKey(token))
    }

    /// In words, without any secret.
    pub fn proof(&self) -> String {
        match (&self.cert, &self.token_file) {
            (Some(cert), _) => format!("certificate {}", cert.display()),
            (None, Some(file)) => format!("access key in {}", file.display()),
            (None, None) => "access key in config.toml".to_owned(),
        }
    }
}

/// `host:port`, without a scheme or a path.
pub fn check_endpoint(endpoint: &str) -> Result<(), &'static str> {
    let rule = "an endpoint has the form HOST:PORT";
    let (host, port) = endpoint.rsplit_once(':').ok_or(rule)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    let port = port.parse::<u16>().is_ok_and(|port| port > 0);
    match port && !host.is_empty() && host.len() <= 253 && host.chars().all(plain) {
        true => Ok(()),
        false => Err(rule),
    }
}

/// Reads an access key from a file that nobody else may read.
pub fn read_token(file: &Path) -> Result<Secret> {
    refuse_readable_by_others(file)?;
    let bytes = crate::files::read_argument(file)?;
    check_token(&String::from_utf8_lossy(&bytes))
        .map_err(|rule| Error::failed(format!("`{}`: {rule}", file.display())))
}

/// An access key as `access-key create` shows it.
pub fn check_token(text: &str) -> Result<Secret, &'static str> {
    let token = text.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
    match !token.is_empty() && token.len() <= TOKEN_BYTES_MAX && token.chars().all(plain) {
        true => Ok(Secret(token.to_owned())),
        false => Err("not an access key: one line of the form nube1.ID.SECRET"),
    }
}

/// A secret in a file that others can read is no secret any more.
pub fn refuse_readable_by_others(file: &Path) -> Result<()> {
    let name = file.display();
    let metadata = std::fs::metadata(file).context(format!("`{name}`"))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let text = format!("`{name}` holds an access key and has mode {mode:04o}, not 0600");
        return Err(Error::failed(text).hint(format!(
            "`chmod 600 {name}`; if others could read it, delete the key and make a new one"
        )));
    }
    Ok(())
}
