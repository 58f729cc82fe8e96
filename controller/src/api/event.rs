//! Events: who did what, and why things are as they are.

use std::sync::Arc;

use nube_proto::v1;
use nube_proto::v1::event_service_server::EventService;
use nube_state::{Event, State};
use nube_types::{Name, ProjectId};
use tonic::{Request, Response, Status};

use super::{convert, field, mutation, status};
use crate::authorise::Caller;
use crate::cell::Cell;

/// Handlers.
pub struct Service(pub Arc<Cell>);

const ACTOR_BYTES_MAX: usize = 128;

/// A name means the living instance of that name; everything else is an id, or
/// the name that an event itself tells.
fn wanted_id(state: &State, project: ProjectId, reference: &str) -> String {
    let name = Name::new(reference).ok();
    let living = name.and_then(|name| nube_state::instance::by_name(state, project, &name));
    living.map_or_else(|| reference.to_owned(), |instance| instance.id.to_string())
}

fn matches(message: &v1::ListEventsRequest, id: &str, event: &Event) -> bool {
    let about = message.resource.is_empty()
        || event.id == id
        || id == message.resource && event.name == message.resource;
    about && (message.actor.is_empty() || event.actor == message.actor)
}

fn visible(caller: &Caller, all_projects: bool, event: &Event) -> bool {
    all_projects || event.project == Some(caller.project)
}

/// Actors of the cell's own processes name hosts: tenants learn the kind alone.
fn shown(caller: &Caller, event: &Event) -> v1::Event {
    convert::event(event, caller.sees_hosts())
}

/// `REVISION.ORDINAL`, of the oldest event on the page before.
fn parse_token(token: &str) -> Result<Option<(u64, u32)>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    let parts = token.split_once('.');
    let parsed = parts.and_then(|(index, n)| Some((index.parse().ok()?, n.parse().ok()?)));
    parsed
        .map(Some)
        .ok_or_else(|| status::invalid("page_token", "a token from the previous page"))
}

#[tonic::async_trait]
impl EventService for Service {
    async fn list_events(
        &self,
        request: Request<v1::ListEventsRequest>,
    ) -> Result<Response<v1::ListEventsResponse>, Status> {
        let (caller, message) = mutation::take(request)?;
        let size = field::page_size(message.page_size)?;
        let before = parse_token(&message.page_token)?;
        field::printable("actor", &message.actor, ACTOR_BYTES_MAX)?;
        field::printable("resource", &message.resource, ACTOR_BYTES_MAX)?;
        if message.all_projects && !caller.sees_hosts() {
            let text = "all_projects needs role `operator` in the cell";
            return Err(status::forbidden(text));
        }
        let state = self.0.read().await?;
        let id = wanted_id(&state, caller.project, &message.resource);
        let mut found = state
            .events
            .iter()
            .rev()
            .skip_while(|event| before.is_some_and(|before| (event.index, event.ordinal) >= before))
            .filter(|event| visible(&caller, message.all_projects, event))
            .filter(|event| matches(&message, &id, event));
        let page: Vec<&Event> = found.by_ref().take(size).collect();
        let more = found.next().is_some();
        let last = page.last().filter(|_| more);
        let next_page_token = last.map(|event| format!("{}.{}", event.index, event.ordinal));
        Ok(Response::new(v1::ListEventsResponse {
            events: page
                .into_iter()
                .map(|event| shown(&caller, event))
                .collect(),
            next_page_token: next_page_token.unwrap_or_default(),
            revision: state.index,
            oldest_revision: state.events_forgotten,
        }))
    }
}
