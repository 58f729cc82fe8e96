//! Whether a packet would pass, and why: the same questions that the hosts' rules
//! ask, in the order a packet meets them, answered from a view. Pure: nothing is
//! sent.
//!
//! ```text
//!  instance ─► source ─► egress rules ─► route ─────────────► ingress rules ─► state
//!                │            └► internet gateway ─► elastic address ▲
//!                └► load balancer ─► egress rules ─► route ──────────┴─ (of a target)
//!  internet ─► elastic address ─► internet gateway ─► ingress rules or load balancer
//! ```

mod end;
mod rules;
mod walk;

use nube_proto::v1;
use nube_state::State;
use nube_state::security_group::Protocol;
use nube_types::ProjectId;
use tonic::Status;

use super::{convert, field, status};
use end::{From, To};
use walk::Walk;

/// What is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Packet {
    protocol: Protocol,
    /// Of the receiver; 0 without ports.
    port: u16,
}

impl Packet {
    fn read(message: &v1::ExplainPathRequest) -> Result<Self, Status> {
        let protocol = match (message.protocol.as_str(), message.port) {
            ("", 0) | ("icmp", _) => Protocol::Icmp,
            ("" | "tcp", _) => Protocol::Tcp,
            ("udp", _) => Protocol::Udp,
            _ => return Err(status::invalid("protocol", "tcp, udp or icmp")),
        };
        let port = match (protocol, message.port) {
            (Protocol::Icmp, 0) => 0,
            (Protocol::Icmp, _) => return Err(status::invalid("port", "icmp has no ports")),
            (_, port) => field::port("port", port)?,
        };
        Ok(Self { protocol, port })
    }

    fn to_port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    fn words(self) -> String {
        let word = convert::protocol_word(self.protocol);
        match self.port {
            0 => word.to_owned(),
            port => format!("{word} {port}"),
        }
    }
}

/// The answer of one view.
pub fn explain(
    state: &State,
    project: ProjectId,
    message: &v1::ExplainPathRequest,
) -> Result<v1::PathExplanation, Status> {
    let packet = Packet::read(message)?;
    let from = From::read(state, project, &message.from)?;
    let to = To::read(state, project, from, &message.to)?;
    let (from_name, to_name) = (from.words(), to.words());
    let mut walk = Walk::new(state, packet);
    let passes = walk.go(from, to).is_ok();
    let (steps, advice) = walk.into_parts();
    let what = packet.words();
    let summary = match advice {
        None => format!("{what} from {from_name} reaches {to_name}"),
        Some(advice) => format!("{what} from {from_name} does not reach {to_name}: {advice}"),
    };
    Ok(v1::PathExplanation {
        passes,
        summary,
        steps,
        revision: state.index,
    })
}

#[cfg(test)]
mod test;
