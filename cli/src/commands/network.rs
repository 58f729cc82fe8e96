//! `network create`, `list`, `show`, `attach-gateway`, `detach-gateway`, `map`,
//! `delete`.

mod picture;
mod tree;

use std::path::{Path, PathBuf};

use nube_proto::v1::network_service_client::NetworkServiceClient;
use nube_proto::v1::{
    CreateNetworkRequest, DeleteNetworkRequest, GetNetworkMapRequest, GetNetworkRequest,
    ListNetworksRequest, Network, SetInternetGatewayRequest,
};

use super::{App, subnet};
use crate::args::network::Network as Verb;
use crate::client::Client;
use crate::error::{Context, Result};
use crate::output::print;
use crate::output::table::{Fields, Look, Table};
use crate::output::text::{escape, time};

/// `network …`.
pub async fn run(app: &App, verb: Verb) -> Result<()> {
    app.output.refuse_csv()?;
    let client = app.client()?;
    match verb {
        Verb::Create {
            name,
            cidr,
            isolated,
        } => {
            let request = CreateNetworkRequest {
                request_id: client.request_id(),
                name,
                cidr: cidr.unwrap_or_default(),
                isolated,
            };
            let made = call!(
                client,
                "create network",
                NetworkServiceClient.create_network(request)
            )?;
            app.output.message(&made, |look| details(look, &made))
        }
        Verb::List => {
            let request = ListNetworksRequest::default();
            let all = pages!(client, "list networks", NetworkServiceClient.list_networks(request) -> networks);
            app.output.message(&all, |look| table(look, &all.networks))
        }
        Verb::Show { network } => {
            let request = GetNetworkRequest { network };
            let one = call!(
                client,
                "show network",
                NetworkServiceClient.get_network(request)
            )?;
            app.output.message(&one, |look| details(look, &one))
        }
        Verb::AttachGateway { network } => gateway(app, &client, network, true).await,
        Verb::DetachGateway { network } => gateway(app, &client, network, false).await,
        Verb::Map { network, svg } => map(app, &client, network, svg).await,
        Verb::Delete { network } => {
            let request = DeleteNetworkRequest {
                request_id: client.request_id(),
                network: network.clone(),
            };
            let done = call!(
                client,
                "delete network",
                NetworkServiceClient.delete_network(request)
            )?;
            let say = |_| format!("deleted network {}\n", escape(&network));
            app.output.message(&done, say)
        }
    }
}

async fn gateway(app: &App, client: &Client, network: String, attached: bool) -> Result<()> {
    let request = SetInternetGatewayRequest {
        request_id: client.request_id(),
        network,
        attached,
    };
    let now = call!(
        client,
        "change the gateway",
        NetworkServiceClient.set_internet_gateway(request)
    )?;
    app.output.message(&now, |look| details(look, &now))
}

async fn map(
    app: &App,
    client: &Client,
    network: Option<String>,
    svg: Option<PathBuf>,
) -> Result<()> {
    let request = GetNetworkMapRequest {
        network: network.unwrap_or_default(),
    };
    let map = call!(
        client,
        "draw networks",
        NetworkServiceClient.get_network_map(request)
    )?;
    match svg {
        None => app.output.message(&map, |_| tree::text(&map)),
        Some(file) if file == Path::new("-") => print(&picture::svg(&map)),
        Some(file) => {
            let shown = escape(&file.display().to_string());
            std::fs::write(&file, picture::svg(&map)).context(format!("`{shown}`"))?;
            app.output.message(&map, |_| format!("drawn in {shown}\n"))
        }
    }
}

fn way_out(network: &Network) -> &'static str {
    match network.internet_gateway {
        true => "attached",
        false => "none",
    }
}

fn table(look: Look, networks: &[Network]) -> String {
    let header = [
        "NAME",
        "RANGES",
        "GATEWAY",
        ">INSTANCES",
        ">NUMBER",
        "+ID",
        "+IPV6",
        "+CREATED",
    ];
    let mut table = Table::new(look, &header);
    for network in networks {
        let ranges = network.subnets.iter().map(|one| one.cidr.as_str());
        table.row([
            network.name.as_str().into(),
            ranges.collect::<Vec<_>>().join(",").into(),
            way_out(network).into(),
            network.instances.to_string().into(),
            network.number.to_string().into(),
            network.id.as_str().into(),
            network.ipv6_cidr.as_str().into(),
            time(network.created_at_ms).into(),
        ]);
    }
    table.render_or("no networks")
}

fn details(look: Look, network: &Network) -> String {
    let mut fields = Fields::default();
    fields.add("name", &network.name);
    fields.add("id", &network.id);
    fields.add("gateway", way_out(network));
    fields.add("instances", network.instances.to_string());
    fields.add("ipv6", &network.ipv6_cidr);
    fields.add("number", network.number.to_string());
    fields.add("mtu", network.mtu.to_string());
    fields.add("created", time(network.created_at_ms));
    format!(
        "{}\n{}",
        fields.render(),
        subnet::table(look, &network.subnets)
    )
}

#[cfg(test)]
mod test;
