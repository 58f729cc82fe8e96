//! `whoami`: who the cloud takes the caller for.

use nube_proto::v1::access_key_service_client::AccessKeyServiceClient;
use nube_proto::v1::{AccessRole, WhoAmIRequest, WhoAmIResponse};

use super::App;
use crate::error::Result;
use crate::output::table::Fields;
use crate::output::text::role;

/// `whoami`.
pub async fn run(app: &App) -> Result<()> {
    app.output.refuse_csv()?;
    let client = app.client()?;
    let request = WhoAmIRequest {};
    let me = call!(client, "whoami", AccessKeyServiceClient.who_am_i(request))?;
    let locations = app.locations()?;
    let context = locations.context.as_deref().unwrap_or(crate::config::LOCAL);
    app.output.message(&me, |_| details(&me, context))
}

fn details(me: &WhoAmIResponse, context: &str) -> String {
    let mut fields = Fields::default();
    fields.add("you are", &me.actor);
    fields.add("context", context);
    fields.add("access key", &me.access_key_id);
    let project = match (me.project_name.as_str(), me.project_id.as_str()) {
        ("", "") => "none".to_owned(),
        ("", id) => id.to_owned(),
        (name, id) => format!("{name} ({id})"),
    };
    fields.add("project", project);
    fields.add("role there", words(me.project_role(), false));
    fields.add("in the cell", words(me.cell_role(), true));
    fields.render()
}

/// The role, and what it means.
fn words(given: AccessRole, cell: bool) -> String {
    let meaning = match (given, cell) {
        (AccessRole::Unspecified, _) => return "no role".to_owned(),
        (AccessRole::Viewer, _) => "reads everything",
        (AccessRole::Member, _) => "reads, creates, changes and deletes",
        (AccessRole::Operator, _) => "hosts, controllers, events; reads every project",
        (AccessRole::Admin, false) => "everything, also people and access keys",
        (AccessRole::Admin, true) => "everything",
    };
    format!("{}: {meaning}", role(given))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn whoami_is_golden() {
        let member = WhoAmIResponse {
            actor: "user/alice".into(),
            access_key_id: "ak-00c0ffee00c0ffee".into(),
            project_id: "p-0000000000000007".into(),
            project_name: "web".into(),
            project_role: AccessRole::Member as i32,
            cell_role: 0,
        };
        let operator = WhoAmIResponse {
            actor: "operator/admin".into(),
            cell_role: AccessRole::Admin as i32,
            ..WhoAmIResponse::default()
        };
        let text = details(&member, "work") + "\n" + &details(&operator, "local");
        crate::golden::check_narrow("whoami", &text);
    }
}
