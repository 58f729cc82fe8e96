//! Backups: the state at one index as canonical bytes, and a header that says
//! what they are. Taken from a view by the API, or from what a stopped member
//! has on disk when no majority is left to ask (`backup-offline`); read again by
//! `restore.rs`.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::Context;
use nube_proto::backup::{Writer, read};
use nube_proto::v1::BackupHeader;
use nube_state::{State, codec};
use sha2::{Digest, Sha256};

use crate::config::Config;

/// Makes a backup file from the data of a stopped controller, for the case that
/// no majority is left to make one.
#[derive(Debug, clap::Args)]
pub struct OfflineArgs {
    /// The stopped controller's `controller.toml`.
    #[arg(long)]
    pub config: PathBuf,
    /// The file to make; readable by its owner alone.
    pub file: PathBuf,
    /// Replace the file when it exists.
    #[arg(long)]
    pub force: bool,
}

/// A backup that was read and checked.
pub struct Backup {
    /// What it says of itself.
    pub header: BackupHeader,
    /// What the cell knew.
    pub state: State,
}

/// The state's bytes and their description.
#[must_use]
pub fn take(state: &State, cluster_id: &str, term: u64) -> (BackupHeader, Vec<u8>) {
    let data = codec::encode_snapshot(state);
    let header = BackupHeader {
        cluster_id: cluster_id.to_owned(),
        index: state.index,
        time_ms: state.time.0,
        state_hash: hex::encode(codec::state_hash(state)),
        size_bytes: data.len() as u64,
        sha256: hex::encode(Sha256::digest(&data)),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        term,
    };
    (header, data)
}

/// Reads a file and checks that its state is what its header says.
pub fn load(path: &Path) -> anyhow::Result<Backup> {
    let what = || format!("backup {}", path.display());
    let file = File::open(path).with_context(what)?;
    let (header, data) = read(file).with_context(what)?;
    let state = codec::decode_snapshot(&data).with_context(what)?;
    let hash = hex::encode(codec::state_hash(&state));
    anyhow::ensure!(
        hash == header.state_hash && state.index == header.index,
        "{}: its state is at index {} with hash {hash}, its header says {} and {}",
        what(),
        state.index,
        header.index,
        header.state_hash
    );
    Ok(Backup { header, state })
}

/// Writes a whole file or none; an existing one stays unless `force`.
pub fn save(path: &Path, force: bool, header: &BackupHeader, data: &[u8]) -> anyhow::Result<()> {
    let dir = match path.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    };
    // Mode 0600 from its first moment on.
    let fresh = tempfile::NamedTempFile::new_in(dir)
        .with_context(|| format!("making a file in {}", dir.display()))?;
    let mut writer = Writer::new(BufWriter::new(fresh), header)?;
    writer.write(data)?;
    let fresh = writer.finish()?.into_inner().context("writing the file")?;
    fresh.as_file().sync_all()?;
    let kept = match force {
        true => fresh.persist(path),
        false => fresh.persist_noclobber(path),
    };
    // Only the cause is kept: the fresh file goes with the rest of the error.
    let kept = kept.map_err(|error| error.error);
    kept.with_context(|| format!("naming {}", path.display()))?;
    Ok(File::open(dir)?.sync_all()?)
}

/// `backup-offline`.
pub fn offline(args: &OfflineArgs) -> anyhow::Result<()> {
    let config =
        Config::load(&args.config).with_context(|| format!("reading {}", args.config.display()))?;
    let raft = config.data_dir.join("raft");
    let replay = nube_consensus::replay(&raft)
        .with_context(|| format!("reading the log in {}", raft.display()))?;
    let (term, last) = replay.last;
    println!(
        "controller {}: its log ends at term {term}, index {last}; \
         known to be committed: up to {}",
        config.id, replay.commit
    );
    let state = replayed(&replay)?;
    anyhow::ensure!(
        state.cluster.is_some(),
        "this log holds no cell yet: there is nothing to back up"
    );
    let (header, data) = take(&state, &config.cluster_id, term);
    save(&args.file, args.force, &header, &data)?;
    println!(
        "{}: index {}, state hash {}, {} bytes",
        args.file.display(),
        header.index,
        header.state_hash,
        header.size_bytes
    );
    println!(
        "Do this on every controller that is left, and restore from the one whose log ends at \
         the highest term, then the highest index."
    );
    Ok(())
}

/// The newest snapshot and the whole log after it. Entries that are not known to
/// be committed count: the majority that is lost may have acknowledged them.
fn replayed(replay: &nube_consensus::Replay) -> anyhow::Result<State> {
    let mut state = match replay.body.is_empty() {
        true => State::default(),
        false => codec::decode_snapshot(&replay.body).context("the newest snapshot")?,
    };
    state.index = state.index.max(replay.meta.index);
    for (index, _term, data) in replay.all() {
        let envelope = codec::decode_envelope(data);
        let envelope = envelope.with_context(|| format!("log entry {index}"))?;
        nube_state::apply(&mut state, index, &envelope);
    }
    Ok(state)
}

#[cfg(test)]
mod test {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_private_whole_and_never_overwritten_by_accident() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("cell.backup");
        let mut state = State::default();
        state.index = 7;
        let (header, data) = take(&state, "c1", 3);
        save(&path, false, &header, &data).expect("written");
        let mode = std::fs::metadata(&path).expect("there").permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        let read = load(&path).expect("whole");
        assert_eq!((read.header, read.state.index), (header.clone(), 7));
        let error = save(&path, false, &header, &data).expect_err("it exists");
        assert!(format!("{error:#}").contains("exists"), "{error:#}");
        save(&path, true, &header, &data).expect("with force");
        let left = std::fs::read_dir(dir.path()).expect("readable").count();
        assert_eq!(left, 1, "no temporary file stays");
    }

    #[test]
    fn a_header_that_belongs_to_another_state_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("cell.backup");
        let (mut header, data) = take(&State::default(), "c1", 3);
        header.index = 8;
        save(&path, false, &header, &data).expect("a sound container");
        let error = load(&path).err().expect("refused");
        assert!(format!("{error:#}").contains("header says 8"), "{error:#}");
    }
}
