//! What every mutation has in common: who asks, under which request id, and
//! with which parameters.

use nube_state::{Command, Outcome, Request as StateRequest, State, request};
use nube_types::RequestId;
use prost::Message;
use tonic::{Request, Status};

use super::status;
use crate::authorise::{self, Caller};
use crate::cell::Cell;

/// A mutation that was let in.
pub struct Mutation {
    /// Who asks.
    pub caller: Caller,
    /// In the caller's project.
    pub request: StateRequest,
}

impl Mutation {
    /// Reads the request id. `parameters` is the message with the request id
    /// cleared: its hash tells a repetition from a reuse. Somebody else's
    /// repetition is a reuse: answers may hold secrets.
    pub fn begin<T: Message + prost::Name>(
        caller: Caller,
        request_id: &str,
        parameters: &T,
    ) -> Result<Self, Status> {
        let id = parse_id(request_id)?;
        crate::observe::request(id);
        let mut hasher = blake3::Hasher::new();
        hasher.update(T::NAME.as_bytes());
        hasher.update(&parameters.encode_to_vec());
        if let Some(principal) = caller.principal {
            hasher.update(&principal.0.to_be_bytes());
        }
        let mut hash = [0; 16];
        hash.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        let request = StateRequest {
            project: caller.project,
            id,
            parameters: hash,
        };
        Ok(Self { caller, request })
    }

    /// The first outcome, when this is a repetition.
    pub fn recall(&self, state: &State) -> Result<Option<Outcome>, Status> {
        request::recall(state, &self.request)
            .map(accept)
            .transpose()
    }

    /// Commits the command; a refusal becomes an error.
    pub async fn commit(&self, cell: &Cell, command: Command) -> Result<(u64, Outcome), Status> {
        let by = (self.caller.actor.clone(), self.caller.source.clone());
        let committed = cell.proposer.submit(by, Some(self.request), command).await;
        let committed = committed.map_err(|error| status::from_propose(&error))?;
        Ok((committed.index, accept(committed.outcome)?))
    }
}

fn accept(outcome: Outcome) -> Result<Outcome, Status> {
    match outcome {
        Outcome::Refused(refusal) => Err(status::from_refusal(&refusal)),
        outcome => Ok(outcome),
    }
}

/// 32 hexadecimal digits or a UUID, which has the same digits.
fn parse_id(text: &str) -> Result<RequestId, Status> {
    let parsed = uuid::Uuid::try_parse(text).ok().filter(|id| !id.is_nil());
    let rule = "required: 16 random bytes as 32 hexadecimal digits or a UUID";
    parsed
        .map(|id| RequestId(*id.as_bytes()))
        .ok_or_else(|| status::invalid("request_id", rule))
}

/// Splits a request into its caller and its message.
pub fn take<T>(request: Request<T>) -> Result<(Caller, T), Status> {
    let caller = authorise::caller(&request)?;
    Ok((caller, request.into_inner()))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn request_ids_are_uuids_in_either_form() {
        let plain = parse_id("000102030405060708090a0b0c0d0e0f").expect("digits");
        let dashed = parse_id("00010203-0405-0607-0809-0a0b0c0d0e0f").expect("a UUID");
        assert_eq!(plain, dashed);
        for bad in [
            "",
            "1",
            "zz",
            "00000000000000000000000000000000",
            &"0".repeat(1000),
        ] {
            assert!(parse_id(bad).is_err(), "{bad}");
        }
    }
}
