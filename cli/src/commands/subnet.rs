//! `subnet create`, `list`, `show`, `delete`.

use nube_proto::v1::subnet_service_client::SubnetServiceClient;
use nube_proto::v1::{
    CreateSubnetRequest, DeleteSubnetRequest, GetSubnetRequest, ListSubnetsRequest, Subnet,
};

use super::App;
use crate::args::network::Subnet as Verb;
use crate::error::Result;
use crate::output::table::{Look, Table};
use crate::output::text::{escape, time};

/// `subnet …`.
pub async fn run(app: &App, verb: Verb) -> Result<()> {
    app.output.refuse_csv()?;
    let client = app.client()?;
    let one = |subnet: &Subnet| {
        app.output
            .message(subnet, |look| table(look, std::slice::from_ref(subnet)))
    };
    match verb {
        Verb::Create { name, cidr, place } => {
            let request = CreateSubnetRequest {
                request_id: client.request_id(),
                network: place.network.unwrap_or_default(),
                name,
                cidr,
            };
            one(&call!(
                client,
                "create subnet",
                SubnetServiceClient.create_subnet(request)
            )?)
        }
        Verb::List { place } => {
            let request = ListSubnetsRequest {
                network: place.network.unwrap_or_default(),
            };
            let all = call!(
                client,
                "list subnets",
                SubnetServiceClient.list_subnets(request)
            )?;
            app.output.message(&all, |look| table(look, &all.subnets))
        }
        Verb::Show { subnet, place } => {
            let request = GetSubnetRequest {
                subnet,
                network: place.network.unwrap_or_default(),
            };
            one(&call!(
                client,
                "show subnet",
                SubnetServiceClient.get_subnet(request)
            )?)
        }
        Verb::Delete { subnet, place } => {
            let request = DeleteSubnetRequest {
                request_id: client.request_id(),
                subnet: subnet.clone(),
                network: place.network.unwrap_or_default(),
            };
            let done = call!(
                client,
                "delete subnet",
                SubnetServiceClient.delete_subnet(request)
            )?;
            let say = |_| format!("deleted subnet {}\n", escape(&subnet));
            app.output.message(&done, say)
        }
    }
}

/// Subnets for people.
pub fn table(look: Look, subnets: &[Subnet]) -> String {
    let header = [
        "SUBNET", "RANGE", "GATEWAY", ">FREE", "+ID", "+NETWORK", "+CREATED",
    ];
    let mut table = Table::new(look, &header);
    for subnet in subnets {
        table.row([
            subnet.name.as_str().into(),
            subnet.cidr.as_str().into(),
            subnet.gateway.as_str().into(),
            subnet.addresses_free.to_string().into(),
            subnet.id.as_str().into(),
            subnet.network_id.as_str().into(),
            time(subnet.created_at_ms).into(),
        ]);
    }
    table.render_or("no subnets")
}
