//! `image import`: check here, send what is missing, register.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use nube_proto::v1::image_service_client::ImageServiceClient;
use nube_proto::v1::{
    Datasource, Image, RegisterImageRequest, UploadBlobRequest, UploadBlobResponse,
    upload_blob_request,
};
use nube_types::limits::CHUNK_BYTES;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::manifest::{Checked, Manifest};
use crate::client::Client;
use crate::error::{Context, Error, Exit, Result};
use crate::output::progress::Progress;

/// Chunks read ahead of the network.
const QUEUE: usize = 4;
/// A slow link may take this long for one file; dead ones are noticed by pings.
const UPLOAD_MAX: Duration = Duration::from_secs(6 * 3600);

/// Returns the registered image, also when it was there already.
pub async fn run(client: &Client, dir: &Path, name: Option<String>) -> Result<Image> {
    let manifest = Manifest::read(dir)?;
    let wanted = manifest.image(name)?;
    // Hashing a large disk takes seconds: not on a thread that must answer.
    let checked_dir = dir.to_owned();
    let check = move || manifest.check_files(&checked_dir);
    let files = tokio::task::spawn_blocking(check)
        .await
        .context("check")??;
    let progress = Progress::new();
    let there = existing(client, &wanted).await?;
    // Also for an image that is there: after a restore its files may not be.
    for file in &files {
        let answer = upload(client, file, &progress).await?;
        let how = if answer.existed {
            "already there"
        } else {
            "sent"
        };
        progress.say(&format!(
            "{}: {how}, {} bytes",
            file.what, file.blob.size_bytes
        ));
    }
    if let Some(there) = there {
        progress.say(&format!("{}: already there, identical", there.name));
        return Ok(there);
    }
    let request = RegisterImageRequest {
        request_id: client.request_id(),
        image: Some(wanted),
    };
    let register = |channel| {
        let request = request.clone();
        async move {
            ImageServiceClient::new(channel)
                .register_image(request)
                .await
        }
    };
    client.call("register image", register).await
}

/// The image of that name if it is the same; a different one is a conflict.
async fn existing(client: &Client, wanted: &Image) -> Result<Option<Image>> {
    let there = match super::get(client, wanted.name.clone()).await {
        Ok(there) => there,
        Err(error) if error.exit() == Exit::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if same_content(&there, wanted) {
        return Ok(Some(there));
    }
    let name = &wanted.name;
    let text = format!("an image `{name}` exists and is a different one");
    Err(Error::new(Exit::Conflict, text).hint(format!(
        "register under another name with --name, or `cloudctl image delete {name}`"
    )))
}

/// Equal in everything but what the cloud decides.
fn same_content(there: &Image, wanted: &Image) -> bool {
    let mut there = there.clone();
    there.id = wanted.id.clone();
    there.project_id = wanted.project_id.clone();
    there.created_at_ms = wanted.created_at_ms;
    there.revision = wanted.revision;
    // A controller from before sources says none, and means the seed.
    if there.datasource() == Datasource::Unspecified {
        there.set_datasource(Datasource::Seed);
    }
    there == *wanted
}

async fn upload(
    client: &Client,
    file: &Checked,
    progress: &Progress,
) -> Result<UploadBlobResponse> {
    let bar = progress.bytes(file.what, file.blob.size_bytes);
    let send = |channel| {
        // A fresh stream for each attempt: it always begins at the first byte.
        let stream = chunks(file.clone(), bar.clone());
        async move { ImageServiceClient::new(channel).upload_blob(stream).await }
    };
    let answer = client.call_slow("upload", UPLOAD_MAX, send).await;
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    answer
}

fn chunks(file: Checked, bar: Option<indicatif::ProgressBar>) -> ReceiverStream<UploadBlobRequest> {
    let (sender, queue) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        // The receiver's end means that the server wants no more; a read error
        // ends the stream early, and the server misses bytes and says so.
        if let Err(error) = feed(&file, &sender, bar).await {
            eprintln!("{}: {}", file.what, error.message());
        }
    });
    ReceiverStream::new(queue)
}

async fn feed(
    file: &Checked,
    sender: &mpsc::Sender<UploadBlobRequest>,
    bar: Option<indicatif::ProgressBar>,
) -> std::result::Result<(), Status> {
    let message = |message| UploadBlobRequest {
        message: Some(message),
    };
    let first = message(upload_blob_request::Message::Blob(file.blob.clone()));
    if sender.send(first).await.is_err() {
        return Ok(());
    }
    let broken = |error: std::io::Error| Status::data_loss(error.to_string());
    let mut source = tokio::fs::File::open(&file.path).await.map_err(broken)?;
    if let Some(bar) = &bar {
        bar.set_position(0);
    }
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let len = source.read(&mut buffer).await.map_err(broken)?;
        if len == 0 {
            return Ok(());
        }
        let data = Bytes::copy_from_slice(&buffer[..len]);
        let data = message(upload_blob_request::Message::Data(data));
        if sender.send(data).await.is_err() {
            return Ok(());
        }
        if let Some(bar) = &bar {
            bar.inc(len as u64);
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn only_content_decides_about_identity() {
        let wanted = Image {
            name: "micro".into(),
            cmdline: "quiet".into(),
            datasource: Datasource::Seed.into(),
            ..Image::default()
        };
        let mut there = Image {
            id: "img-1".into(),
            project_id: "p-1".into(),
            created_at_ms: 7,
            revision: 8,
            ..wanted.clone()
        };
        assert!(same_content(&there, &wanted));
        there.set_datasource(Datasource::Unspecified);
        assert!(same_content(&there, &wanted));
        there.set_datasource(Datasource::Ec2);
        assert!(!same_content(&there, &wanted));
        there.set_datasource(Datasource::Seed);
        there.cmdline = "loud".into();
        assert!(!same_content(&there, &wanted));
    }

    #[tokio::test]
    async fn a_file_becomes_one_header_and_chunks() {
        use tokio_stream::StreamExt;
        let dir = super::super::manifest::test::sample();
        let path = dir.path().join("big");
        std::fs::write(&path, vec![7_u8; CHUNK_BYTES + 5]).expect("written");
        let file = Checked {
            what: "disk",
            path,
            blob: Default::default(),
        };
        let messages: Vec<_> = chunks(file, None).collect().await;
        let sizes = messages.iter().map(|m| match &m.message {
            Some(upload_blob_request::Message::Data(data)) => data.len(),
            _ => 0,
        });
        assert_eq!(messages.len(), 3);
        assert!(sizes.clone().all(|len| len <= CHUNK_BYTES));
        assert_eq!(sizes.sum::<usize>(), CHUNK_BYTES + 5);
    }
}
