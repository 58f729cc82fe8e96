//! `ssh-key import`, `generate`, `list`, `show`, `delete`.

use std::path::{Path, PathBuf};

use nube_proto::v1::ssh_key_service_client::SshKeyServiceClient;
use nube_proto::v1::{
    DeleteSshKeyRequest, GenerateSshKeyRequest, GenerateSshKeyResponse, GetSshKeyRequest,
    ImportSshKeyRequest, ListSshKeysRequest, ListSshKeysResponse, SshKey,
};
use nube_types::SshKeyId;

use super::App;
use crate::args::ssh_key::SshKey as Verb;
use crate::client::Client;
use crate::error::{Context, Error, Result};
use crate::files;
use crate::output::print;
use crate::output::table::{Fields, Look, Table};
use crate::output::text::{escape, time};

/// `ssh-key …`.
pub async fn run(app: &App, verb: Verb) -> Result<()> {
    app.output.refuse_csv()?;
    match verb {
        Verb::Import { name, file } => {
            let public_key = public_key(&file)?;
            let key = import(&app.client()?, name, public_key).await?;
            app.output.message(&key, |_| details(&key))
        }
        Verb::Generate { name, out } => generate(app, name, out).await,
        Verb::List => {
            let all = list_all(&app.client()?).await?;
            app.output.message(&all, |look| table(look, &all.ssh_keys))
        }
        Verb::Show { key } => {
            let key = get(&app.client()?, key).await?;
            app.output.message(&key, |_| details(&key))
        }
        Verb::Delete { key } => delete(app, key).await,
    }
}

/// Reads a public key. What looks like a private one never leaves the machine.
fn public_key(file: &Path) -> Result<String> {
    let bytes = files::read_argument(file)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    if text.contains("PRIVATE KEY") {
        let name = file.display();
        return Err(
            Error::failed(format!("`{name}` is a private key; nothing was sent"))
                .hint(format!("its public half usually is `{name}.pub`")),
        );
    }
    Ok(text)
}

async fn import(client: &Client, name: String, public_key: String) -> Result<SshKey> {
    let request = ImportSshKeyRequest {
        request_id: client.request_id(),
        name,
        public_key,
    };
    let import = |channel| {
        let request = request.clone();
        async move {
            SshKeyServiceClient::new(channel)
                .import_ssh_key(request)
                .await
        }
    };
    client.call("import ssh key", import).await
}

async fn generate(app: &App, name: String, out: Option<PathBuf>) -> Result<()> {
    let client = app.client()?;
    // The place is taken before the key is made: it cannot be asked for twice.
    let place = Place::take(app, out)?;
    let request = GenerateSshKeyRequest {
        request_id: client.request_id(),
        name,
    };
    let generate = |channel| {
        let request = request.clone();
        async move {
            SshKeyServiceClient::new(channel)
                .generate_ssh_key(request)
                .await
        }
    };
    let made: GenerateSshKeyResponse = client.call("generate ssh key", generate).await?;
    let key = made.ssh_key.clone().unwrap_or_default();
    if made.private_key.is_empty() {
        let text = "the answer with the private half was lost, and it is not stored";
        return Err(Error::failed(text).hint(format!(
            "`cloudctl ssh-key delete {}`, then generate again",
            key.name
        )));
    }
    let saved = place.save(&key.id, made.private_key.as_bytes())?;
    let Some(saved) = saved else {
        // `--out -`: the private half alone, so that it can be piped.
        return print(&made.private_key);
    };
    // It is in the file now, and nowhere else: not in a log of this output.
    app.output.message(&key, |_| {
        let path = escape(&saved.display().to_string());
        format!("{}private half in {path}\n", details(&key))
    })
}

/// Where a private half goes.
enum Place {
    Stdout,
    File(files::Reserved),
    /// `keys/<key-id>`: the id is known only afterwards.
    Keys(PathBuf),
}

impl Place {
    fn take(app: &App, out: Option<PathBuf>) -> Result<Self> {
        match out {
            Some(path) if path == Path::new("-") => Ok(Self::Stdout),
            Some(path) => Ok(Self::File(files::Reserved::take(path)?)),
            None => {
                let keys = app.locations()?.keys();
                files::private_dir(&keys)?;
                Ok(Self::Keys(keys))
            }
        }
    }

    fn save(self, key_id: &str, private_key: &[u8]) -> Result<Option<PathBuf>> {
        match self {
            Self::Stdout => Ok(None),
            Self::File(file) => file.fill(private_key).map(Some),
            Self::Keys(dir) => {
                let id: SshKeyId = key_id.parse().context("the key")?;
                let path = dir.join(id.to_string());
                files::write_private(&path, private_key)?;
                Ok(Some(path))
            }
        }
    }
}

async fn list_all(client: &Client) -> Result<ListSshKeysResponse> {
    let mut merged = ListSshKeysResponse::default();
    loop {
        let request = ListSshKeysRequest {
            page_size: nube_types::limits::PAGE_SIZE_MAX,
            page_token: std::mem::take(&mut merged.next_page_token),
        };
        let list = |channel| {
            let request = request.clone();
            async move {
                SshKeyServiceClient::new(channel)
                    .list_ssh_keys(request)
                    .await
            }
        };
        let page = client.call("list ssh keys", list).await?;
        merged.ssh_keys.extend(page.ssh_keys);
        merged.revision = page.revision;
        merged.next_page_token = page.next_page_token;
        if merged.next_page_token.is_empty() {
            return Ok(merged);
        }
    }
}

async fn get(client: &Client, ssh_key: String) -> Result<SshKey> {
    let request = GetSshKeyRequest { ssh_key };
    let get = |channel| {
        let request = request.clone();
        async move { SshKeyServiceClient::new(channel).get_ssh_key(request).await }
    };
    client.call("show ssh key", get).await
}

async fn delete(app: &App, ssh_key: String) -> Result<()> {
    let client = app.client()?;
    let request = DeleteSshKeyRequest {
        request_id: client.request_id(),
        ssh_key: ssh_key.clone(),
    };
    let delete = |channel| {
        let request = request.clone();
        async move {
            SshKeyServiceClient::new(channel)
                .delete_ssh_key(request)
                .await
        }
    };
    let done = client.call("delete ssh key", delete).await?;
    let say = |_| {
        format!(
            "deleted {}; guests that have it keep it\n",
            escape(&ssh_key)
        )
    };
    app.output.message(&done, say)
}

fn table(look: Look, keys: &[SshKey]) -> String {
    let header = ["NAME", "ALGORITHM", "FINGERPRINT", "+ID", "+CREATED"];
    let mut table = Table::new(look, &header);
    for key in keys {
        table.row([
            key.name.as_str().into(),
            key.algorithm.as_str().into(),
            key.fingerprint.as_str().into(),
            key.id.as_str().into(),
            time(key.created_at_ms).into(),
        ]);
    }
    table.render_or("no keys; `cloudctl ssh-key generate NAME` makes one")
}

fn details(key: &SshKey) -> String {
    let mut fields = Fields::default();
    fields.add("name", &key.name);
    fields.add("id", &key.id);
    fields.add("algorithm", &key.algorithm);
    fields.add("fingerprint", &key.fingerprint);
    fields.add("public key", &key.public_key);
    fields.add("created", time(key.created_at_ms));
    fields.render()
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn keys_are_golden() {
        let key = SshKey {
            id: "key-0000000000000007".into(),
            name: "me".into(),
            fingerprint: format!("SHA256:{}", "A".repeat(43)),
            algorithm: "ssh-ed25519".into(),
            public_key: "ssh-ed25519 AAAA me@home".into(),
            created_at_ms: 1_790_000_000_000,
            ..SshKey::default()
        };
        let text = table(Look::default(), std::slice::from_ref(&key)) + "\n" + &details(&key);
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        crate::golden::check("ssh_key", &text);
    }

    #[test]
    fn a_private_key_never_leaves_the_machine() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("id");
        std::fs::write(&file, "-----BEGIN OPENSSH PRIVATE KEY-----\n").expect("written");
        let error = public_key(&file).expect_err("refused").render();
        assert!(
            error.contains("nothing was sent") && error.contains("id.pub"),
            "{error}"
        );
    }
}
