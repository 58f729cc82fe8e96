//! Images: names and digests of stored files. The bytes live in the object
//! store; here is what they are and who uses them.

use minicbor::{Decode, Encode};
use nube_types::limits::IMAGES_MAX;
use nube_types::{ImageId, Mib, Name, ProjectId, TimestampMs};

use crate::command::RegisterImage;
use crate::outcome::{Kind, Outcome, Refusal};
use crate::project;
use crate::state::State;
use crate::table::Record;

/// A stored file, named by its content.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Blob {
    /// Digest of the bytes.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub sha256: [u8; 32],
    /// Length of the file.
    #[n(1)]
    pub size_bytes: u64,
}

/// How a disk image is stored; always said, never probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum DiskFormat {
    /// Plain bytes.
    #[n(0)]
    Raw,
    /// QEMU copy-on-write without references to other files.
    #[n(1)]
    Qcow2,
}

/// Where an image's guests look for their name, keys and user-data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Datasource {
    /// In a seed that the host attaches.
    #[default]
    #[n(0)]
    Seed,
    /// At EC2's metadata service alone.
    #[n(1)]
    Ec2,
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Image {
    /// Its id.
    #[n(0)]
    pub id: ImageId,
    /// When it was registered.
    #[n(1)]
    pub created_at: TimestampMs,
    /// Log index of the last change.
    #[n(2)]
    pub revision: u64,
    /// All that was registered.
    #[n(3)]
    pub spec: RegisterImage,
}

impl Record for Image {
    type Key = ImageId;
    const TABLE: u8 = 2;
    fn key(&self) -> ImageId {
        self.id
    }
}

impl Image {
    /// The image's name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.spec.name
    }

    /// Every stored file it needs.
    pub fn blobs(&self) -> impl Iterator<Item = &Blob> {
        let boot = self.spec.kernel.iter().chain(self.spec.initrd.iter());
        std::iter::once(&self.spec.disk).chain(boot)
    }

    /// The root disk a type must offer at least.
    #[must_use]
    pub fn disk_min(&self) -> Mib {
        let virtual_mib = self.spec.virtual_size_bytes.div_ceil(1024 * 1024);
        Mib(virtual_mib.max(self.spec.disk_min.0))
    }
}

/// A project's images in id order.
pub fn of_project(state: &State, project: ProjectId) -> impl Iterator<Item = &Image> {
    state
        .images
        .iter()
        .filter(move |image| image.spec.project == project)
}

pub(crate) fn register(state: &mut State, command: &RegisterImage) -> Result<Outcome, Refusal> {
    if state.images.get(&command.id).is_some() {
        return Err(Refusal::IdTaken(command.id.to_string()));
    }
    if of_project(state, command.project).any(|image| image.spec.name == command.name) {
        return Err(Refusal::NameTaken {
            kind: Kind::Image,
            name: command.name.clone(),
        });
    }
    if state.images.len() >= IMAGES_MAX {
        let limit = IMAGES_MAX as u64;
        return Err(Refusal::LimitReached {
            what: "images".to_owned(),
            limit,
        });
    }
    let (project, count) = (command.project, of_project(state, command.project).count());
    project::check_one_more(state, project, "images", count as u64, |quota| quota.images)?;
    let (created_at, revision) = (state.time, state.index);
    state.images.put(Image {
        id: command.id,
        created_at,
        revision,
        spec: command.clone(),
    });
    Ok(Outcome::Image(command.id))
}

pub(crate) fn delete(
    state: &mut State,
    project: ProjectId,
    id: ImageId,
) -> Result<Outcome, Refusal> {
    let image = match state.images.get(&id) {
        Some(image) if image.spec.project == project => image.clone(),
        _ => {
            return Err(Refusal::NotFound {
                kind: Kind::Image,
                reference: id.to_string(),
            });
        }
    };
    let count = state
        .derived
        .image_use
        .get(&id)
        .copied()
        .unwrap_or_default();
    if count > 0 {
        let (kind, name) = (Kind::Image, image.spec.name);
        return Err(Refusal::InUse { kind, name, count });
    }
    state.images.remove(&id);
    Ok(Outcome::Done)
}
