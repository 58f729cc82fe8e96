//! `load-balancer create`, `list`, `show`, `drain`, `undrain`, `delete`.

use nube_proto::v1::load_balancer_service_client::LoadBalancerServiceClient;
use nube_proto::v1::{
    CreateLoadBalancerRequest, DeleteLoadBalancerRequest, GetLoadBalancerRequest, HealthCheck,
    ListLoadBalancersRequest, Listener, LoadBalancer, SetTargetDrainingRequest,
};

use super::App;
use crate::args::load_balancer::{Create, LoadBalancer as Verb, Target};
use crate::client::Client;
use crate::error::Result;
use crate::output::table::{Fields, Look, Table, Tone, Value};
use crate::output::text::{escape, or_dash, time};

/// `load-balancer …`.
pub async fn run(app: &App, verb: Verb) -> Result<()> {
    app.output.refuse_csv()?;
    let client = app.client()?;
    let balancer = match verb {
        Verb::Create(args) => {
            let request = request(&client, args);
            call!(
                client,
                "create load balancer",
                LoadBalancerServiceClient.create_load_balancer(request)
            )?
        }
        Verb::List => {
            let request = ListLoadBalancersRequest::default();
            let all = pages!(client, "list load balancers", LoadBalancerServiceClient.list_load_balancers(request) -> load_balancers);
            let balancers = &all.load_balancers;
            return app.output.message(&all, |look| table(look, balancers));
        }
        Verb::Show { load_balancer } => {
            let request = GetLoadBalancerRequest { load_balancer };
            call!(
                client,
                "show load balancer",
                LoadBalancerServiceClient.get_load_balancer(request)
            )?
        }
        Verb::Drain(target) => drain(&client, target, true).await?,
        Verb::Undrain(target) => drain(&client, target, false).await?,
        Verb::Delete { load_balancer } => {
            let say = format!("deleted load balancer {}\n", escape(&load_balancer));
            let request = DeleteLoadBalancerRequest {
                request_id: client.request_id(),
                load_balancer,
            };
            let done = call!(
                client,
                "delete load balancer",
                LoadBalancerServiceClient.delete_load_balancer(request)
            )?;
            return app.output.message(&done, |_| say);
        }
    };
    app.output
        .message(&balancer, |look| details(look, &balancer))
}

fn request(client: &Client, args: Create) -> CreateLoadBalancerRequest {
    let listeners = args.listeners.into_iter();
    let listeners = listeners.map(|(protocol, port, target_port)| Listener {
        protocol,
        port,
        target_port,
    });
    CreateLoadBalancerRequest {
        request_id: client.request_id(),
        name: args.name,
        network: args.network.unwrap_or_default(),
        listeners: listeners.collect(),
        target_labels: args.target_labels.into_iter().collect(),
        health_check: Some(HealthCheck {
            port: args.health_port.unwrap_or_default(),
            interval_seconds: args.health_interval.unwrap_or_default(),
            threshold: args.health_threshold.unwrap_or_default(),
        }),
        elastic_address: args.address.unwrap_or_default(),
    }
}

async fn drain(client: &Client, target: Target, draining: bool) -> Result<LoadBalancer> {
    let request = SetTargetDrainingRequest {
        request_id: client.request_id(),
        load_balancer: target.load_balancer,
        instance: target.instance,
        draining,
    };
    call!(
        client,
        "drain target",
        LoadBalancerServiceClient.set_target_draining(request)
    )
}

fn healthy(balancer: &LoadBalancer) -> String {
    let good = balancer.targets.iter().filter(|t| t.state == "healthy");
    format!("{}/{}", good.count(), balancer.targets.len())
}

fn listeners(balancer: &LoadBalancer) -> String {
    let listeners = balancer
        .listeners
        .iter()
        .map(|one| format!("{}:{}:{}", one.protocol, one.port, one.target_port));
    listeners.collect::<Vec<_>>().join(",")
}

fn table(look: Look, balancers: &[LoadBalancer]) -> String {
    let header = [
        "NAME",
        "ADDRESS",
        "ELASTIC",
        "LISTENERS",
        ">HEALTHY",
        "+ID",
        "+CREATED",
    ];
    let mut table = Table::new(look, &header);
    for one in balancers {
        table.row([
            one.name.as_str().into(),
            one.private_ip.as_str().into(),
            or_dash(&one.elastic_address).into(),
            listeners(one).into(),
            healthy(one).into(),
            one.id.as_str().into(),
            time(one.created_at_ms).into(),
        ]);
    }
    table.render_or("no load balancers")
}

fn details(look: Look, one: &LoadBalancer) -> String {
    let mut fields = Fields::default();
    fields.add("name", &one.name);
    fields.add("id", &one.id);
    fields.add("network", &one.network_id);
    fields.add("address", &one.private_ip);
    fields.add("elastic", &one.elastic_address);
    fields.add("listeners", listeners(one));
    let labels = one.target_labels.iter().map(|(k, v)| format!("{k}={v}"));
    fields.add("targets", labels.collect::<Vec<_>>().join(","));
    let check = one.health_check.unwrap_or_default();
    fields.add(
        "health",
        format!(
            "tcp {} every {} s, {} in a row",
            check.port, check.interval_seconds, check.threshold
        ),
    );
    fields.add("created", time(one.created_at_ms));
    let mut table = Table::new(look, &["TARGET", "ADDRESS", "STATE", "REASON", "+ID"]);
    for target in &one.targets {
        let tone = match target.state.as_str() {
            "healthy" => Tone::Good,
            "unhealthy" => Tone::Bad,
            _ => Tone::Busy,
        };
        table.row([
            target.instance_name.as_str().into(),
            target.private_ip.as_str().into(),
            Value::new(target.state.as_str(), tone),
            or_dash(&target.reason).into(),
            target.instance_id.as_str().into(),
        ]);
    }
    let targets = table.render_or("no instance of the network carries these labels");
    format!("{}\n{targets}", fields.render())
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn load_balancers_are_golden() {
        let target = |name: &str, state: &str, reason: &str| nube_proto::v1::Target {
            instance_id: "i-0000000000000001".into(),
            instance_name: name.into(),
            private_ip: "10.0.0.4".into(),
            state: state.into(),
            reason: reason.into(),
        };
        let one = LoadBalancer {
            id: "lb-0000000000000007".into(),
            name: "front".into(),
            network_id: "net-0000000000000001".into(),
            private_ip: "10.0.0.9".into(),
            elastic_address: "198.18.7.5".into(),
            listeners: vec![Listener {
                protocol: "tcp".into(),
                port: 80,
                target_port: 8080,
            }],
            target_labels: [("app".to_owned(), "web".to_owned())].into(),
            health_check: Some(HealthCheck {
                port: 8080,
                interval_seconds: 1,
                threshold: 2,
            }),
            targets: vec![
                target("web-1", "healthy", ""),
                target("web-2", "unhealthy", "connection refused"),
            ],
            created_at_ms: 1_790_000_000_000,
            ..LoadBalancer::default()
        };
        let text = table(Look::default(), std::slice::from_ref(&one)) + "\n";
        crate::golden::check_narrow("load_balancer", &(text + &details(Look::default(), &one)));
    }
}
