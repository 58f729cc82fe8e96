//! Every failure of `cloudctl` and its exit code: the one table from gRPC
//! status to what a person reads and a script tests.

use std::fmt::Display;

use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::output::text::escape;

/// Result of every command.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Exit codes, as `--help` documents them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Refused, or failed on the way.
    Failed = 1,
    /// The command line itself is wrong (clap uses the same number).
    Usage = 2,
    /// The named thing does not exist.
    NotFound = 3,
    /// No controller answered in time.
    Unavailable = 4,
    /// The name is taken, or somebody else changed it at the same time.
    Conflict = 5,
    /// No host has room, or a quota is used up.
    NoCapacity = 6,
    /// The caller is not known, or not allowed to do this.
    Forbidden = 7,
}

impl Exit {
    /// The number for the shell.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// What went wrong, in the words for a person.
#[derive(Debug)]
pub struct Error {
    exit: Exit,
    message: String,
    details: Vec<String>,
    hint: Option<String>,
    /// Boxed: most errors have none, and every result would carry its size.
    refusal: Option<Box<Refusal>>,
}

/// What a controller says beside the text.
#[derive(Debug)]
struct Refusal {
    reason: String,
    subject: Option<Subject>,
}

/// The thing that a controller does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// As `instance`.
    pub kind: String,
    /// What was typed.
    pub name: String,
}

impl Error {
    /// A failure with its exit code.
    pub fn new(exit: Exit, message: impl Display) -> Self {
        Self {
            exit,
            message: message.to_string(),
            details: Vec::new(),
            hint: None,
            refusal: None,
        }
    }

    /// The common kind: exit code 1.
    pub fn failed(message: impl Display) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// The command line asks for something that makes no sense.
    pub fn usage(message: impl Display) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Adds the next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Adds one indented line below the message.
    #[must_use]
    pub fn detail(mut self, line: impl Display) -> Self {
        self.details.push(line.to_string());
        self
    }

    /// Translates a controller's refusal; `what` is the action in the
    /// infinitive, as `launch`.
    #[must_use]
    pub fn from_status(what: &str, status: &Status) -> Self {
        let exit = exit_of(status.code());
        let message = match status.message() {
            "" => format!("{what}: {}", status.code()),
            text => format!("{what}: {text}"),
        };
        let details = status.get_error_details();
        let mut lines = Vec::new();
        if let Some(bad) = details.bad_request() {
            let lines_of = bad.field_violations.iter();
            lines.extend(lines_of.map(|v| format!("{}: {}", v.field, v.description)));
        }
        if let Some(precondition) = details.precondition_failure() {
            let lines_of = precondition.violations.iter();
            lines.extend(lines_of.map(|v| format!("{}: {}", v.subject, v.description)));
        }
        if let Some(quota) = details.quota_failure() {
            let lines_of = quota.violations.iter();
            lines.extend(lines_of.map(|v| format!("{}: {}", v.subject, v.description)));
        }
        // The first violation often is the message itself: say it once.
        lines.retain(|line| !message.contains(line.as_str()));
        let reason = reason_of(status);
        let server_hint = details.help().and_then(|help| help.links.first());
        let hint = match server_hint {
            Some(link) => Some(format!("{} {}", link.description, link.url)),
            None => hint_of(status.code(), &reason).map(str::to_owned),
        };
        let subject = details.resource_info().map(|info| Subject {
            kind: info.resource_type.clone(),
            name: info.resource_name.clone(),
        });
        Self {
            exit,
            message,
            details: lines,
            hint,
            refusal: Some(Box::new(Refusal { reason, subject })),
        }
    }

    /// The exit code's kind.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// The controller's word for it, as `COMPACTED`; empty when there is none.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.refusal.as_ref().map_or("", |refusal| &refusal.reason)
    }

    /// What was not found, where the controller says it.
    #[must_use]
    pub fn subject(&self) -> Option<&Subject> {
        self.refusal.as_ref()?.subject.as_ref()
    }

    /// The text for standard error. Control characters are escaped: names,
    /// reasons and messages come from other people.
    #[must_use]
    pub fn render(&self) -> String {
        // A refusal may have a line for each host: line ends are the server's.
        let mut lines = self.message.trim_end().lines().map(escape);
        let mut text = format!("error: {}\n", lines.next().unwrap_or_default());
        for line in lines {
            text.push_str(&format!("  {line}\n"));
        }
        for line in &self.details {
            text.push_str(&format!("  {}\n", escape(line)));
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("hint: {}\n", escape(hint.trim_end())));
        }
        text
    }
}

/// `context` turns an I/O error into a sentence that names the thing.
pub trait Context<T> {
    /// Wraps the error as `<what>: <error>`, exit code 1.
    fn context(self, what: impl Display) -> Result<T>;
}

impl<T, E: Display> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl Display) -> Result<T> {
        self.map_err(|error| Error::failed(format!("{what}: {error}")))
    }
}

/// The reason word of a controller's refusal (`google.rpc.ErrorInfo`).
#[must_use]
pub fn reason_of(status: &Status) -> String {
    let info = status.get_details_error_info();
    info.map(|info| info.reason).unwrap_or_default()
}

fn exit_of(code: Code) -> Exit {
    match code {
        Code::NotFound => Exit::NotFound,
        Code::Unavailable | Code::DeadlineExceeded => Exit::Unavailable,
        Code::AlreadyExists | Code::Aborted => Exit::Conflict,
        Code::ResourceExhausted => Exit::NoCapacity,
        Code::Unauthenticated | Code::PermissionDenied => Exit::Forbidden,
        _ => Exit::Failed,
    }
}

/// The next step, by reason where there is one, otherwise by code.
fn hint_of(code: Code, reason: &str) -> Option<&'static str> {
    let by_reason = match reason {
        "REQUEST_ID_REUSED" => "this --request-id was used for another request: draw a new one",
        "QUOTA_EXCEEDED" => "`cloudctl project quota` shows what is used, and how much is left",
        "REVISION_CHANGED" => {
            "something the preview rested on has changed: look again with `launch --dry-run`, \
             or leave --if-revision out"
        }
        "COMPACTED" => "so old changes are forgotten: leave --after out to begin with what is now",
        "NOT_EMPTY" => "with --project NAME, `cloudctl list`, `ssh-key list`, `image list` show it",
        "ROLE_MISSING" => "`cloudctl principal role NAME ROLE`, with --project or --cell, gives it",
        "WRONG_STATE" => "`cloudctl why NAME` tells how it came there",
        "IN_USE" => "see what uses it with `cloudctl list -o wide`, and delete that first",
        _ => return hint_of_code(code),
    };
    Some(by_reason)
}

fn hint_of_code(code: Code) -> Option<&'static str> {
    match code {
        Code::NotFound => {
            Some("names and ids: `cloudctl list`, `image list`, `type list`, `ssh-key list`")
        }
        Code::AlreadyExists => Some("choose another name, or delete the old one first"),
        Code::ResourceExhausted => Some(
            "see the room on each host with `cloudctl node list`, and smaller types with \
             `cloudctl type list`",
        ),
        Code::Unavailable | Code::DeadlineExceeded | Code::Aborted => Some(
            "`cloudctl status` shows the controllers; repeating the command with the same \
             --request-id is safe",
        ),
        Code::Unauthenticated => Some(
            "the certificate or access key is not accepted (ended, deleted, or of another \
             cloud): `cloudctl context show` says which one is used",
        ),
        Code::PermissionDenied => Some(
            "`cloudctl whoami` shows your roles; an admin gives one with `cloudctl principal \
             role NAME ROLE --project PROJECT`",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use tonic_types::ErrorDetails;

    #[test]
    fn each_code_has_its_exit() {
        let table = [
            (Code::NotFound, 3),
            (Code::Unavailable, 4),
            (Code::DeadlineExceeded, 4),
            (Code::AlreadyExists, 5),
            (Code::Aborted, 5),
            (Code::ResourceExhausted, 6),
            (Code::InvalidArgument, 1),
            (Code::FailedPrecondition, 1),
            (Code::PermissionDenied, 7),
            (Code::Unauthenticated, 7),
            (Code::Internal, 1),
        ];
        for (code, exit) in table {
            assert_eq!(exit_of(code).code(), exit, "{code:?}");
        }
    }

    #[test]
    fn field_violations_are_listed_and_hints_follow() {
        let details = ErrorDetails::with_bad_request_violation("name", "at most 63 bytes");
        let status =
            Status::with_error_details(Code::InvalidArgument, "the request is not valid", details);
        let text = Error::from_status("launch", &status).render();
        assert_eq!(
            text,
            "error: launch: the request is not valid\n  name: at most 63 bytes\n"
        );
        let status = Status::not_found("image `x` not found");
        let text = Error::from_status("launch", &status).render();
        assert!(text.starts_with("error: launch: image `x` not found\nhint: "));
    }

    #[test]
    fn each_reason_says_the_next_step() {
        let table = [
            (
                Code::ResourceExhausted,
                "QUOTA_EXCEEDED",
                6,
                "project quota",
            ),
            (Code::ResourceExhausted, "NO_CAPACITY", 6, "node list"),
            (Code::Aborted, "REVISION_CHANGED", 5, "--dry-run"),
            (Code::OutOfRange, "COMPACTED", 1, "--after"),
            (Code::PermissionDenied, "PERMISSION_DENIED", 7, "whoami"),
            (Code::Unauthenticated, "UNAUTHENTICATED", 7, "context show"),
            (Code::NotFound, "NOT_FOUND", 3, "cloudctl list"),
            (Code::FailedPrecondition, "IN_USE", 1, "delete that first"),
            (Code::FailedPrecondition, "NOT_EMPTY", 1, "--project"),
            (
                Code::FailedPrecondition,
                "ROLE_MISSING",
                1,
                "principal role",
            ),
            (Code::FailedPrecondition, "WRONG_STATE", 1, "cloudctl why"),
        ];
        for (code, reason, exit, step) in table {
            let info = ErrorDetails::with_error_info(reason, "nube", []);
            let status = Status::with_error_details(code, "no", info);
            let error = Error::from_status("do", &status);
            assert_eq!(error.exit().code(), exit, "{reason}");
            assert_eq!(error.reason(), reason);
            let text = error.render();
            let hint = text.lines().find(|line| line.starts_with("hint: "));
            assert!(hint.is_some_and(|hint| hint.contains(step)), "{text}");
        }
    }

    #[test]
    fn a_server_cannot_drive_the_terminal() {
        let status = Status::invalid_argument("bad \u{1b}]0;owned\u{7} \u{9b}31m\r");
        let text = Error::from_status("show", &status).render();
        assert!(
            !text.contains(['\u{1b}', '\u{7}', '\u{9b}', '\r']),
            "{text}"
        );
        assert!(text.contains("\\u{1b}]0;owned"));
    }
}
