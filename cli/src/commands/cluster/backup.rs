//! `cluster backup`: the stream becomes a file, whole and checked or not at all.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use nube_proto::backup::Writer;
use nube_proto::v1::cluster_service_client::ClusterServiceClient;
use nube_proto::v1::{BackupChunk, BackupClusterRequest, BackupHeader, backup_chunk};
use tonic::Streaming;

use super::App;
use crate::args::cluster::Backup;
use crate::error::{Context, Error, Result};
use crate::output::table::Fields;
use crate::output::text::time;

type Fresh = Writer<BufWriter<tempfile::NamedTempFile>>;

/// Saves the state and says what was saved.
pub async fn run(app: &App, args: &Backup) -> Result<()> {
    let path = &args.file;
    if !args.force && path.symlink_metadata().is_ok() {
        return Err(exists(path));
    }
    let client = app.client()?;
    let begin = |channel| async move {
        ClusterServiceClient::new(channel)
            .backup_cluster(BackupClusterRequest {})
            .await
    };
    let mut stream = client.call("backup", begin).await?;
    let dir = match path.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    };
    let header = header(&mut stream).await?;
    // Mode 0600 from its first moment on.
    let fresh = tempfile::NamedTempFile::new_in(dir).context(format!("`{}`", dir.display()))?;
    let writer = Writer::new(BufWriter::new(fresh), &header).context("backup")?;
    let writer = receive(&mut stream, writer).await?;
    // Size and digest are compared in here.
    let buffer = writer.finish().context("backup")?;
    let fresh = buffer
        .into_inner()
        .context(format!("`{}`", path.display()))?;
    keep(fresh, dir, path, args.force)?;
    app.output.message(&header, |_| view(path, &header))
}

async fn header(stream: &mut Streaming<BackupChunk>) -> Result<BackupHeader> {
    match next(stream).await? {
        Some(backup_chunk::Message::Header(header)) => Ok(header),
        _ => Err(Error::failed("backup: the controller sent no header")),
    }
}

async fn receive(stream: &mut Streaming<BackupChunk>, mut writer: Fresh) -> Result<Fresh> {
    while let Some(message) = next(stream).await? {
        let backup_chunk::Message::Data(data) = message else {
            return Err(Error::failed("backup: the controller sent two headers"));
        };
        writer.write(&data).context("backup")?;
    }
    Ok(writer)
}

async fn next(stream: &mut Streaming<BackupChunk>) -> Result<Option<backup_chunk::Message>> {
    let message = stream.message().await;
    let message = message.map_err(|status| Error::from_status("backup", &status))?;
    Ok(message.and_then(|chunk| chunk.message))
}

/// Gives the file its name once it is on disk.
fn keep(fresh: tempfile::NamedTempFile, dir: &Path, path: &Path, force: bool) -> Result<()> {
    let name = || format!("`{}`", path.display());
    fresh.as_file().sync_all().context(name())?;
    let kept = match force {
        true => fresh.persist(path),
        false => fresh.persist_noclobber(path),
    };
    match kept {
        Ok(_) => {}
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(exists(path));
        }
        Err(error) => return Err(error.error).context(name()),
    }
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .context(format!("`{}`", dir.display()))
}

fn exists(path: &Path) -> Error {
    Error::failed(format!("`{}` exists", path.display()))
        .hint("choose another name, or replace it with --force")
}

fn view(path: &Path, header: &BackupHeader) -> String {
    let mut fields = Fields::default();
    fields.add("file", path.display().to_string());
    fields.add("cluster", &header.cluster_id);
    fields.add("index", header.index.to_string());
    fields.add("time", time(header.time_ms));
    fields.add("state hash", &header.state_hash);
    fields.add("size", format!("{} bytes", header.size_bytes));
    fields.add("sha256", &header.sha256);
    format!(
        "{}Keep `cluster.secret` of a controller too, and apart from it: a restore needs both.\n",
        fields.render()
    )
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_backup_says_what_it_is_and_never_overwrites() {
        let header = BackupHeader {
            cluster_id: "0123456789abcdef0123456789abcdef".into(),
            index: 43,
            time_ms: 1_790_000_000_000,
            state_hash: "ab".repeat(32),
            size_bytes: 1_234,
            sha256: "cd".repeat(32),
            ..BackupHeader::default()
        };
        crate::golden::check("cluster_backup", &view(Path::new("cell.nube"), &header));
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("cell.nube");
        std::fs::write(&path, "older").expect("written");
        let fresh = || tempfile::NamedTempFile::new_in(dir.path()).expect("made");
        let error = keep(fresh(), dir.path(), &path, false).expect_err("it exists");
        assert!(error.render().contains("--force"));
        assert_eq!(std::fs::read(&path).expect("there"), b"older");
        keep(fresh(), dir.path(), &path, true).expect("forced");
        assert_eq!(std::fs::read(&path).expect("there"), b"");
    }
}
