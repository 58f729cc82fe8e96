//! `principal create`, `list`, `show`, `role`, `delete`; and the place that a
//! role is for.

use nube_proto::v1::access_key_service_client::AccessKeyServiceClient;
use nube_proto::v1::principal_service_client::PrincipalServiceClient;
use nube_proto::v1::{
    AccessRole, CreatePrincipalRequest, DeletePrincipalRequest, GetPrincipalRequest,
    ListPrincipalsRequest, Principal, PrincipalKind, RoleBinding, SetRoleRequest, WhoAmIRequest,
};

use super::App;
use crate::args::principal::{Principal as Verb, Role};
use crate::client::Client;
use crate::config::named;
use crate::error::{Error, Result};
use crate::output::table::{Fields, Look, Table};
use crate::output::text::{enum_word, escape, or_dash, role, time};

/// `principal …`.
pub async fn run(app: &App, verb: Verb) -> Result<()> {
    app.output.refuse_csv()?;
    let client = app.client()?;
    let principal = match verb {
        Verb::Create { name, service } => {
            let kind = match service {
                true => PrincipalKind::Service,
                false => PrincipalKind::User,
            };
            let request = CreatePrincipalRequest {
                request_id: client.request_id(),
                name,
                kind: kind as i32,
            };
            call!(
                client,
                "create principal",
                PrincipalServiceClient.create_principal(request)
            )?
        }
        Verb::List => {
            let request = ListPrincipalsRequest::default();
            let all = pages!(client, "list principals", PrincipalServiceClient.list_principals(request) -> principals);
            return app
                .output
                .message(&all, |look| table(look, &all.principals));
        }
        Verb::Show { name } => {
            let request = GetPrincipalRequest { principal: name };
            call!(
                client,
                "show principal",
                PrincipalServiceClient.get_principal(request)
            )?
        }
        Verb::Role { name, role, cell } => {
            let request = SetRoleRequest {
                request_id: client.request_id(),
                principal: name,
                project: place(app, &client, cell).await?,
                role: access_role(role) as i32,
            };
            call!(client, "set role", PrincipalServiceClient.set_role(request))?
        }
        Verb::Delete { name } => {
            let request = DeletePrincipalRequest {
                request_id: client.request_id(),
                principal: name.clone(),
            };
            let done = call!(
                client,
                "delete principal",
                PrincipalServiceClient.delete_principal(request)
            )?;
            let name = escape(&name);
            let say = |_| format!("deleted {name}; its access keys are refused from now on\n");
            return app.output.message(&done, say);
        }
    };
    app.output.message(&principal, |_| details(&principal))
}

/// The project that a role or a key is for: --project, else the context's, else
/// the caller's own. Empty stands for the cell, and only --cell means it.
pub async fn place(app: &App, client: &Client, cell: bool) -> Result<String> {
    if cell {
        return Ok(String::new());
    }
    let configured = app.locations()?.read()?.project;
    if let Some(project) = named(&app.global.project).or(named(&configured)) {
        return Ok(project.to_owned());
    }
    let request = WhoAmIRequest {};
    let me = call!(client, "whoami", AccessKeyServiceClient.who_am_i(request))?;
    match me.project_id.as_str() {
        "" => Err(Error::usage("in which place? No project is yours alone")
            .hint("--project NAME, or --cell")),
        project => Ok(project.to_owned()),
    }
}

fn access_role(role: Role) -> AccessRole {
    match role {
        Role::Viewer => AccessRole::Viewer,
        Role::Member => AccessRole::Member,
        Role::Operator => AccessRole::Operator,
        Role::Admin => AccessRole::Admin,
        Role::None => AccessRole::Unspecified,
    }
}

fn kind(principal: &Principal) -> String {
    enum_word(principal.kind().as_str_name(), "PRINCIPAL_KIND")
}

/// As `web:member`; the cell stands first and without a name.
fn bindings(roles: &[RoleBinding]) -> Vec<String> {
    let mut sorted: Vec<_> = roles.iter().collect();
    sorted.sort_by_key(|one| (!one.project_id.is_empty(), one.project_name.clone()));
    let text = |one: &RoleBinding| {
        let place = match (one.project_id.as_str(), one.project_name.as_str()) {
            ("", _) => "cell",
            (id, "") => id,
            (_, name) => name,
        };
        format!("{place}:{}", role(one.role()))
    };
    sorted.into_iter().map(text).collect()
}

fn table(look: Look, principals: &[Principal]) -> String {
    let mut table = Table::new(look, &["NAME", "KIND", "ROLES", "+ID", "+CREATED"]);
    for principal in principals {
        table.row([
            principal.name.as_str().into(),
            kind(principal).into(),
            or_dash(&bindings(&principal.roles).join(" ")).into(),
            principal.id.as_str().into(),
            time(principal.created_at_ms).into(),
        ]);
    }
    table.render_or("no principals; `cloudctl principal create NAME` makes one")
}

fn details(principal: &Principal) -> String {
    let mut fields = Fields::default();
    fields.add("name", &principal.name);
    fields.add("id", &principal.id);
    fields.add("kind", kind(principal));
    fields.add("created", time(principal.created_at_ms));
    fields.add("revision", principal.revision.to_string());
    match principal.roles.is_empty() {
        true => fields.add("roles", "none: it may do nothing"),
        false => fields.add("roles", bindings(&principal.roles).join(" ")),
    }
    fields.render()
}

#[cfg(test)]
mod test {
    use super::*;

    fn sample(name: &str, roles: &[(&str, &str, AccessRole)]) -> Principal {
        let binding = |(id, name, role): &(&str, &str, AccessRole)| RoleBinding {
            project_id: (*id).into(),
            project_name: (*name).into(),
            role: *role as i32,
        };
        Principal {
            id: "u-0000000000000003".into(),
            name: name.into(),
            kind: PrincipalKind::User as i32,
            roles: roles.iter().map(binding).collect(),
            created_at_ms: 1_790_000_000_000,
            revision: 42,
        }
    }

    #[test]
    fn principals_are_golden() {
        let alice = [
            ("p-2", "web", AccessRole::Admin),
            ("p-1", "shop", AccessRole::Member),
            ("", "", AccessRole::Operator),
        ];
        let mut robot = sample("ci", &[("p-2", "web", AccessRole::Member)]);
        robot.kind = PrincipalKind::Service as i32;
        let all = [sample("alice", &alice), robot, sample("new", &[])];
        let text =
            table(Look::default(), &all) + "\n" + &details(&all[0]) + "\n" + &details(&all[2]);
        crate::golden::check_narrow("principal", &text);
    }
}
