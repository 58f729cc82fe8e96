//! What disks, people and backups do to files.

use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::directory::Directory;

/// Bits flipped in each file, beyond its edges; `NUBE_SWEEP=<n>` tries n times as many.
const SAMPLES: usize = 250;
const SAMPLES_STORE: usize = 150;
/// The first and the last bytes of a file are where headers and ends are.
const EDGE_BYTES: u64 = 200;
const CUTS: u64 = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Segment,
    Superblock,
    Snapshot,
    Spare,
    Store,
    Identity,
    Other,
}

impl Kind {
    pub fn of(path: &Path) -> Self {
        let text = path.display().to_string();
        match () {
            () if text.ends_with(".wal") => Self::Segment,
            () if text.contains("raft/superblock") => Self::Superblock,
            () if text.ends_with(".snap") => Self::Snapshot,
            () if text.contains("raft/wal/spare-") => Self::Spare,
            () if text.starts_with("data/store") => Self::Store,
            () if text.starts_with("data/") => Self::Other,
            () => Self::Identity,
        }
    }
}

#[derive(Clone, Debug)]
pub enum How {
    Nothing,
    Flip(u64),
    Cut(u64),
    Missing,
    /// As it was in an older copy of the directory.
    Older,
    WholeLogMissing,
    WholeLogOlder,
    ForeignStore,
}

impl How {
    pub fn word(&self) -> &'static str {
        match self {
            Self::Nothing => "untouched",
            Self::Flip(_) => "a bit flipped",
            Self::Cut(_) => "cut",
            Self::Missing => "missing",
            Self::Older => "from an older copy",
            Self::WholeLogMissing => "log gone",
            Self::WholeLogOlder => "log older",
            Self::ForeignStore => "of another cluster",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Damage {
    pub kind: Kind,
    pub path: PathBuf,
    pub how: How,
}

impl Damage {
    pub fn none() -> Self {
        Self::all(How::Nothing)
    }

    pub fn whole_log() -> Self {
        Self::all(How::WholeLogMissing)
    }

    pub fn older_log() -> Self {
        Self::all(How::WholeLogOlder)
    }

    pub fn foreign_store() -> Self {
        Self::all(How::ForeignStore)
    }

    /// Where the reason is the relation of two files, or the directory, it names those.
    pub fn names_itself(&self, reason: &str) -> bool {
        match self.kind {
            Kind::Segment | Kind::Superblock => ["Amnesia", "raft/wal", "holds no log"]
                .iter()
                .any(|word| reason.contains(word)),
            // A spoiled setting is named by what it leads to: another file, another member.
            Kind::Identity => self.path.ends_with("controller.toml") && !reason.is_empty(),
            _ => false,
        }
    }

    fn all(how: How) -> Self {
        Self {
            kind: Kind::Other,
            path: PathBuf::new(),
            how,
        }
    }

    /// The file as a start would find it; `None` when it is not there.
    pub fn apply(&self, path: &Path, now: Option<&[u8]>, older: Option<&[u8]>) -> Option<Vec<u8>> {
        let log = path.starts_with("data/raft");
        match self.how {
            How::WholeLogMissing if log => return None,
            How::WholeLogOlder if log => return older.map(<[u8]>::to_vec),
            _ => {}
        }
        if path != self.path {
            return now.map(<[u8]>::to_vec);
        }
        match self.how {
            How::Flip(bit) => {
                let mut bytes = now?.to_vec();
                bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
                Some(bytes)
            }
            How::Cut(len) => Some(now?[..len as usize].to_vec()),
            How::Missing => None,
            How::Older => older.map(<[u8]>::to_vec),
            _ => now.map(<[u8]>::to_vec),
        }
    }
}

/// Every damage of every file of this kind.
pub fn damages(directory: &Directory, wanted: Kind) -> Vec<Damage> {
    let mut random = StdRng::seed_from_u64(1);
    let mut all = Vec::new();
    let more = std::env::var("NUBE_SWEEP")
        .ok()
        .and_then(|n| n.parse().ok());
    let more: usize = more.unwrap_or(1);
    for (path, bytes) in &directory.now {
        let kind = Kind::of(path);
        if kind != wanted {
            continue;
        }
        let mut add = |how| {
            let path = path.clone();
            all.push(Damage { kind, path, how });
        };
        add(How::Missing);
        if directory.older.get(path) != Some(bytes) {
            add(How::Older);
        }
        let len = bytes.len() as u64;
        for cut in 0..CUTS.min(len) {
            add(How::Cut(len * cut / CUTS.min(len)));
        }
        let samples = more
            * match kind {
                Kind::Store => SAMPLES_STORE,
                _ => SAMPLES,
            };
        if len * 8 <= 8 * samples as u64 {
            (0..len * 8).for_each(|bit| add(How::Flip(bit)));
            continue;
        }
        if kind != Kind::Store {
            let edges = (0..EDGE_BYTES).chain(len - EDGE_BYTES..len);
            edges.for_each(|at| add(How::Flip(at * 8 + random.random_range(0..8))));
        }
        // Zeros that nobody reads are most of a segment: half of the flips go where bytes are.
        let used: Vec<u64> = (0..len).filter(|at| bytes[*at as usize] != 0).collect();
        for sample in 0..samples {
            let at = match used.is_empty() || sample % 4 == 0 {
                true => random.random_range(0..len),
                false => used[random.random_range(0..used.len())],
            };
            add(How::Flip(at * 8 + random.random_range(0..8)));
        }
    }
    all
}
