//! `image.json`: what a directory says of its image, and whether that is true.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use nube_proto::v1::{Blob, Datasource, DiskFormat, Image};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::error::{Context, Error, Result};

/// A manifest is a page of text.
const MANIFEST_BYTES_MAX: u64 = 256 * 1024;

/// The file as written by `cargo xtask image`.
#[derive(Debug, Deserialize)]
pub struct Manifest {
    name: String,
    #[serde(default)]
    version: String,
    architecture: String,
    user: String,
    /// Images from before this key read the seed.
    #[serde(default)]
    datasource: Source,
    kernel: Option<Entry>,
    initrd: Option<Entry>,
    disk: Disk,
    #[serde(default)]
    cmdline: String,
    #[serde(default)]
    memory_mib_min: u64,
    #[serde(default)]
    disk_mib_min: u64,
}

/// Where guests look for their name and keys.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Source {
    #[default]
    Seed,
    Ec2,
}

#[derive(Debug, Deserialize)]
struct Entry {
    file: String,
    sha256: String,
    size_bytes: u64,
}

#[derive(Debug, Deserialize)]
struct Disk {
    #[serde(flatten)]
    entry: Entry,
    format: String,
    virtual_size_bytes: u64,
}

/// A file to send, checked against the manifest.
#[derive(Debug, Clone)]
pub struct Checked {
    /// What it is, for people.
    pub what: &'static str,
    pub path: PathBuf,
    pub blob: Blob,
}

impl Manifest {
    /// Reads `DIR/image.json`.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("image.json");
        let name = format!("`{}`", path.display());
        let mut text = String::new();
        File::open(&path)
            .and_then(|file| file.take(MANIFEST_BYTES_MAX).read_to_string(&mut text))
            .map_err(|error| {
                Error::failed(format!("{name}: {error}"))
                    .hint("an image is a directory; `cargo xtask image micro` builds one")
            })?;
        serde_json::from_str(&text).context(name)
    }

    /// The image to register, without what the cloud decides.
    pub fn image(&self, name: Option<String>) -> Result<Image> {
        let disk_format = match self.disk.format.as_str() {
            "qcow2" => DiskFormat::Qcow2,
            "raw" => DiskFormat::Raw,
            other => {
                let text = format!("image.json: disk format `{other}` is neither qcow2 nor raw");
                return Err(Error::failed(text));
            }
        };
        Ok(Image {
            name: name.unwrap_or_else(|| self.name.clone()),
            version: self.version.clone(),
            architecture: self.architecture.clone(),
            user: self.user.clone(),
            disk: Some(self.disk.entry.blob()),
            disk_format: disk_format as i32,
            virtual_size_bytes: self.disk.virtual_size_bytes,
            kernel: self.kernel.as_ref().map(Entry::blob),
            initrd: self.initrd.as_ref().map(Entry::blob),
            cmdline: self.cmdline.clone(),
            memory_mib_min: self.memory_mib_min,
            disk_mib_min: self.disk_mib_min,
            datasource: match self.datasource {
                Source::Seed => Datasource::Seed,
                Source::Ec2 => Datasource::Ec2,
            }
            .into(),
            ..Image::default()
        })
    }

    /// Hashes every file: a broken build or a bad copy is found before it is
    /// sent, and named.
    pub fn check_files(&self, dir: &Path) -> Result<Vec<Checked>> {
        let kernel = self.kernel.as_ref().map(|entry| ("kernel", entry));
        let initrd = self.initrd.as_ref().map(|entry| ("initrd", entry));
        let all = [kernel, initrd, Some(("disk", &self.disk.entry))];
        let check = |(what, entry): (&'static str, &Entry)| entry.check(what, dir);
        all.into_iter().flatten().map(check).collect()
    }
}

impl Entry {
    fn blob(&self) -> Blob {
        Blob {
            sha256: self.sha256.clone(),
            size_bytes: self.size_bytes,
        }
    }

    fn check(&self, what: &'static str, dir: &Path) -> Result<Checked> {
        // A file name, not a path: an image from elsewhere must not pick files
        // of this machine to upload.
        let plain = !self.file.contains(['/', '\0']) && !matches!(&*self.file, "" | "." | "..");
        if !plain {
            let file = &self.file;
            return Err(Error::failed(format!(
                "image.json: `{file}` is not a file name"
            )));
        }
        let path = dir.join(&self.file);
        let name = format!("`{}`", path.display());
        let kind = std::fs::symlink_metadata(&path).context(&name)?.file_type();
        if !kind.is_file() {
            return Err(Error::failed(format!("{name} is not a regular file")));
        }
        let (sha256, size_bytes) = digest(&path)?;
        if size_bytes != self.size_bytes || sha256 != self.sha256 {
            return Err(Error::failed(format!("{name} is not what image.json says"))
                .detail(format!(
                    "image.json: {} bytes, sha256 {}",
                    self.size_bytes, self.sha256
                ))
                .detail(format!("the file:   {size_bytes} bytes, sha256 {sha256}"))
                .hint("build or copy the image again"));
        }
        Ok(Checked {
            what,
            path,
            blob: self.blob(),
        })
    }
}

fn digest(path: &Path) -> Result<(String, u64)> {
    let name = format!("`{}`", path.display());
    let mut file = File::open(path).context(&name)?;
    let mut hasher = Sha256::new();
    let size = std::io::copy(&mut file, &mut hasher).context(&name)?;
    let hex = hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok((hex, size))
}

#[cfg(test)]
pub mod test {
    use super::*;

    /// A directory with a tiny image.
    pub fn sample() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        for file in ["vmlinuz", "initrd", "disk.qcow2"] {
            std::fs::write(dir.path().join(file), file).expect("written");
        }
        let entry = |file: &str| {
            let (sha256, size) = digest(&dir.path().join(file)).expect("hashed");
            format!("\"file\":\"{file}\",\"sha256\":\"{sha256}\",\"size_bytes\":{size}")
        };
        let text = format!(
            "{{\"name\":\"micro\",\"version\":\"1\",\"architecture\":\"x86_64\",\
             \"user\":\"nube\",\"kernel\":{{{}}},\"initrd\":{{{}}},\"disk\":{{{},\
             \"format\":\"qcow2\",\"virtual_size_bytes\":1048576}},\
             \"cmdline\":\"quiet\",\"memory_mib_min\":128,\"disk_mib_min\":64}}",
            entry("vmlinuz"),
            entry("initrd"),
            entry("disk.qcow2"),
        );
        std::fs::write(dir.path().join("image.json"), text).expect("written");
        dir
    }

    #[test]
    fn a_true_manifest_is_read() {
        let dir = sample();
        let manifest = Manifest::read(dir.path()).expect("valid");
        let image = manifest.image(Some("other".into())).expect("an image");
        assert_eq!((image.name.as_str(), image.memory_mib_min), ("other", 128));
        assert_eq!(image.disk_format(), DiskFormat::Qcow2);
        assert_eq!(manifest.check_files(dir.path()).expect("true").len(), 3);
    }

    #[test]
    fn the_source_of_names_and_keys_is_the_seed_unless_said() {
        let dir = sample();
        let path = dir.path().join("image.json");
        let text = std::fs::read_to_string(&path).expect("read");
        let with = |line: &str| {
            let text = text.replacen('{', &format!("{{{line}"), 1);
            std::fs::write(&path, text).expect("written");
            let manifest = Manifest::read(dir.path());
            manifest.and_then(|manifest| Ok(manifest.image(None)?.datasource()))
        };
        for (line, source) in [
            ("", Datasource::Seed),
            ("\"datasource\":\"seed\",", Datasource::Seed),
            ("\"datasource\":\"ec2\",", Datasource::Ec2),
        ] {
            assert_eq!(with(line).expect("valid"), source, "{line}");
        }
        let error = with("\"datasource\":\"gce\",").expect_err("unknown");
        assert!(error.render().contains("gce"), "{}", error.render());
    }

    #[test]
    fn a_changed_file_is_named() {
        let dir = sample();
        std::fs::write(dir.path().join("initrd"), "inItrd").expect("written");
        let manifest = Manifest::read(dir.path()).expect("valid");
        let error = manifest
            .check_files(dir.path())
            .expect_err("changed")
            .render();
        assert!(
            error.contains("initrd` is not what image.json says"),
            "{error}"
        );
    }

    #[test]
    fn files_outside_the_directory_are_refused() {
        let dir = sample();
        let path = dir.path().join("image.json");
        let text = std::fs::read_to_string(&path).expect("readable");
        for file in ["../initrd", "/etc/shadow", "..", ""] {
            let changed = text.replace("\"file\":\"initrd\"", &format!("\"file\":\"{file}\""));
            std::fs::write(&path, changed).expect("written");
            let manifest = Manifest::read(dir.path()).expect("valid JSON");
            let error = manifest.check_files(dir.path()).expect_err(file).render();
            assert!(error.contains("not a file name"), "{error}");
        }
        std::fs::write(&path, &text).expect("written");
        std::fs::remove_file(dir.path().join("initrd")).expect("removed");
        std::os::unix::fs::symlink("/etc/hostname", dir.path().join("initrd")).expect("linked");
        let manifest = Manifest::read(dir.path()).expect("valid");
        let error = manifest
            .check_files(dir.path())
            .expect_err("a link")
            .render();
        assert!(error.contains("not a regular file"), "{error}");
    }
}
