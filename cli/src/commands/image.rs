//! `image import`, `list`, `show`, `delete`.

mod import;
mod manifest;

use nube_proto::v1::image_service_client::ImageServiceClient;
use nube_proto::v1::{
    Datasource, DeleteImageRequest, DiskFormat, GetImageRequest, Image, ListImagesRequest,
    ListImagesResponse,
};

use super::App;
use crate::args::image::Image as Verb;
use crate::client::Client;
use crate::error::Result;
use crate::output::table::{Fields, Look, Table};
use crate::output::text::{enum_word, escape, mib, or_dash, time};

/// `image …`.
pub async fn run(app: &App, verb: Verb) -> Result<()> {
    app.output.refuse_csv()?;
    let client = app.client()?;
    match verb {
        Verb::Import { source, name } => {
            let image = import::run(&client, &source, name).await?;
            app.output.message(&image, |_| details(&image))
        }
        Verb::List => {
            let all = list_all(&client).await?;
            app.output.message(&all, |look| table(look, &all.images))
        }
        Verb::Show { image } => {
            let image = get(&client, image).await?;
            app.output.message(&image, |_| details(&image))
        }
        Verb::Delete { image } => delete(app, &client, image).await,
    }
}

/// One image by name or id.
async fn get(client: &Client, image: String) -> Result<Image> {
    let request = GetImageRequest { image };
    let get = |channel| {
        let request = request.clone();
        async move { ImageServiceClient::new(channel).get_image(request).await }
    };
    client.call("show image", get).await
}

async fn list_all(client: &Client) -> Result<ListImagesResponse> {
    let mut merged = ListImagesResponse::default();
    loop {
        let request = ListImagesRequest {
            page_size: nube_types::limits::PAGE_SIZE_MAX,
            page_token: std::mem::take(&mut merged.next_page_token),
        };
        let list = |channel| {
            let request = request.clone();
            async move { ImageServiceClient::new(channel).list_images(request).await }
        };
        let page = client.call("list images", list).await?;
        merged.images.extend(page.images);
        merged.revision = page.revision;
        merged.next_page_token = page.next_page_token;
        if merged.next_page_token.is_empty() {
            return Ok(merged);
        }
    }
}

async fn delete(app: &App, client: &Client, image: String) -> Result<()> {
    let request = DeleteImageRequest {
        request_id: client.request_id(),
        image: image.clone(),
    };
    let delete = |channel| {
        let request = request.clone();
        async move { ImageServiceClient::new(channel).delete_image(request).await }
    };
    let done = client.call("delete image", delete).await?;
    let say = |_| format!("deleted {}\n", escape(&image));
    app.output.message(&done, say)
}

fn table(look: Look, images: &[Image]) -> String {
    let header = [
        "NAME",
        "VERSION",
        "ARCH",
        "USER",
        "BOOT",
        ">MEMORY MIN",
        ">DISK MIN",
        "+ID",
        "+CREATED",
    ];
    let mut table = Table::new(look, &header);
    for image in images {
        table.row([
            image.name.as_str().into(),
            or_dash(&image.version).into(),
            or_dash(&image.architecture).into(),
            or_dash(&image.user).into(),
            boot(image).into(),
            mib(image.memory_mib_min).into(),
            mib(image.disk_mib_min).into(),
            image.id.as_str().into(),
            time(image.created_at_ms).into(),
        ]);
    }
    table.render_or("no images; `cloudctl image import DIR` registers one")
}

fn boot(image: &Image) -> &'static str {
    match (&image.kernel, &image.initrd) {
        (Some(_), Some(_)) => "direct",
        _ => "firmware",
    }
}

/// An older controller says nothing: its guests read the seed.
fn datasource(image: &Image) -> &'static str {
    match image.datasource() {
        Datasource::Ec2 => "ec2",
        Datasource::Unspecified | Datasource::Seed => "seed",
    }
}

fn details(i: &Image) -> String {
    let mut fields = Fields::default();
    fields.add("name", &i.name);
    fields.add("id", &i.id);
    fields.add("version", &i.version);
    fields.add("architecture", &i.architecture);
    fields.add("login user", &i.user);
    fields.add("boot", boot(i));
    fields.add("datasource", datasource(i));
    for (name, blob) in [
        ("disk", &i.disk),
        ("kernel", &i.kernel),
        ("initrd", &i.initrd),
    ] {
        if let Some(blob) = blob {
            fields.add(
                name,
                format!("{} bytes, sha256 {}", blob.size_bytes, blob.sha256),
            );
        }
    }
    let format = DiskFormat::try_from(i.disk_format).unwrap_or_default();
    fields.add(
        "disk format",
        enum_word(format.as_str_name(), "DISK_FORMAT"),
    );
    fields.add(
        "disk size",
        format!("{} bytes in the guest", i.virtual_size_bytes),
    );
    fields.add("cmdline", &i.cmdline);
    let least = format!(
        "{} memory, {} disk",
        mib(i.memory_mib_min),
        mib(i.disk_mib_min)
    );
    fields.add("at least", least);
    fields.add("created", time(i.created_at_ms));
    fields.render()
}

#[cfg(test)]
mod test {
    use super::*;
    use nube_proto::v1::Blob;

    #[test]
    fn images_are_golden() {
        let blob = |byte: &str, size_bytes: u64| {
            Some(Blob {
                sha256: byte.repeat(32),
                size_bytes,
            })
        };
        let image = Image {
            id: "img-00000000000000aa".into(),
            name: "micro".into(),
            version: "2026.11".into(),
            architecture: "x86_64".into(),
            user: "nube".into(),
            disk: blob("ab", 4_194_304),
            disk_format: DiskFormat::Qcow2 as i32,
            virtual_size_bytes: 67_108_864,
            kernel: blob("cd", 9_000_000),
            initrd: blob("ef", 3_000_000),
            cmdline: "console=ttyS0".into(),
            memory_mib_min: 128,
            disk_mib_min: 64,
            created_at_ms: 1_790_000_000_000,
            ..Image::default()
        };
        let list = table(Look::default(), std::slice::from_ref(&image));
        assert!(
            list.lines().all(|line| line.chars().count() <= 80),
            "{list}"
        );
        crate::golden::check("image", &(list + "\n" + &details(&image)));
    }
}
