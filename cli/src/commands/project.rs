//! `project create`, `list`, `show`, `quota`, `delete`.

use nube_proto::v1::project_service_client::ProjectServiceClient;
use nube_proto::v1::{
    CreateProjectRequest, DeleteProjectRequest, GetProjectRequest, ListProjectsRequest, Project,
    Quota, SetProjectQuotaRequest,
};

use super::App;
use crate::args::project::{Project as Verb, Quota as Flags, UNLIMITED};
use crate::client::Client;
use crate::confirm;
use crate::error::Result;
use crate::output::table::{Fields, Look, Table, Tone, Value};
use crate::output::text::{amount_mib, escape, gib_of, time};

/// `project …`.
pub async fn run(app: &App, verb: Verb) -> Result<()> {
    app.output.refuse_csv()?;
    let client = app.client()?;
    match verb {
        Verb::Create { name, quota } => {
            let project = create(&client, name, &quota).await?;
            app.output.message(&project, |look| details(look, &project))
        }
        Verb::List => {
            let request = ListProjectsRequest::default();
            let all = pages!(client, "list projects", ProjectServiceClient.list_projects(request) -> projects);
            app.output.message(&all, |look| table(look, &all.projects))
        }
        Verb::Show { name } => {
            let project = get(&client, name.unwrap_or_default()).await?;
            app.output.message(&project, |look| details(look, &project))
        }
        Verb::Quota { name, quota } => {
            let project = get(&client, name.unwrap_or_default()).await?;
            let project = match quota.is_empty() {
                true => project,
                false => set(&client, &project, &quota).await?,
            };
            app.output
                .message(&project, |look| quota_table(look, &project))
        }
        Verb::Delete { name, confirm } => {
            // The name as the cloud knows it, also when an id was typed.
            let project = get(&client, name).await?;
            let loss = format!("project {} and its network", project.name);
            confirm::ask(confirm, &loss, &project.name)?;
            let request = DeleteProjectRequest {
                request_id: client.request_id(),
                project: project.id.clone(),
            };
            let done = call!(
                client,
                "delete project",
                ProjectServiceClient.delete_project(request)
            )?;
            let name = escape(&project.name);
            let say = |_| format!("deleted project {name}; its usage and its bill stay\n");
            app.output.message(&done, say)
        }
    }
}

async fn get(client: &Client, project: String) -> Result<Project> {
    let request = GetProjectRequest { project };
    call!(
        client,
        "show project",
        ProjectServiceClient.get_project(request)
    )
}

async fn create(client: &Client, name: String, flags: &Flags) -> Result<Project> {
    // What the cell gives to new projects is known only once there is one, so
    // a part of a quota takes a second step.
    let whole = flags.over(None);
    let partial = whole.is_none() && !flags.is_empty();
    client.allow_mutations(if partial { 2 } else { 1 })?;
    let request = CreateProjectRequest {
        request_id: client.request_id(),
        name,
        quota: whole,
    };
    let project = call!(
        client,
        "create project",
        ProjectServiceClient.create_project(request)
    )?;
    match partial {
        true => set(client, &project, flags).await,
        false => Ok(project),
    }
}

async fn set(client: &Client, project: &Project, flags: &Flags) -> Result<Project> {
    let request = SetProjectQuotaRequest {
        request_id: client.request_id(),
        project: project.id.clone(),
        quota: flags.over(Some(&project.quota.unwrap_or_default())),
    };
    call!(
        client,
        "set quota",
        ProjectServiceClient.set_project_quota(request)
    )
}

impl Flags {
    fn is_empty(&self) -> bool {
        let all = [
            self.instances,
            self.vcpus,
            self.memory_mib,
            self.disk_mib,
            self.ssh_keys,
            self.images,
        ];
        all.iter().all(Option::is_none)
    }

    /// A whole quota: what flags say, otherwise what is so. `None` when neither
    /// says it.
    fn over(&self, now: Option<&Quota>) -> Option<Quota> {
        let pick = |flag: Option<u64>, part: fn(&Quota) -> u64| flag.or(now.map(part));
        Some(Quota {
            instances: pick(self.instances, |q| q.instances)?,
            vcpus: pick(self.vcpus, |q| q.vcpus)?,
            memory_mib: pick(self.memory_mib, |q| q.memory_mib)?,
            disk_mib: pick(self.disk_mib, |q| q.disk_mib)?,
            ssh_keys: pick(self.ssh_keys, |q| q.ssh_keys)?,
            images: pick(self.images, |q| q.images)?,
            addresses: now.map_or(0, |q| q.addresses),
        })
    }
}

/// Used of limit, in red where nothing more fits.
fn part(used: u64, limit: u64, text: impl Fn(u64, u64) -> String) -> Value {
    match limit {
        UNLIMITED => text(used, 0).split('/').next().unwrap_or("").into(),
        _ if used > limit => Value::new(text(used, limit), Tone::Bad),
        _ if used == limit => Value::new(text(used, limit), Tone::Busy),
        _ => text(used, limit).into(),
    }
}

fn table(look: Look, projects: &[Project]) -> String {
    let header = [
        "NAME",
        ">INSTANCES",
        ">VCPUS",
        ">MEMORY GIB",
        ">DISK GIB",
        ">KEYS",
        ">IMAGES",
        "+ID",
        "+CREATED",
    ];
    let count = |used: u64, limit: u64| format!("{used}/{limit}");
    let mut table = Table::new(look, &header);
    for project in projects {
        let limit = project.quota.unwrap_or_default();
        let used = project.used.unwrap_or_default();
        table.row([
            project.name.as_str().into(),
            part(used.instances, limit.instances, count),
            part(used.vcpus, limit.vcpus, count),
            part(used.memory_mib, limit.memory_mib, gib_of),
            part(used.disk_mib, limit.disk_mib, gib_of),
            part(used.ssh_keys, limit.ssh_keys, count),
            part(used.images, limit.images, count),
            project.id.as_str().into(),
            time(project.created_at_ms).into(),
        ]);
    }
    table.render_or("no projects")
}

/// What is used, of how much, and what is left.
fn quota_table(look: Look, project: &Project) -> String {
    let limit = project.quota.unwrap_or_default();
    let used = project.used.unwrap_or_default();
    let mut table = Table::new(look, &["QUOTA", ">USED", ">LIMIT", ">LEFT"]);
    let mut row = |name: &str, used: u64, limit: u64, text: fn(u64) -> String| {
        let left = limit.saturating_sub(used);
        let tone = match left {
            0 if used > limit => Tone::Bad,
            0 => Tone::Busy,
            _ => Tone::Plain,
        };
        let (limit, left) = match limit {
            UNLIMITED => ("unlimited".to_owned(), "unlimited".to_owned()),
            limit => (text(limit), text(left)),
        };
        table.row([
            name.into(),
            text(used).into(),
            limit.into(),
            Value::new(left, tone),
        ]);
    };
    row("instances", used.instances, limit.instances, |n| {
        n.to_string()
    });
    row("vcpus", used.vcpus, limit.vcpus, |n| n.to_string());
    row("memory", used.memory_mib, limit.memory_mib, amount_mib);
    row("disk", used.disk_mib, limit.disk_mib, amount_mib);
    row("ssh keys", used.ssh_keys, limit.ssh_keys, |n| n.to_string());
    row("images", used.images, limit.images, |n| n.to_string());
    table.render()
}

fn details(look: Look, project: &Project) -> String {
    let mut fields = Fields::default();
    fields.add("name", &project.name);
    fields.add("id", &project.id);
    fields.add("created", time(project.created_at_ms));
    fields.add("revision", project.revision.to_string());
    format!("{}\n{}", fields.render(), quota_table(look, project))
}

#[cfg(test)]
mod test {
    use super::*;

    fn sample(name: &str) -> Project {
        Project {
            id: "p-0000000000000007".into(),
            name: name.into(),
            quota: Some(Quota {
                instances: 10,
                vcpus: 20,
                memory_mib: 16_384,
                disk_mib: 102_400,
                ssh_keys: 100,
                images: UNLIMITED,
                addresses: 0,
            }),
            used: Some(Quota {
                instances: 10,
                vcpus: 12,
                memory_mib: 2_560,
                disk_mib: 110_592,
                ssh_keys: 2,
                images: 1,
                addresses: 0,
            }),
            created_at_ms: 1_790_000_000_000,
            revision: 42,
        }
    }

    #[test]
    fn projects_are_golden() {
        let mut free = sample("default");
        free.quota = Some(Quota {
            instances: UNLIMITED,
            vcpus: UNLIMITED,
            memory_mib: UNLIMITED,
            disk_mib: UNLIMITED,
            ssh_keys: UNLIMITED,
            images: UNLIMITED,
            addresses: 0,
        });
        let all = [free.clone(), sample("web")];
        let text = table(Look::default(), &all) + "\n" + &details(Look::default(), &all[1]);
        crate::golden::check_narrow("project", &text);
        let text = quota_table(Look::default(), &free);
        assert_eq!(text.matches("unlimited").count(), 12, "{text}");
        assert!(!text.contains("18446744073709551615"), "{text}");
    }

    #[test]
    fn flags_change_what_they_name_and_nothing_else() {
        let now = sample("web").quota.expect("a quota");
        let flags = Flags {
            vcpus: Some(8),
            images: Some(UNLIMITED),
            ..Flags::default()
        };
        let set = flags.over(Some(&now)).expect("whole");
        assert_eq!(set, Quota { vcpus: 8, ..now });
        assert_eq!(flags.over(None), None, "a part is not a quota");
        assert!(Flags::default().is_empty() && !flags.is_empty());
    }
}
