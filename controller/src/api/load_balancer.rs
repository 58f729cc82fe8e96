//! Load balancers: listeners, labels of targets, and which targets drain.

use std::sync::Arc;

use nube_proto::v1;
use nube_proto::v1::load_balancer_service_server::LoadBalancerService;
use nube_state::command::{CreateLoadBalancer, SetTargetDraining};
use nube_state::load_balancer::{HealthCheck, Listener};
use nube_state::security_group::Protocol;
use nube_state::{Command, Outcome, State, load_balancer};
use nube_types::LoadBalancerId;
use nube_types::limits::LISTENERS_PER_LOAD_BALANCER_MAX;
use tonic::{Request, Response, Status};

use super::mutation::{self, Mutation};
use super::{convert, field, page, resolve, status};
use crate::cell::Cell;

/// Handlers.
pub struct Service(pub Arc<Cell>);

const INTERVAL_SECONDS_MAX: u32 = 300;
const THRESHOLD_MAX: u32 = 10;
const THRESHOLD: u32 = 2;

fn show(state: &State, id: LoadBalancerId) -> Result<v1::LoadBalancer, Status> {
    let found = state.load_balancers.get(&id);
    let found = found.ok_or_else(|| status::not_found("load balancer", &id.to_string()))?;
    Ok(convert::load_balancer(state, found))
}

fn listener(message: &v1::Listener) -> Result<Listener, Status> {
    let protocol = match message.protocol.as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return Err(status::invalid("listeners.protocol", "tcp or udp")),
    };
    let port = field::port("listeners.port", message.port)?;
    let target_port = match message.target_port {
        0 => port,
        other => field::port("listeners.target_port", other)?,
    };
    Ok(Listener {
        protocol,
        port,
        target_port,
    })
}

fn listeners(messages: &[v1::Listener]) -> Result<Vec<Listener>, Status> {
    if messages.is_empty() || messages.len() > LISTENERS_PER_LOAD_BALANCER_MAX {
        let rule = format!("1 to {LISTENERS_PER_LOAD_BALANCER_MAX}");
        return Err(status::invalid("listeners", rule));
    }
    let listeners: Vec<Listener> = messages.iter().map(listener).collect::<Result<_, _>>()?;
    for (at, one) in listeners.iter().enumerate() {
        let same = |other: &Listener| (other.protocol, other.port) == (one.protocol, one.port);
        if listeners[..at].iter().any(same) {
            let word = convert::protocol_word(one.protocol);
            let rule = format!("two listen on {word} {}", one.port);
            return Err(status::invalid("listeners.port", rule));
        }
    }
    Ok(listeners)
}

fn health_check(
    message: Option<&v1::HealthCheck>,
    listeners: &[Listener],
) -> Result<HealthCheck, Status> {
    let message = message.copied().unwrap_or_default();
    let bounded = |field: &str, value: u32, default: u32, max: u32| match value {
        0 => Ok(default),
        value if value <= max => Ok(value),
        _ => Err(status::invalid(
            field,
            format!("1 to {max}, or 0 for {default}"),
        )),
    };
    let port = match message.port {
        0 => listeners.first().map_or(1, |first| first.target_port),
        port => field::port("health_check.port", port)?,
    };
    let seconds = bounded(
        "health_check.interval_seconds",
        message.interval_seconds,
        1,
        INTERVAL_SECONDS_MAX,
    )?;
    let threshold = bounded(
        "health_check.threshold",
        message.threshold,
        THRESHOLD,
        THRESHOLD_MAX,
    )?;
    Ok(HealthCheck {
        port,
        interval_ms: seconds * 1_000,
        threshold: u8::try_from(threshold).unwrap_or(u8::MAX),
    })
}

impl Service {
    fn made(&self, outcome: &Outcome) -> Result<Response<v1::LoadBalancer>, Status> {
        match outcome {
            Outcome::LoadBalancer(id) => show(&self.0.views.now(), *id).map(Response::new),
            other => Err(status::fault(
                "changing a load balancer",
                &format!("{other:?}"),
            )),
        }
    }
}

#[tonic::async_trait]
impl LoadBalancerService for Service {
    async fn create_load_balancer(
        &self,
        request: Request<v1::CreateLoadBalancerRequest>,
    ) -> Result<Response<v1::LoadBalancer>, Status> {
        let (caller, mut message) = mutation::take(request)?;
        let request_id = std::mem::take(&mut message.request_id);
        let name = field::name("name", &message.name)?;
        let listeners = listeners(&message.listeners)?;
        let health_check = health_check(message.health_check.as_ref(), &listeners)?;
        let target_labels = field::labels("target_labels", &message.target_labels)?;
        if target_labels.is_empty() {
            let rule = "at least one: instances that carry all of them are targets";
            return Err(status::invalid("target_labels", rule));
        }
        let state = self.0.read().await?;
        let mutation = Mutation::begin(caller, &request_id, &message)?;
        let project = mutation.request.project;
        let outcome = match mutation.recall(&state)? {
            Some(outcome) => outcome,
            None => {
                let elastic_address = match message.elastic_address.as_str() {
                    "" => None,
                    one => Some(resolve::address(&state, project, "elastic_address", one)?.id),
                };
                let command = Command::CreateLoadBalancer(CreateLoadBalancer {
                    project,
                    id: LoadBalancerId(rand::random()),
                    name,
                    network: resolve::network(&state, project, &message.network)?.id,
                    listeners,
                    target_labels,
                    health_check,
                    elastic_address,
                });
                mutation.commit(&self.0, command).await?.1
            }
        };
        self.made(&outcome)
    }

    async fn get_load_balancer(
        &self,
        request: Request<v1::GetLoadBalancerRequest>,
    ) -> Result<Response<v1::LoadBalancer>, Status> {
        let (caller, message) = mutation::take(request)?;
        let state = self.0.read().await?;
        let found = resolve::load_balancer(&state, caller.project, &message.load_balancer)?;
        Ok(Response::new(convert::load_balancer(&state, found)))
    }

    async fn list_load_balancers(
        &self,
        request: Request<v1::ListLoadBalancersRequest>,
    ) -> Result<Response<v1::ListLoadBalancersResponse>, Status> {
        let (caller, message) = mutation::take(request)?;
        let state = self.0.read().await?;
        let own = load_balancer::of_project(&state, caller.project);
        let (page, next_page_token) =
            page::cut(own, |one| one.id, message.page_size, &message.page_token)?;
        let shown = page.into_iter();
        let shown = shown.map(|one| convert::load_balancer(&state, one));
        Ok(Response::new(v1::ListLoadBalancersResponse {
            load_balancers: shown.collect(),
            next_page_token,
            revision: state.index,
        }))
    }

    async fn set_target_draining(
        &self,
        request: Request<v1::SetTargetDrainingRequest>,
    ) -> Result<Response<v1::LoadBalancer>, Status> {
        let (caller, mut message) = mutation::take(request)?;
        let request_id = std::mem::take(&mut message.request_id);
        let state = self.0.read().await?;
        let mutation = Mutation::begin(caller, &request_id, &message)?;
        let project = mutation.request.project;
        let outcome = match mutation.recall(&state)? {
            Some(outcome) => outcome,
            None => {
                let balancer = resolve::load_balancer(&state, project, &message.load_balancer)?;
                let command = Command::SetTargetDraining(SetTargetDraining {
                    project,
                    load_balancer: balancer.id,
                    instance: resolve::instance(&state, project, &message.instance)?.id,
                    draining: message.draining,
                });
                mutation.commit(&self.0, command).await?.1
            }
        };
        self.made(&outcome)
    }

    async fn delete_load_balancer(
        &self,
        request: Request<v1::DeleteLoadBalancerRequest>,
    ) -> Result<Response<v1::DeleteLoadBalancerResponse>, Status> {
        let (caller, mut message) = mutation::take(request)?;
        let request_id = std::mem::take(&mut message.request_id);
        let state = self.0.read().await?;
        let mutation = Mutation::begin(caller, &request_id, &message)?;
        if mutation.recall(&state)?.is_none() {
            let project = mutation.request.project;
            let id = resolve::load_balancer(&state, project, &message.load_balancer)?.id;
            let command = Command::DeleteLoadBalancer(project, id);
            mutation.commit(&self.0, command).await?;
        }
        Ok(Response::new(v1::DeleteLoadBalancerResponse {}))
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn one(protocol: &str, port: u32, target_port: u32) -> v1::Listener {
        v1::Listener {
            protocol: protocol.to_owned(),
            port,
            target_port,
        }
    }

    fn told(messages: &[v1::Listener]) -> String {
        match listeners(messages) {
            Ok(good) => format!("{} good", good.len()),
            Err(status) => status.message().to_owned(),
        }
    }

    #[test]
    fn listeners_are_refused_by_field_and_rule() {
        assert_eq!(told(&[one("tcp", 80, 0), one("udp", 80, 8080)]), "2 good");
        assert_eq!(told(&[]), "listeners: 1 to 10");
        assert_eq!(told(&vec![one("tcp", 80, 0); 11]), "listeners: 1 to 10");
        assert_eq!(
            told(&[one("icmp", 80, 0)]),
            "listeners.protocol: tcp or udp"
        );
        assert!(told(&[one("tcp", 0, 80)]).starts_with("listeners.port: 0 is not a port"));
        assert!(told(&[one("tcp", 1, 65_536)]).starts_with("listeners.target_port: 65536"));
        assert_eq!(
            told(&[one("tcp", 80, 1), one("tcp", 80, 2)]),
            "listeners.port: two listen on tcp 80"
        );
    }

    #[test]
    fn health_checks_have_defaults_and_bounds() {
        let listening = listeners(&[one("tcp", 80, 8080)]).expect("good");
        let check = health_check(None, &listening).expect("defaults");
        assert_eq!(
            (check.port, check.interval_ms, check.threshold),
            (8080, 1_000, 2)
        );
        for (port, interval_seconds, threshold, field) in [
            (65_536, 1, 1, "health_check.port"),
            (1, 301, 1, "health_check.interval_seconds"),
            (1, u32::MAX, 1, "health_check.interval_seconds"),
            (1, 1, 11, "health_check.threshold"),
        ] {
            let message = v1::HealthCheck {
                port,
                interval_seconds,
                threshold,
            };
            let error = health_check(Some(&message), &listening).expect_err(field);
            assert!(error.message().starts_with(field), "{error}");
        }
    }
}
