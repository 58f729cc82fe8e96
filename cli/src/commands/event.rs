//! `events`: the audit, newest last, and what comes after.

use nube_proto::v1::change::Object;
use nube_proto::v1::event_service_client::EventServiceClient;
use nube_proto::v1::{Event, ListEventsRequest, ListEventsResponse, WatchRequest};

use super::App;
use crate::args::Format;
use crate::args::event::Events;
use crate::client::{Changes, Client, News};
use crate::error::Result;
use crate::output::json::{json_line, yaml};
use crate::output::progress::warn;
use crate::output::table::{Look, Table};
use crate::output::text::{escape, or_dash, time};
use crate::output::{Output, print};

/// `events`.
pub async fn run(app: &App, args: Events) -> Result<()> {
    app.output.refuse_csv()?;
    let client = app.client()?;
    let query = ListEventsRequest {
        resource: args.resource.clone().unwrap_or_default(),
        actor: args.actor.clone().unwrap_or_default(),
        all_projects: args.all_projects,
        ..ListEventsRequest::default()
    };
    let mut known = newest(&client, query, args.last as usize).await?;
    known.events.reverse();
    if !args.follow {
        return app.output.message(&known, |look| table(look, &known));
    }
    for event in &known.events {
        show(&app.output, event)?;
    }
    follow(app, &client, &args, known.revision).await
}

/// The newest events of a query, newest first.
pub async fn newest(
    client: &Client,
    mut query: ListEventsRequest,
    count: usize,
) -> Result<ListEventsResponse> {
    let mut merged = ListEventsResponse::default();
    loop {
        let left = count.saturating_sub(merged.events.len());
        let page_max = nube_types::limits::PAGE_SIZE_MAX;
        query.page_size = u32::try_from(left).unwrap_or(page_max).min(page_max);
        let page = call!(
            client,
            "list events",
            EventServiceClient.list_events(query.clone())
        )?;
        // To follow without a gap: from the first page's view, not the last's.
        if merged.revision == 0 {
            merged.revision = page.revision;
        }
        merged.oldest_revision = page.oldest_revision;
        merged.events.extend(page.events);
        merged.events.truncate(count);
        if page.next_page_token.is_empty() || merged.events.len() >= count {
            return Ok(merged);
        }
        query.page_token = page.next_page_token;
    }
}

/// Goes on until it is ended from outside.
async fn follow(app: &App, client: &Client, args: &Events, after: u64) -> Result<()> {
    let request = WatchRequest {
        after_revision: after,
        kinds: vec!["event".to_owned()],
        all_projects: args.all_projects,
    };
    let mut changes = Changes::new(client, request);
    let mut last = after;
    loop {
        let message = match changes.next().await? {
            News::Message(message) => message,
            News::Compacted { after } => {
                warn(&format!(
                    "changes after revision {after} were forgotten meanwhile"
                ));
                continue;
            }
        };
        for change in &message.changes {
            let Some(Object::Event(event)) = &change.object else {
                continue;
            };
            // A listing after a gap begins with what was shown already.
            if event.revision > last && wanted(event, args) {
                show(&app.output, event)?;
            }
        }
        last = last.max(message.revision);
    }
}

fn wanted(event: &Event, args: &Events) -> bool {
    let about = |name: &String| event.resource_id == *name || event.resource_name == *name;
    args.actor
        .as_ref()
        .is_none_or(|actor| event.actor == *actor)
        && args.resource.as_ref().is_none_or(about)
}

/// One event as soon as it is known.
fn show(output: &Output, event: &Event) -> Result<()> {
    match output.format() {
        Format::Json => print(&json_line(event)?),
        Format::Yaml => print(&format!("---\n{}", yaml(event)?)),
        _ => print(&escape(&line(event))),
    }
}

fn line(event: &Event) -> String {
    let detail = match event.detail.as_str() {
        "" => String::new(),
        detail => format!(": {detail}"),
    };
    let (time, actor) = (time(event.time_ms), &event.actor);
    format!("{time}  {actor}  {}  {}{detail}", event.action, name(event))
}

/// What it is about; the id where there is no name.
fn name(event: &Event) -> &str {
    match event.resource_name.as_str() {
        "" => &event.resource_id,
        name => name,
    }
}

fn table(look: Look, known: &ListEventsResponse) -> String {
    let header = [
        "TIME", "ACTOR", "ACTION", "ABOUT", "DETAIL", "+ID", "+SOURCE", "+PROJECT", "+REQUEST",
    ];
    let mut table = Table::new(look, &header);
    for event in &known.events {
        table.row([
            time(event.time_ms).into(),
            event.actor.as_str().into(),
            event.action.as_str().into(),
            or_dash(name(event)).into(),
            event.detail.as_str().into(),
            event.id.as_str().into(),
            or_dash(&event.source).into(),
            or_dash(&event.project_id).into(),
            or_dash(&event.request_id).into(),
        ]);
    }
    let mut text = table.render_or("no events");
    if known.oldest_revision > 0 {
        let oldest = known.oldest_revision;
        text.push_str(&format!("events before revision {oldest} are forgotten\n"));
    }
    text
}

#[cfg(test)]
pub mod test {
    use super::*;

    /// An event about `web`, `seconds` after its launch.
    pub fn sample(seconds: u64, actor: &str, action: &str, detail: &str) -> Event {
        Event {
            id: format!("{}.0", 1042 + seconds),
            revision: 1042 + seconds,
            time_ms: 1_790_000_000_000 + seconds * 1000,
            actor: actor.into(),
            request_id: "00112233445566778899aabbccddeeff".into(),
            source: "127.0.0.1:4711".into(),
            project_id: "p-0000000000000001".into(),
            action: action.into(),
            resource_kind: "instance".into(),
            resource_id: "i-00c0ffee00c0ffee".into(),
            resource_name: "web".into(),
            detail: detail.into(),
        }
    }

    #[test]
    fn events_are_golden() {
        let events = vec![
            sample(0, "user/alice", "instance.launch", "n1.micro on node-2"),
            sample(2, "agent/node-2", "instance.state", "running"),
            sample(9, "user/bob", "instance.stop", ""),
        ];
        let known = ListEventsResponse {
            oldest_revision: 17,
            events,
            ..ListEventsResponse::default()
        };
        let mut text = table(Look::default(), &known) + "\n";
        text.extend(known.events.iter().map(|event| line(event) + "\n"));
        crate::golden::check("events", &text);
    }

    #[test]
    fn followed_events_are_filtered_as_listed_ones() {
        let event = sample(0, "user/alice", "instance.launch", "");
        let args = |resource: Option<&str>, actor: Option<&str>| Events {
            resource: resource.map(str::to_owned),
            actor: actor.map(str::to_owned),
            all_projects: false,
            last: 1,
            follow: true,
        };
        assert!(wanted(&event, &args(None, None)));
        assert!(wanted(&event, &args(Some("web"), Some("user/alice"))));
        assert!(wanted(&event, &args(Some("i-00c0ffee00c0ffee"), None)));
        assert!(!wanted(&event, &args(Some("we"), None)));
        assert!(!wanted(&event, &args(None, Some("user/al"))));
    }
}
