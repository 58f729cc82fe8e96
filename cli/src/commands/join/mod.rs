//! `join`: from a token to a directory that `cloud-controller` or `cloud-agent`
//! starts with. The key is drawn and kept first, so that a lost answer is asked
//! for again by the same key; the configuration is written last, so that its
//! presence means that all is there.

mod files;
mod token;

use std::path::Path;
use std::time::{Duration, Instant};

use nube_proto::v1::join_service_client::JoinServiceClient;
use nube_proto::v1::{JoinRequest, JoinResponse};
use nube_tls::KeyRequest;
use tonic::{Code, Status};

use self::files::{CONFIG_AGENT, CONFIG_CONTROLLER};
use self::token::Token;
use super::App;
use crate::args::join::Join;
use crate::error::{Context, Error, Exit, Result};

/// Joining is rare and may wait for an election.
const DEADLINE: Duration = Duration::from_secs(60);
const ATTEMPT: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(500);

/// `join`.
pub async fn run(app: &App, args: Join) -> Result<()> {
    app.output.refuse_csv()?;
    let Some(dir) = &app.global.dir else {
        return Err(Error::usage("--dir names the new directory"));
    };
    let dir = std::path::absolute(dir).context(format!("`{}`", dir.display()))?;
    for name in [CONFIG_CONTROLLER, CONFIG_AGENT] {
        if dir.join(name).exists() {
            let text = format!("`{}` has joined already: it holds {name}", dir.display());
            return Err(
                Error::failed(text).hint("every member and host has a directory of its own")
            );
        }
    }
    let token = Token::read(&args.token)?;
    crate::files::private_dir(&dir)?;
    let key = files::key(&dir)?;
    let deadline = app.global.timeout.unwrap_or(DEADLINE);
    let answer = ask(&args, &token, &key, deadline).await?;
    let joined = files::write(&dir, &args, &answer)?;
    let start = start_line(&dir, args.address.is_some());
    let value = serde_json::json!({
        "cluster_id": answer.cluster_id,
        "name": answer.name,
        "node_id": answer.node_id,
        "member_id": answer.member_id.to_string(),
        "config": joined.display().to_string(),
        "start": start,
    });
    app.output.value(&value, |_| view(&answer, &start))
}

fn view(answer: &JoinResponse, start: &str) -> String {
    let who = match answer.member_id {
        0 => format!("host {} ({})", answer.name, answer.node_id),
        id => format!("controller {} (member {id})", answer.name),
    };
    format!("Joined as {who}. Start it with:\n  {start}\n")
}

/// Every argument is quoted as a shell would want it.
fn start_line(dir: &Path, controller: bool) -> String {
    let (program, config) = match controller {
        true => ("cloud-controller", CONFIG_CONTROLLER),
        false => ("cloud-agent", CONFIG_AGENT),
    };
    let path = dir.join(config).display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let quoted = match path.chars().all(plain) {
        true => path,
        false => format!("'{}'", path.replace('\'', "'\\''")),
    };
    format!("{program} run --config {quoted}")
}

/// Asks each controller in turn until one has answered.
async fn ask(
    args: &Join,
    token: &Token,
    key: &KeyRequest,
    deadline: Duration,
) -> Result<JoinResponse> {
    let begun = Instant::now();
    loop {
        let mut last = String::new();
        for controller in &args.controllers {
            let attempt = tokio::time::timeout(ATTEMPT, attempt(controller, args, token, key));
            match attempt.await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(Failed::Final(error))) => return Err(error),
                Ok(Err(Failed::Retry(why))) => last = format!("{controller}: {why}"),
                Err(_) => last = format!("{controller}: no answer in time"),
            }
        }
        if begun.elapsed() >= deadline {
            return Err(
                Error::new(Exit::Unavailable, "join: no controller answered")
                    .detail(last)
                    .hint("repeat the same command: the token stays yours until it expires"),
            );
        }
        tokio::time::sleep(PAUSE).await;
    }
}

enum Failed {
    Final(Error),
    Retry(String),
}

async fn attempt(
    controller: &str,
    args: &Join,
    token: &Token,
    key: &KeyRequest,
) -> Result<JoinResponse, Failed> {
    let endpoint = nube_tls::pin::endpoint(controller).map_err(|error| {
        Failed::Final(Error::usage(format!("--controller {controller}: {error}")))
    })?;
    let channel = nube_tls::pin::connect(&endpoint, token.fingerprint).await;
    let channel = channel.map_err(|error| not_reached(controller, &error))?;
    let request = JoinRequest {
        token: token.text.clone(),
        certificate_signing_request: key.der.clone().into(),
        address: args.address.clone().unwrap_or_default(),
    };
    let answer = JoinServiceClient::new(channel).join(request).await;
    answer
        .map(tonic::Response::into_inner)
        .map_err(|status| refused(&status))
}

/// A stranger's certificate will not change; a closed port may open.
fn not_reached(controller: &str, error: &nube_tls::Error) -> Failed {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text = cause.to_string();
        next = cause.source();
    }
    if text.contains("invalid peer certificate") {
        let error = Error::failed(format!(
            "join: {controller} is not of the cloud that made this token"
        ));
        return Failed::Final(
            error
                .detail(text)
                .hint("compare the addresses; nothing was sent"),
        );
    }
    Failed::Retry(text)
}

fn refused(status: &Status) -> Failed {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Cancelled => {
            Failed::Retry(status.message().to_owned())
        }
        Code::Unauthenticated => {
            Failed::Final(Error::failed(format!("join: {}", status.message())).hint(
                "tokens work once, for ten minutes and for one role (--address is for \
                 controllers): make a new one with `cloudctl node add` or `cluster add`",
            ))
        }
        _ => Failed::Final(Error::from_status("join", status)),
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_start_line_survives_a_shell() {
        let line = start_line(Path::new("/srv/my cloud's"), true);
        assert_eq!(
            line,
            "cloud-controller run --config '/srv/my cloud'\\''s/controller.toml'"
        );
        let line = start_line(Path::new("/srv/host-1"), false);
        assert_eq!(line, "cloud-agent run --config /srv/host-1/agent.toml");
    }

    #[test]
    fn only_what_may_change_is_tried_again() {
        let retried = |code| matches!(refused(&Status::new(code, "x")), Failed::Retry(_));
        assert!(retried(Code::Unavailable) && retried(Code::DeadlineExceeded));
        for code in [
            Code::Unauthenticated,
            Code::InvalidArgument,
            Code::ResourceExhausted,
        ] {
            assert!(!retried(code), "{code:?}");
        }
    }
}
