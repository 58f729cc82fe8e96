//! The newest list of networks on disk: an agent that starts while no controller
//! answers makes the networks as they were.

use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nube_proto::agent::v1::DesiredNetworks;
use prost::Message;

use crate::host::durable;

/// The directory `data_dir/networks`, for this user only.
#[derive(Debug, Clone)]
pub struct Store {
    path: PathBuf,
    overlay: PathBuf,
}

impl Store {
    /// Opens or makes its directory.
    pub fn open(data_dir: &Path) -> io::Result<Self> {
        let dir = data_dir.join("networks");
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)?;
        Ok(Self {
            path: dir.join("desired"),
            overlay: dir.join("overlay"),
        })
    }

    /// The overlay address to use: the one that was found, else the last one that
    /// ever was. Names of controllers may not resolve just when all of them are
    /// down, and then flows between hosts must go on.
    pub fn overlay(&self, found: Option<Ipv4Addr>) -> io::Result<Option<Ipv4Addr>> {
        let kept = match std::fs::read_to_string(&self.overlay) {
            Ok(text) => text.trim().parse().ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if let Some(found) = found.filter(|found| Some(*found) != kept) {
            durable::replace(&self.overlay, found.to_string().as_bytes(), 0o600)?;
        }
        Ok(found.or(kept))
    }

    /// What was kept. A damaged file is moved aside: the leader tells it again.
    pub fn load(&self) -> io::Result<Option<DesiredNetworks>> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let decoded = unsealed(&bytes).and_then(|body| DesiredNetworks::decode(body).ok());
        if decoded.is_none() {
            tracing::error!(path = %self.path.display(), "unreadable networks are moved aside");
            std::fs::rename(&self.path, self.path.with_extension("unreadable"))?;
        }
        Ok(decoded)
    }

    /// Makes it durable.
    pub fn keep(&self, networks: &DesiredNetworks) -> io::Result<()> {
        let body = networks.encode_to_vec();
        let mut bytes = digest(&body).to_vec();
        bytes.extend(body);
        durable::replace(&self.path, &bytes, 0o600)
    }
}

fn digest(body: &[u8]) -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(body).into()
}

fn unsealed(bytes: &[u8]) -> Option<&[u8]> {
    let (sum, body) = bytes.split_first_chunk::<32>()?;
    (*sum == digest(body)).then_some(body)
}

#[cfg(test)]
mod test {
    use super::*;
    use nube_proto::agent::v1::DesiredNetwork;

    #[test]
    fn the_last_overlay_address_is_remembered() {
        let dir = tempfile::tempdir().expect("dir");
        let store = Store::open(dir.path()).expect("open");
        let (one, two) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
        assert_eq!(store.overlay(None).expect("none"), None);
        for (found, used) in [(Some(one), one), (None, one), (Some(two), two), (None, two)] {
            assert_eq!(store.overlay(found).expect("kept"), Some(used));
        }
    }

    #[test]
    fn networks_come_back_and_damage_is_noticed() {
        let dir = tempfile::tempdir().expect("dir");
        let store = Store::open(dir.path()).expect("open");
        assert_eq!(store.load().expect("none"), None);
        let networks = DesiredNetworks {
            revision: 7,
            networks: vec![DesiredNetwork::default()],
        };
        store.keep(&networks).expect("kept");
        assert_eq!(store.load().expect("kept"), Some(networks));
        let good = std::fs::read(&store.path).expect("bytes");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&store.path, &bad).expect("damage");
            assert_eq!(store.load().expect("noticed"), None, "byte {at}");
            assert!(store.path.with_extension("unreadable").exists());
        }
    }
}
