//! What an agent says, checked: greetings to facts, reports to commands. The
//! node is the certificate's; every text and list is bounded.

use std::net::Ipv4Addr;

use nube_proto::agent::v1::{HealthReport, Hello, ObservedInstance, Report, TrafficReport};
use nube_proto::v1;
use nube_state::command::{
    InstanceTraffic, Observed, ReportInstances, ReportTargetHealth, ReportTraffic, TargetVerdict,
};
use nube_state::{Accelerator, InstanceStage, InstanceState, Isolation, NodeFacts};
use nube_types::limits::{INSTANCES_MAX, LABEL_VALUE_BYTES_MAX, REASON_BYTES_MAX};
use nube_types::{Mib, Name, NodeId, PlacementEpoch, label};
use tonic::Status;

const DRIVERS_MAX: usize = 8;
/// Verdicts of one host: an instance may be the target of several load balancers.
const VERDICTS_MAX: usize = 10_000;
const VERDICT_REASON_BYTES_MAX: usize = 100;
const UNKNOWN_MAX: usize = 20;
/// One host with more is not a host; sums over a cell stay far from overflow.
const VCPUS_MAX: u32 = 1 << 16;
const OVERCOMMIT_PERCENT_MAX: u32 = 100_000;
const MIB_MAX: u64 = 1 << 40;

fn bounded(field: &str, text: &str, bytes_max: usize) -> Result<String, Status> {
    if text.len() > bytes_max || text.chars().any(char::is_control) {
        let rule = format!("{field}: at most {bytes_max} bytes without control characters");
        return Err(Status::invalid_argument(rule));
    }
    Ok(text.to_owned())
}

fn cut(text: &str, bytes_max: usize) -> String {
    let clean: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let mut end = clean.len().min(bytes_max);
    while !clean.is_char_boundary(end) {
        end -= 1;
    }
    clean[..end].to_owned()
}

/// Facts of a node, from its agent's greeting.
pub fn node(node: NodeId, hello: &Hello) -> Result<NodeFacts, Status> {
    let short = |field, text: &str| bounded(field, text, LABEL_VALUE_BYTES_MAX);
    if hello.node_id.parse() != Ok(node) {
        return Err(Status::permission_denied(
            "node_id: another node's certificate",
        ));
    }
    label::check(&hello.labels).map_err(|e| Status::invalid_argument(format!("labels: {e}")))?;
    let name = |field: &str, text: &str| {
        Name::new(text).map_err(|error| Status::invalid_argument(format!("{field}: {error}")))
    };
    let drivers = hello.drivers.iter().take(DRIVERS_MAX);
    Ok(NodeFacts {
        id: node,
        name: name("node_name", &hello.node_name)?,
        zone: name("zone", &hello.zone)?.to_string(),
        agent_epoch: hello.agent_epoch,
        boot_id: short("boot_id", &hello.boot_id)?,
        agent_version: short("agent_version", &hello.agent_version)?,
        hypervisor_version: short("hypervisor_version", &hello.hypervisor_version)?,
        kernel_version: short("kernel_version", &hello.kernel_version)?,
        vcpus: hello.vcpus.min(VCPUS_MAX),
        vcpu_overcommit_percent: hello.vcpu_overcommit_percent.min(OVERCOMMIT_PERCENT_MAX),
        memory: Mib(hello.memory_mib.min(MIB_MAX)),
        disk: Mib(hello.disk_mib.min(MIB_MAX)),
        accelerator: match hello.accelerator.as_str() {
            "kvm" => Accelerator::Kvm,
            _ => Accelerator::Tcg,
        },
        accelerator_reason: cut(&hello.accelerator_reason, REASON_BYTES_MAX),
        isolation: match hello.isolation.as_str() {
            "hardware" => Isolation::Hardware,
            _ => Isolation::None,
        },
        drivers: drivers
            .map(|driver| short("drivers", driver))
            .collect::<Result<_, _>>()?,
        labels: hello.labels.clone(),
        unknown: hello
            .unknown_resources
            .iter()
            .take(UNKNOWN_MAX)
            .map(|u| cut(u, 200))
            .collect(),
        overlay_address: overlay_address(&hello.overlay_address)?,
    })
}

/// Others send packets there: a unicast address of IPv4, or none.
fn overlay_address(text: &str) -> Result<Option<u32>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    let address = text.parse::<Ipv4Addr>().ok();
    let address = address.filter(|a| !a.is_multicast() && !a.is_broadcast() && !a.is_unspecified());
    address
        .map(|address| Some(address.to_bits()))
        .ok_or_else(|| Status::invalid_argument("overlay_address: not a unicast IPv4 address"))
}

/// A report as a command.
pub fn report(node: NodeId, report: &Report) -> Result<ReportInstances, Status> {
    if report.instances.len() > INSTANCES_MAX {
        return Err(Status::invalid_argument("instances: too many"));
    }
    Ok(ReportInstances {
        node,
        agent_epoch: report.agent_epoch,
        sequence: report.sequence,
        full: report.full,
        observed: report
            .instances
            .iter()
            .map(observed)
            .collect::<Result<_, _>>()?,
        unknown: report
            .unknown_resources
            .iter()
            .take(UNKNOWN_MAX)
            .map(|u| cut(u, 200))
            .collect(),
    })
}

fn observed(seen: &ObservedInstance) -> Result<Observed, Status> {
    let wrong = |field: &str| Status::invalid_argument(format!("instances.{field}: malformed"));
    Ok(Observed {
        instance: seen.instance_id.parse().map_err(|_| wrong("instance_id"))?,
        epoch: PlacementEpoch(seen.placement_epoch),
        applied_generation: seen.applied_generation,
        state: state(seen.state).ok_or_else(|| wrong("state"))?,
        stage: stage(seen.stage),
        reason: cut(&seen.reason, REASON_BYTES_MAX),
        found_dead: seen.found_dead,
        reboot_count: seen.reboot_count,
    })
}

/// Totals as a command.
pub fn traffic(node: NodeId, report: &TrafficReport) -> Result<ReportTraffic, Status> {
    if report.instances.len() > INSTANCES_MAX {
        return Err(Status::invalid_argument("traffic: too many instances"));
    }
    let wrong = |_| Status::invalid_argument("traffic.instance_id: malformed");
    let instances = report.instances.iter().map(|seen| {
        Ok(InstanceTraffic {
            instance: seen.instance_id.parse().map_err(wrong)?,
            epoch: PlacementEpoch(seen.placement_epoch),
            bytes_out: seen.bytes_out,
            bytes_in: seen.bytes_in,
        })
    });
    Ok(ReportTraffic {
        node,
        instances: instances.collect::<Result<_, Status>>()?,
    })
}

/// Verdicts as a command.
pub fn health(node: NodeId, report: &HealthReport) -> Result<ReportTargetHealth, Status> {
    if report.targets.len() > VERDICTS_MAX {
        return Err(Status::invalid_argument("health: too many targets"));
    }
    let wrong = |field: &str| Status::invalid_argument(format!("health.{field}: malformed"));
    let targets = report.targets.iter().map(|seen| {
        Ok(TargetVerdict {
            load_balancer: seen
                .load_balancer_id
                .parse()
                .map_err(|_| wrong("load_balancer_id"))?,
            instance: seen.instance_id.parse().map_err(|_| wrong("instance_id"))?,
            epoch: PlacementEpoch(seen.placement_epoch),
            healthy: seen.healthy,
            reason: cut(&seen.reason, VERDICT_REASON_BYTES_MAX),
        })
    });
    Ok(ReportTargetHealth {
        node,
        targets: targets.collect::<Result<_, Status>>()?,
    })
}

fn state(number: i32) -> Option<InstanceState> {
    Some(match v1::InstanceState::try_from(number).ok()? {
        v1::InstanceState::Unspecified => return None,
        v1::InstanceState::Pending => InstanceState::Pending,
        v1::InstanceState::Starting => InstanceState::Starting,
        v1::InstanceState::Running => InstanceState::Running,
        v1::InstanceState::Stopping => InstanceState::Stopping,
        v1::InstanceState::Stopped => InstanceState::Stopped,
        v1::InstanceState::Deleting => InstanceState::Deleting,
        v1::InstanceState::Deleted => InstanceState::Deleted,
        v1::InstanceState::Failed => InstanceState::Failed,
    })
}

fn stage(number: i32) -> InstanceStage {
    match v1::InstanceStage::try_from(number) {
        Ok(v1::InstanceStage::Image) => InstanceStage::Image,
        Ok(v1::InstanceStage::Prepare) => InstanceStage::Prepare,
        Ok(v1::InstanceStage::Boot) => InstanceStage::Boot,
        Ok(v1::InstanceStage::Running) => InstanceStage::Running,
        _ => InstanceStage::None,
    }
}
