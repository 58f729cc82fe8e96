//! The one table from refusals to gRPC: code, reason word and details
//! (google.rpc.Status). Faults are logged here; their text stays inside.

use std::collections::HashMap;

use nube_consensus::ProposeError;
use nube_state::Refusal;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::propose;

/// `ErrorInfo.domain` of every error.
pub const DOMAIN: &str = "nube";

fn with_reason(code: Code, reason: &str, text: String, mut details: ErrorDetails) -> Status {
    details.set_error_info(reason, DOMAIN, HashMap::new());
    Status::with_error_details(code, text, details)
}

/// A field that breaks a rule.
#[must_use]
pub fn invalid(field: &str, rule: impl Into<String>) -> Status {
    let rule = rule.into();
    let text = format!("{field}: {rule}");
    let details = ErrorDetails::with_bad_request_violation(field, rule);
    with_reason(Code::InvalidArgument, "INVALID_FIELD", text, details)
}

/// A thing that is absent, or another project's: both look the same.
#[must_use]
pub fn not_found(kind: impl std::fmt::Display, reference: &str) -> Status {
    let shown: String = reference.chars().take(80).collect();
    let shown = shown.escape_debug();
    let text = format!("{kind} `{shown}` not found");
    let mut details = ErrorDetails::new();
    details.set_resource_info(kind.to_string(), shown.to_string(), "", "not found");
    with_reason(Code::NotFound, "NOT_FOUND", text, details)
}

/// Nobody, or not who one says.
#[must_use]
pub fn unauthenticated(text: &str) -> Status {
    with_reason(
        Code::Unauthenticated,
        "UNAUTHENTICATED",
        text.to_owned(),
        ErrorDetails::new(),
    )
}

/// Known, and not allowed; the text says what would be needed.
#[must_use]
pub fn forbidden(text: &str) -> Status {
    with_reason(
        Code::PermissionDenied,
        "PERMISSION_DENIED",
        text.to_owned(),
        ErrorDetails::new(),
    )
}

/// Changes since that revision are no longer kept here.
#[must_use]
pub fn compacted(text: String) -> Status {
    with_reason(Code::OutOfRange, "COMPACTED", text, ErrorDetails::new())
}

/// No host fits; the text says what each lacks.
#[must_use]
pub fn no_capacity(text: String) -> Status {
    with_reason(
        Code::ResourceExhausted,
        "NO_CAPACITY",
        text,
        ErrorDetails::new(),
    )
}

/// The thing is not in a state for this.
#[must_use]
pub fn precondition(reason: &str, text: String) -> Status {
    with_reason(Code::FailedPrecondition, reason, text, ErrorDetails::new())
}

/// Somebody else has it now.
#[must_use]
pub fn taken_over(text: &str) -> Status {
    let details = ErrorDetails::new();
    with_reason(Code::Aborted, "TAKEN_OVER", text.to_owned(), details)
}

const MEMBER_REMOVED: &str = "MEMBER_REMOVED";

/// To a controller that is no member any more.
#[must_use]
pub fn member_removed(member: u64) -> Status {
    with_reason(
        Code::PermissionDenied,
        MEMBER_REMOVED,
        format!("member {member} was removed from this cluster"),
        ErrorDetails::new(),
    )
}

/// Whether another controller said that.
#[must_use]
pub fn is_member_removed(status: &Status) -> bool {
    let info = status.get_details_error_info();
    status.code() == Code::PermissionDenied && info.is_some_and(|i| i.reason == MEMBER_REMOVED)
}

/// Nobody can answer now; asking again is safe.
#[must_use]
pub fn unavailable(cause: &dyn std::error::Error) -> Status {
    with_reason(
        Code::Unavailable,
        "UNAVAILABLE",
        cause.to_string(),
        ErrorDetails::new(),
    )
}

/// Something of ours failed. The cause goes to the log, not to the caller.
#[must_use]
pub fn fault(step: &str, cause: &dyn std::fmt::Display) -> Status {
    tracing::error!("{step}: {cause}");
    let text = format!("{step} failed; the controller's log says why");
    with_reason(Code::Internal, "FAULT", text, ErrorDetails::new())
}

/// Why a command was not committed.
#[must_use]
pub fn from_propose(error: &propose::Error) -> Status {
    match error {
        propose::Error::Unknown => with_reason(
            Code::Unavailable,
            "OUTCOME_UNKNOWN",
            error.to_string(),
            ErrorDetails::new(),
        ),
        propose::Error::Refused(ProposeError::StorageFull) => {
            let text = "the controllers' disk is full; nothing was changed".to_owned();
            precondition("STORAGE_FULL", text)
        }
        propose::Error::Refused(ProposeError::BadSize { limit, .. }) => invalid(
            "request",
            format!("larger than the {limit} bytes of a log entry"),
        ),
        propose::Error::Refused(cause) => with_reason(
            Code::Unavailable,
            "OVERLOADED",
            cause.to_string(),
            ErrorDetails::new(),
        ),
    }
}

/// Why a committed command changed nothing.
#[must_use]
pub fn from_refusal(refusal: &Refusal) -> Status {
    let text = refusal.to_string();
    let plain = |code, reason| with_reason(code, reason, text.clone(), ErrorDetails::new());
    match refusal {
        Refusal::NotFound { kind, reference } => not_found(kind, reference),
        Refusal::Invalid { field, rule } => invalid(field, rule.clone()),
        Refusal::NameTaken { .. } => plain(Code::AlreadyExists, "NAME_TAKEN"),
        Refusal::DuplicateSshKey { .. } => plain(Code::AlreadyExists, "DUPLICATE_KEY"),
        Refusal::RequestIdReused => plain(Code::AlreadyExists, "REQUEST_ID_REUSED"),
        Refusal::LimitReached { what, limit } => {
            let mut details = ErrorDetails::new();
            details.add_quota_failure_violation(what.clone(), format!("at most {limit}"));
            with_reason(Code::ResourceExhausted, "LIMIT_REACHED", text, details)
        }
        Refusal::QuotaExceeded {
            resource,
            limit,
            used,
            asked,
        } => {
            let mut details = ErrorDetails::new();
            let figures = format!("limit {limit}, used {used}, asked {asked}");
            details.add_quota_failure_violation(resource.clone(), figures);
            with_reason(Code::ResourceExhausted, "QUOTA_EXCEEDED", text, details)
        }
        Refusal::RevisionChanged { .. } => plain(Code::Aborted, "REVISION_CHANGED"),
        Refusal::NotEmpty { .. } => plain(Code::FailedPrecondition, "NOT_EMPTY"),
        Refusal::RoleMissing { .. } => plain(Code::FailedPrecondition, "ROLE_MISSING"),
        Refusal::NoAddress => plain(Code::ResourceExhausted, "NO_ADDRESS"),
        Refusal::AddressInUse { .. } => plain(Code::FailedPrecondition, "ADDRESS_IN_USE"),
        Refusal::NoElasticAddress => plain(Code::ResourceExhausted, "NO_ELASTIC_ADDRESS"),
        Refusal::InUse { .. } => plain(Code::FailedPrecondition, "IN_USE"),
        Refusal::WrongState { .. } => plain(Code::FailedPrecondition, "WRONG_STATE"),
        // Ours to try again; a client sees it only when trying did not help.
        Refusal::StalePlacement { .. } | Refusal::IdTaken(_) => {
            plain(Code::Unavailable, "PLACEMENT_CONTENDED")
        }
        Refusal::TokenRefused => plain(Code::Unauthenticated, "TOKEN_REFUSED"),
        Refusal::QuorumAtRisk(_) => plain(Code::FailedPrecondition, "QUORUM_AT_RISK"),
        Refusal::Fence { .. } => plain(Code::FailedPrecondition, "HOST_NOT_LOST"),
        Refusal::Initialisation(_) => plain(Code::Unavailable, "NOT_INITIALISED"),
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use nube_state::Kind;

    #[test]
    fn errors_carry_code_reason_and_field() {
        let status = invalid("name", "too long");
        assert_eq!(status.code(), Code::InvalidArgument);
        let violations = status.get_details_bad_request().expect("a violation");
        assert_eq!(violations.field_violations[0].field, "name");
        assert_eq!(
            status.get_details_error_info().expect("info").reason,
            "INVALID_FIELD"
        );
    }

    #[test]
    fn absent_things_answer_alike_and_without_control_characters() {
        let a = from_refusal(&Refusal::NotFound {
            kind: Kind::Instance,
            reference: "i-0000000000000001".to_owned(),
        });
        let b = not_found("instance", "i-0000000000000001");
        assert_eq!((a.code(), a.message()), (b.code(), b.message()));
        assert!(
            !not_found("image", "x\n\u{1b}[2J")
                .message()
                .contains(char::is_control)
        );
    }
}
