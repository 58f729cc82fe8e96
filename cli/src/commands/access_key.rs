//! `access-key create`, `list`, `delete`. The secret is seen once: printed, or
//! in a file of its owner.

use std::path::{Path, PathBuf};

use nube_proto::v1::access_key_service_client::AccessKeyServiceClient;
use nube_proto::v1::{
    AccessKey, AccessRole, CreateAccessKeyRequest, CreateAccessKeyResponse, DeleteAccessKeyRequest,
    ListAccessKeysRequest,
};

use super::{App, principal};
use crate::args::principal::{AccessKey as Verb, CreateAccessKey, KeyRole};
use crate::client::Client;
use crate::config::Profile;
use crate::error::{Error, Result};
use crate::files::Reserved;
use crate::output::table::{Fields, Look, Table, Tone, Value};
use crate::output::text::{escape, now_ms, role, time};

/// `access-key …`.
pub async fn run(app: &App, verb: Verb) -> Result<()> {
    app.output.refuse_csv()?;
    let client = app.client()?;
    match verb {
        Verb::Create(args) => create(app, &client, args).await,
        Verb::List => {
            let request = ListAccessKeysRequest::default();
            let all = pages!(client, "list access keys", AccessKeyServiceClient.list_access_keys(request) -> access_keys);
            let table = |look| table(look, &all.access_keys, now_ms());
            app.output.message(&all, table)
        }
        Verb::Delete { access_key } => {
            let request = DeleteAccessKeyRequest {
                request_id: client.request_id(),
                access_key: access_key.clone(),
            };
            let done = call!(
                client,
                "delete access key",
                AccessKeyServiceClient.delete_access_key(request)
            )?;
            let key = escape(&access_key);
            app.output.message(&done, |_| {
                format!("deleted {key}: refused from now on, its open streams end within 5 s\n")
            })
        }
    }
}

async fn create(app: &App, client: &Client, args: CreateAccessKey) -> Result<()> {
    // The place is taken before the key is made: it cannot be asked for twice.
    let place = args.save.map(Reserved::take).transpose()?;
    let role = match args.role {
        KeyRole::Viewer => AccessRole::Viewer,
        KeyRole::Member => AccessRole::Member,
        KeyRole::Operator => AccessRole::Operator,
        KeyRole::Admin => AccessRole::Admin,
    };
    let request = CreateAccessKeyRequest {
        request_id: client.request_id(),
        principal: args.principal.unwrap_or_default(),
        project: principal::place(app, client, args.cell).await?,
        role: role as i32,
        ttl_seconds: args.ttl.as_secs(),
    };
    let made: CreateAccessKeyResponse = call!(
        client,
        "create access key",
        AccessKeyServiceClient.create_access_key(request)
    )?;
    let key = made.access_key.clone().unwrap_or_default();
    if made.token.is_empty() {
        let text = "the answer with the secret was lost, and it is not stored";
        return Err(Error::failed(text).hint(format!(
            "`cloudctl access-key delete {}`, then create again",
            key.id
        )));
    }
    let profile = app.locations()?.read()?;
    let Some(place) = place else {
        return app.output.message(&made, |_| {
            let token = escape(&made.token);
            let kept = "Shown once; the cloud keeps its hash. Keep it in a file of mode 0600.";
            let next = usage(&profile, &key, Path::new("FILE"));
            format!("{}\n{token}\n\n{kept}\n{next}", details(&key))
        });
    };
    let path: PathBuf = place.fill(format!("{}\n", made.token).as_bytes())?;
    // It is in the file now, and nowhere else: not in a log of this output.
    app.output.message(&key, |_| {
        let name = escape(&path.display().to_string());
        let next = usage(&profile, &key, &path);
        format!("{}\nsecret in {name}, for you alone\n{next}", details(&key))
    })
}

/// The line that makes a context of the key, ready to be copied.
fn usage(profile: &Profile, key: &AccessKey, file: &Path) -> String {
    let mut lines = vec!["Use it:".to_owned()];
    lines.push(format!("  cloudctl context add {} \\", key.principal_name));
    for endpoint in &profile.endpoints {
        lines.push(format!("      --endpoint {endpoint} \\"));
    }
    lines.push(format!("      --ca {} \\", profile.ca.display()));
    let project = match key.project_name.as_str() {
        "" => String::new(),
        name => format!(" --project {name}"),
    };
    lines.push(format!("      --token-file {}{project}", file.display()));
    lines.iter().map(|line| escape(line) + "\n").collect()
}

fn place(key: &AccessKey) -> &str {
    match (key.project_id.as_str(), key.project_name.as_str()) {
        ("", _) => "cell",
        (id, "") => id,
        (_, name) => name,
    }
}

fn expires(key: &AccessKey, now_ms: u64) -> Value {
    match key.expires_at_ms {
        0 => "never".into(),
        at if at <= now_ms => Value::new(time(at), Tone::Bad),
        at => time(at).into(),
    }
}

fn table(look: Look, keys: &[AccessKey], now_ms: u64) -> String {
    let header = ["KEY", "PRINCIPAL", "PROJECT", "ROLE", "EXPIRES", "+CREATED"];
    let mut table = Table::new(look, &header);
    for key in keys {
        table.row([
            key.id.as_str().into(),
            key.principal_name.as_str().into(),
            place(key).into(),
            role(key.role()).into(),
            expires(key, now_ms),
            time(key.created_at_ms).into(),
        ]);
    }
    table.render_or("no access keys; `cloudctl access-key create` makes one")
}

fn details(key: &AccessKey) -> String {
    let mut fields = Fields::default();
    fields.add("key", &key.id);
    fields.add("principal", &key.principal_name);
    fields.add("project", place(key));
    fields.add("role", role(key.role()));
    fields.add(
        "expires",
        match key.expires_at_ms {
            0 => "never; `cloudctl access-key delete` ends it".to_owned(),
            at => time(at),
        },
    );
    fields.render()
}

#[cfg(test)]
mod test {
    use super::*;

    fn sample(id: u8, project: &str, expires_at_ms: u64) -> AccessKey {
        AccessKey {
            id: format!("ak-00c0ffee00c0ff{id:02x}"),
            principal_name: "alice".into(),
            project_id: project.into(),
            project_name: project.into(),
            role: AccessRole::Member as i32,
            created_at_ms: 1_790_000_000_000,
            expires_at_ms,
            ..AccessKey::default()
        }
    }

    #[test]
    fn access_keys_are_golden() {
        let keys = [sample(1, "web", 1_797_776_000_000), sample(2, "", 0)];
        let profile = Profile {
            endpoints: vec!["127.0.0.1:7101".into(), "127.0.0.1:7102".into()],
            ca: "/var/lib/nube/pki/ca.pem".into(),
            ..Profile::default()
        };
        let text = table(Look::default(), &keys, 1_790_000_000_000)
            + "\n"
            + &details(&keys[0])
            + "\n"
            + &usage(&profile, &keys[0], Path::new("ci.token"));
        crate::golden::check_narrow("access_key", &text);
    }
}
