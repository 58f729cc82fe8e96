//! Images: files first, by digest; then the record that names them.

use std::sync::Arc;

use nube_proto::v1;
use nube_proto::v1::image_service_server::ImageService;
use nube_state::command::RegisterImage;
use nube_state::{Blob, Command, Datasource, DiskFormat, Kind, Outcome, image};
use nube_types::limits::{CMDLINE_BYTES_MAX, IMAGE_FILE_BYTES_MAX};
use nube_types::{ImageId, Mib, Name, ProjectId};
use tonic::{Request, Response, Status, Streaming};

use super::mutation::{self, Mutation};
use super::{convert, field, page, resolve, status};
use crate::authorise;
use crate::blob::BlobError;
use crate::cell::Cell;

/// Handlers.
pub struct Service(pub Arc<Cell>);

const USER_BYTES_MAX: usize = 32;

fn blob_status(field: &str, error: &BlobError) -> Status {
    match error {
        BlobError::Absent(_) => status::precondition("BLOB_MISSING", format!("{field}: {error}")),
        BlobError::Mismatch(text) => status::invalid(field, text.clone()),
        BlobError::Store(cause) => status::fault("storing a file", cause),
    }
}

impl Service {
    /// A file that must be stored already, with its true size.
    async fn stored(&self, field: &str, blob: &v1::Blob) -> Result<Blob, Status> {
        let sha256 = field::sha256(&format!("{field}.sha256"), &blob.sha256)?;
        let size_bytes = self
            .0
            .blobs
            .size(&sha256)
            .await
            .map_err(|error| blob_status(field, &error))?;
        if blob.size_bytes != 0 && blob.size_bytes != size_bytes {
            let rule = format!("the stored file has {size_bytes} bytes");
            return Err(status::invalid(&format!("{field}.size_bytes"), rule));
        }
        Ok(Blob { sha256, size_bytes })
    }

    async fn optional(&self, field: &str, blob: Option<&v1::Blob>) -> Result<Option<Blob>, Status> {
        match blob {
            Some(blob) => self.stored(field, blob).await.map(Some),
            None => Ok(None),
        }
    }

    async fn check(
        &self,
        project: ProjectId,
        name: Name,
        image: &v1::Image,
    ) -> Result<RegisterImage, Status> {
        let disk = image
            .disk
            .as_ref()
            .ok_or_else(|| status::invalid("image.disk", "required"))?;
        let disk_format = match v1::DiskFormat::try_from(image.disk_format) {
            Ok(v1::DiskFormat::Raw) => DiskFormat::Raw,
            Ok(v1::DiskFormat::Qcow2) => DiskFormat::Qcow2,
            _ => {
                return Err(status::invalid(
                    "image.disk_format",
                    "raw or qcow2, always named",
                ));
            }
        };
        if image.architecture != "x86_64" {
            return Err(status::invalid("image.architecture", "x86_64"));
        }
        if image.virtual_size_bytes == 0 || image.virtual_size_bytes > IMAGE_FILE_BYTES_MAX {
            let rule = format!("1 to {IMAGE_FILE_BYTES_MAX}");
            return Err(status::invalid("image.virtual_size_bytes", rule));
        }
        if image.kernel.is_some() != image.initrd.is_some() {
            return Err(status::invalid(
                "image.initrd",
                "kernel and initrd go together",
            ));
        }
        let user = Name::new(&image.user)
            .ok()
            .filter(|user| user.as_str().len() <= USER_BYTES_MAX)
            .ok_or_else(|| status::invalid("image.user", "a login name: a-z, 0-9, '-'"))?;
        Ok(RegisterImage {
            project,
            id: ImageId(rand::random()),
            name,
            version: field::printable("image.version", &image.version, 63)?,
            architecture: image.architecture.clone(),
            user: user.to_string(),
            disk: self.stored("image.disk", disk).await?,
            disk_format,
            virtual_size_bytes: image.virtual_size_bytes,
            kernel: self.optional("image.kernel", image.kernel.as_ref()).await?,
            initrd: self.optional("image.initrd", image.initrd.as_ref()).await?,
            cmdline: field::printable("image.cmdline", &image.cmdline, CMDLINE_BYTES_MAX)?,
            memory_min: Mib(image.memory_mib_min.min(1 << 30)),
            disk_min: Mib(image.disk_mib_min.min(1 << 30)),
            datasource: match image.datasource() {
                v1::Datasource::Unspecified | v1::Datasource::Seed => Datasource::Seed,
                v1::Datasource::Ec2 => Datasource::Ec2,
            },
        })
    }
}

#[tonic::async_trait]
impl ImageService for Service {
    async fn upload_blob(
        &self,
        request: Request<Streaming<v1::UploadBlobRequest>>,
    ) -> Result<Response<v1::UploadBlobResponse>, Status> {
        use v1::upload_blob_request::Message;
        let mut parts = request.into_inner();
        let first = parts.message().await?.and_then(|part| part.message);
        let Some(Message::Blob(blob)) = first else {
            return Err(status::invalid("blob", "required in the first message"));
        };
        let sha256 = field::sha256("blob.sha256", &blob.sha256)?;
        if blob.size_bytes == 0 || blob.size_bytes > IMAGE_FILE_BYTES_MAX {
            let rule = format!("1 to {IMAGE_FILE_BYTES_MAX}");
            return Err(status::invalid("blob.size_bytes", rule));
        }
        if self.0.blobs.size(&sha256).await.is_ok() {
            let answer = v1::UploadBlobResponse {
                blob: Some(blob),
                existed: true,
            };
            return Ok(Response::new(answer));
        }
        let wrong = |error: BlobError| blob_status("data", &error);
        let mut upload = self
            .0
            .blobs
            .upload(sha256, blob.size_bytes)
            .await
            .map_err(wrong)?;
        loop {
            let result = match parts.message().await {
                Ok(None) => break,
                Ok(Some(v1::UploadBlobRequest {
                    message: Some(Message::Data(data)),
                })) => upload.write(data).await.map_err(wrong),
                Ok(Some(_)) => Err(status::invalid("data", "bytes after the first message")),
                Err(status) => Err(status),
            };
            if let Err(status) = result {
                upload.abort().await;
                return Err(status);
            }
        }
        upload.finish().await.map_err(wrong)?;
        Ok(Response::new(v1::UploadBlobResponse {
            blob: Some(blob),
            existed: false,
        }))
    }

    async fn register_image(
        &self,
        request: Request<v1::RegisterImageRequest>,
    ) -> Result<Response<v1::Image>, Status> {
        let (caller, mut message) = mutation::take(request)?;
        let request_id = std::mem::take(&mut message.request_id);
        let image = message
            .image
            .as_ref()
            .ok_or_else(|| status::invalid("image", "required"))?;
        let name = field::name("image.name", &image.name)?;
        let state = self.0.read().await?;
        let mutation = Mutation::begin(caller, &request_id, &message)?;
        let outcome = match mutation.recall(&state)? {
            Some(outcome) => outcome,
            None => {
                let command = self.check(mutation.request.project, name, image).await?;
                mutation
                    .commit(&self.0, Command::RegisterImage(command))
                    .await?
                    .1
            }
        };
        let state = self.0.views.now();
        match outcome {
            Outcome::Image(id) => {
                let image = state.images.get(&id);
                let image = image.ok_or_else(|| status::not_found(Kind::Image, &id.to_string()))?;
                Ok(Response::new(convert::image(image)))
            }
            other => Err(status::fault("registering an image", &format!("{other:?}"))),
        }
    }

    async fn get_image(
        &self,
        request: Request<v1::GetImageRequest>,
    ) -> Result<Response<v1::Image>, Status> {
        let caller = authorise::caller(&request)?;
        let state = self.0.read().await?;
        let project = caller.project;
        let image = resolve::image(&state, project, &request.get_ref().image)?;
        Ok(Response::new(convert::image(image)))
    }

    async fn list_images(
        &self,
        request: Request<v1::ListImagesRequest>,
    ) -> Result<Response<v1::ListImagesResponse>, Status> {
        let (caller, message) = mutation::take(request)?;
        let state = self.0.read().await?;
        let images = image::of_project(&state, caller.project);
        let (page, next_page_token) = page::cut(
            images,
            |image| image.id,
            message.page_size,
            &message.page_token,
        )?;
        let images = page.into_iter().map(convert::image).collect();
        let revision = state.index;
        Ok(Response::new(v1::ListImagesResponse {
            images,
            next_page_token,
            revision,
        }))
    }

    async fn delete_image(
        &self,
        request: Request<v1::DeleteImageRequest>,
    ) -> Result<Response<v1::DeleteImageResponse>, Status> {
        let (caller, mut message) = mutation::take(request)?;
        let request_id = std::mem::take(&mut message.request_id);
        let state = self.0.read().await?;
        let mutation = Mutation::begin(caller, &request_id, &message)?;
        if mutation.recall(&state)?.is_none() {
            let project = mutation.request.project;
            let id = resolve::image(&state, project, &message.image)?.id;
            mutation
                .commit(&self.0, Command::DeleteImage(project, id))
                .await?;
        }
        Ok(Response::new(v1::DeleteImageResponse {}))
    }
}
