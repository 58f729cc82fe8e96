//! `cluster add|remove|promote` and `node add`: who may join, and who goes.

use nube_proto::v1::cluster_service_client::ClusterServiceClient;
use nube_proto::v1::{
    ChangeMemberRequest, CreateJoinTokenRequest, CreateJoinTokenResponse, JoinRole,
};

use super::App;
use crate::client::Client;
use crate::error::Result;
use crate::output::text::{escape, time};

/// Makes a token and says how to use it.
pub async fn add(app: &App, client: &Client, role: JoinRole, name: &str) -> Result<()> {
    let request = CreateJoinTokenRequest {
        request_id: client.request_id(),
        role: role.into(),
        name: name.to_owned(),
    };
    let create = |channel| {
        let request = request.clone();
        async move {
            ClusterServiceClient::new(channel)
                .create_join_token(request)
                .await
        }
    };
    let token = client.call("make a join token", create).await?;
    app.output.message(&token, |_| view(&token, role, name))
}

fn view(token: &CreateJoinTokenResponse, role: JoinRole, name: &str) -> String {
    let (what, address) = match role {
        JoinRole::Controller => ("controller", " \\\n    --address HOST:PORT"),
        _ => ("host", ""),
    };
    let controllers: String = token
        .controllers
        .iter()
        .map(|controller| format!(" \\\n    --controller {}", escape(controller)))
        .collect();
    let (name, text) = (escape(name), escape(&token.token));
    let until = time(token.expires_at_ms);
    format!(
        "Run this on the new {what}, once, before {until}:\n  \
         cloudctl join --dir /var/lib/nube/{name}{address}{controllers} \\\n    \
         --token {text}\n"
    )
}

fn change(client: &Client, member_id: u64) -> ChangeMemberRequest {
    ChangeMemberRequest {
        request_id: client.request_id(),
        member_id,
    }
}

/// Removes a member for good.
pub async fn remove(app: &App, client: &Client, member: u64) -> Result<()> {
    let request = change(client, member);
    let remove = |channel| {
        let request = request.clone();
        async move {
            ClusterServiceClient::new(channel)
                .remove_member(request)
                .await
        }
    };
    let done = client.call("remove member", remove).await?;
    let say = |_| format!("member {member} is removed; its directory may be deleted\n");
    app.output.message(&done, say)
}

/// Makes a learner a voter.
pub async fn promote(app: &App, client: &Client, member: u64) -> Result<()> {
    let request = change(client, member);
    let promote = |channel| {
        let request = request.clone();
        async move {
            ClusterServiceClient::new(channel)
                .promote_member(request)
                .await
        }
    };
    let done = client.call("promote member", promote).await?;
    app.output
        .message(&done, |_| format!("member {member} votes\n"))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_join_command_can_be_pasted() {
        let token = CreateJoinTokenResponse {
            token: format!("nubejoin1.{}.c2VjcmV0", "ab".repeat(32)),
            expires_at_ms: 1_790_000_000_000,
            controllers: vec!["10.0.0.1:7000".into(), "10.0.0.2:7000".into()],
        };
        let text = view(&token, JoinRole::Controller, "spare");
        crate::golden::check("cluster_add", &text);
        crate::golden::check("node_add", &view(&token, JoinRole::Agent, "host-1"));
    }
}
