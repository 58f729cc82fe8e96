//! `security-group create`, `list`, `show`, `add-rule`, `remove-rule`, `attach`,
//! `detach`, `delete`.

use nube_proto::v1::security_group_service_client::SecurityGroupServiceClient;
use nube_proto::v1::{
    AddSecurityRuleRequest, CreateSecurityGroupRequest, DeleteSecurityGroupRequest,
    GetSecurityGroupRequest, ListSecurityGroupsRequest, RemoveSecurityRuleRequest, SecurityGroup,
    SecurityRule, SetInstanceSecurityGroupsRequest, TrafficDirection,
};

use super::{App, instance};
use crate::args::security_group::{AddRule, Members, SecurityGroup as Verb};
use crate::client::Client;
use crate::error::Result;
use crate::output::table::{Fields, Look, Table};
use crate::output::text::{enum_word, escape, time};

/// `security-group …`.
pub async fn run(app: &App, verb: Verb) -> Result<()> {
    app.output.refuse_csv()?;
    let client = app.client()?;
    let group = match verb {
        Verb::Create { name } => {
            let request = CreateSecurityGroupRequest {
                request_id: client.request_id(),
                name,
            };
            call!(
                client,
                "create security group",
                SecurityGroupServiceClient.create_security_group(request)
            )?
        }
        Verb::List => {
            let request = ListSecurityGroupsRequest::default();
            let all = pages!(client, "list security groups", SecurityGroupServiceClient.list_security_groups(request) -> security_groups);
            let groups = &all.security_groups;
            return app.output.message(&all, |look| table(look, groups));
        }
        Verb::Show { group } => get(&client, group).await?,
        Verb::AddRule(args) => add(&client, args).await?,
        Verb::RemoveRule { group, rule } => {
            let request = RemoveSecurityRuleRequest {
                request_id: client.request_id(),
                security_group: group,
                rule_id: rule,
            };
            call!(
                client,
                "remove rule",
                SecurityGroupServiceClient.remove_security_rule(request)
            )?
        }
        Verb::Attach(members) => return change(app, &client, members, true).await,
        Verb::Detach(members) => return change(app, &client, members, false).await,
        Verb::Delete { group } => {
            let request = DeleteSecurityGroupRequest {
                request_id: client.request_id(),
                security_group: group.clone(),
            };
            let done = call!(
                client,
                "delete security group",
                SecurityGroupServiceClient.delete_security_group(request)
            )?;
            let say = |_| format!("deleted security group {}\n", escape(&group));
            return app.output.message(&done, say);
        }
    };
    app.output.message(&group, |look| details(look, &group))
}

async fn get(client: &Client, security_group: String) -> Result<SecurityGroup> {
    let request = GetSecurityGroupRequest { security_group };
    call!(
        client,
        "show security group",
        SecurityGroupServiceClient.get_security_group(request)
    )
}

/// What begins like an address is one, so that a typing error is told as such:
/// names of groups begin with a letter and have no dots, colons or slashes.
fn is_range(peer: &str) -> bool {
    peer.starts_with(|c: char| c.is_ascii_digit()) || peer.contains(['/', ':', '.'])
}

fn rule(args: &AddRule) -> SecurityRule {
    let (direction, peer) = match (&args.from, &args.to) {
        (Some(from), _) => (TrafficDirection::Ingress, from.clone()),
        (None, to) => (TrafficDirection::Egress, to.clone().unwrap_or_default()),
    };
    let (cidr, group) = match is_range(&peer) {
        true => (peer, String::new()),
        false => (String::new(), peer),
    };
    let (port_min, port_max) = args.port.unwrap_or_default();
    SecurityRule {
        direction: direction.into(),
        protocol: args.protocol.word().to_owned(),
        port_min,
        port_max,
        cidr,
        group,
        ..SecurityRule::default()
    }
}

async fn add(client: &Client, args: AddRule) -> Result<SecurityGroup> {
    let request = AddSecurityRuleRequest {
        request_id: client.request_id(),
        rule: Some(rule(&args)),
        security_group: args.group,
    };
    call!(
        client,
        "add rule",
        SecurityGroupServiceClient.add_security_rule(request)
    )
}

/// Names and ids of the same groups must meet: both ends are asked for.
async fn change(app: &App, client: &Client, members: Members, attach: bool) -> Result<()> {
    let now = instance::get(client, &members.instance).await?;
    let mut groups = now.security_groups;
    for named in members.groups {
        let name = get(client, named).await?.name;
        groups.retain(|known| *known != name);
        if attach {
            groups.push(name);
        }
    }
    let request = SetInstanceSecurityGroupsRequest {
        request_id: client.request_id(),
        instance: now.id,
        security_groups: groups,
    };
    let now = call!(
        client,
        "set security groups",
        SecurityGroupServiceClient.set_instance_security_groups(request)
    )?;
    let say = |_| {
        let line = format!("{} has {}", now.name, now.security_groups.join(", "));
        format!("{}\n", escape(&line))
    };
    app.output.message(&now, say)
}

fn table(look: Look, groups: &[SecurityGroup]) -> String {
    let header = ["NAME", ">RULES", ">INSTANCES", "ID", "+CREATED"];
    let mut table = Table::new(look, &header);
    for group in groups {
        table.row([
            group.name.as_str().into(),
            group.rules.len().to_string().into(),
            group.instances.to_string().into(),
            group.id.as_str().into(),
            time(group.created_at_ms).into(),
        ]);
    }
    table.render_or("no security groups")
}

fn ports(rule: &SecurityRule) -> String {
    match (rule.port_min, rule.port_max) {
        (0, 0) => "all".to_owned(),
        (min, max) if min == max => min.to_string(),
        (min, max) => format!("{min}-{max}"),
    }
}

fn details(look: Look, group: &SecurityGroup) -> String {
    let mut fields = Fields::default();
    fields.add("name", &group.name);
    fields.add("id", &group.id);
    fields.add("instances", group.instances.to_string());
    fields.add("created", time(group.created_at_ms));
    let header = ["RULE", "DIRECTION", "PROTOCOL", "PORTS", "PEER"];
    let mut table = Table::new(look, &header);
    for rule in &group.rules {
        let direction = rule.direction().as_str_name();
        let peer = [rule.cidr.as_str(), rule.group.as_str()].concat();
        table.row([
            rule.id.as_str().into(),
            enum_word(direction, "TRAFFIC_DIRECTION").into(),
            rule.protocol.as_str().into(),
            ports(rule).into(),
            peer.into(),
        ]);
    }
    let rules = table.render_or("no rules: nothing passes");
    format!("{}\n{rules}", fields.render())
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn groups_are_golden() {
        let rule = |direction: TrafficDirection, port: u32, cidr: &str, group: &str| SecurityRule {
            id: "sgr-0000000000000001".into(),
            direction: direction.into(),
            protocol: "tcp".into(),
            port_min: port,
            port_max: port,
            cidr: cidr.into(),
            group: group.into(),
        };
        let group = SecurityGroup {
            id: "sg-0000000000000007".into(),
            name: "web".into(),
            rules: vec![
                rule(TrafficDirection::Egress, 0, "0.0.0.0/0", ""),
                rule(TrafficDirection::Ingress, 80, "", "sg-0000000000000001"),
            ],
            instances: 2,
            created_at_ms: 1_790_000_000_000,
            ..SecurityGroup::default()
        };
        let text = table(Look::default(), std::slice::from_ref(&group)) + "\n";
        crate::golden::check_narrow(
            "security_group",
            &(text + &details(Look::default(), &group)),
        );
    }

    #[test]
    fn ranges_and_groups_are_told_apart() {
        for range in ["0.0.0.0/0", "::/0", "192.0.2.7", "300.1.1.1", "fd00::1"] {
            assert!(is_range(range), "{range}");
        }
        for group in ["web", "default", "sg-0000000000000001"] {
            assert!(!is_range(group), "{group}");
        }
    }
}
