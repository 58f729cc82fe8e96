//! `why`: the story of one instance in words, from its events and the placement
//! kept from its launch.

use nube_proto::v1::{Event, Instance, InstanceState, ListEventsRequest, PlacementExplanation};
use serde_json::json;

use super::{App, event, explain, instance};
use crate::args::event::Why;
use crate::client::Client;
use crate::error::{Error, Exit, Result};
use crate::output::json::value;
use crate::output::text::{enum_word, escape, time};

/// More than any instance's life has; the newest win.
const EVENTS_MAX: usize = 10_000;
/// How far back a deleted instance is looked for by its name.
const SEARCH_MAX: usize = 5_000;
/// What else happened in the same log entry stands below its time.
const INDENT: &str = "                      ";

/// All that is known of one instance.
struct Story {
    name: String,
    id: String,
    /// Gone from the list an hour after its end.
    instance: Option<Instance>,
    /// Oldest first.
    events: Vec<Event>,
    placement: Option<PlacementExplanation>,
    /// Older events than this are forgotten; 0: none.
    oldest_revision: u64,
}

/// `why`.
pub async fn run(app: &App, args: Why) -> Result<()> {
    app.output.refuse_csv()?;
    let client = app.client()?;
    let story = find(&client, &args.instance).await?;
    let events: Result<Vec<_>> = story.events.iter().map(value).collect();
    let answer = json!({
        "instance": story.instance.as_ref().map(value).transpose()?,
        "placement": story.placement.as_ref().map(value).transpose()?,
        "events": events?,
    });
    app.output.value(&answer, |_| tell(&story))
}

async fn find(client: &Client, typed: &str) -> Result<Story> {
    let (name, id, instance) = match instance::get(client, typed).await {
        Ok(instance) => (instance.name.clone(), instance.id.clone(), Some(instance)),
        Err(error) if error.exit() == Exit::NotFound => {
            let (name, id) = remembered(client, typed, error).await?;
            (name, id, None)
        }
        Err(error) => return Err(error),
    };
    let query = ListEventsRequest {
        resource: id.clone(),
        ..ListEventsRequest::default()
    };
    let mut known = event::newest(client, query, EVENTS_MAX).await?;
    known.events.reverse();
    let placement = match explain::get(client, id.clone()).await {
        Ok(placement) => Some(placement),
        // Forgotten with the record; the events tell what they know.
        Err(error) if error.exit() == Exit::NotFound => None,
        Err(error) => return Err(error),
    };
    Ok(Story {
        name,
        id,
        instance,
        events: known.events,
        placement,
        oldest_revision: known.oldest_revision,
    })
}

/// The newest instance of this name or id that events tell of.
async fn remembered(client: &Client, typed: &str, absent: Error) -> Result<(String, String)> {
    let query = ListEventsRequest::default();
    let known = event::newest(client, query, SEARCH_MAX).await?;
    let about = |event: &&Event| {
        let named = event.resource_name == typed || event.resource_id == typed;
        event.resource_kind == "instance" && named
    };
    match known.events.iter().find(about) {
        Some(event) => Ok((event.resource_name.clone(), event.resource_id.clone())),
        None => Err(absent),
    }
}

fn tell(story: &Story) -> String {
    let mut text: String = heading(story)
        .iter()
        .map(|line| escape(line) + "\n")
        .collect();
    let whole = story.events.first().is_some_and(is_birth);
    if story.oldest_revision > 0 && !whole {
        let oldest = story.oldest_revision;
        text.push_str(&format!(
            "\n(what was before revision {oldest} is forgotten)\n"
        ));
    }
    if !story.events.is_empty() {
        text.push('\n');
    }
    // One log entry is one moment: the wish, and what followed from it at once.
    // The explanation that is kept is that of its newest place.
    let newest = story.events.iter().rfind(|event| is_new_place(event));
    for entry in story.events.chunk_by(|a, b| a.revision == b.revision) {
        let mut margin = format!("{}  ", time(entry[0].time_ms));
        let explained = newest.is_none_or(|newest| newest.revision == entry[0].revision);
        let placement = story.placement.as_ref().filter(|_| explained);
        for line in lines(entry, placement) {
            text.push_str(&format!("{margin}{}\n", escape(&line)));
            INDENT.clone_into(&mut margin);
        }
    }
    text
}

fn heading(story: &Story) -> Vec<String> {
    let (name, id) = (&story.name, &story.id);
    let Some(instance) = &story.instance else {
        return vec![format!("{name} ({id}) is gone")];
    };
    let state = instance.state();
    let word = enum_word(state.as_str_name(), "INSTANCE_STATE");
    let is = match state {
        InstanceState::Failed => word,
        _ => format!("is {word}"),
    };
    let since = match (state, instance.state_changed_at_ms) {
        (_, 0) => String::new(),
        (InstanceState::Failed, ms) => format!(" at {}", time(ms)),
        (_, ms) => format!(" since {}", time(ms)),
    };
    let mut lines = vec![format!("{name} ({id}) {is}{since}")];
    if state == InstanceState::Running && !instance.node_reachable {
        lines.push("as far as anybody knows: its host is silent".to_owned());
    }
    if !instance.reason.is_empty() {
        lines.push(instance.reason.clone());
    }
    lines
}

/// The launch itself, or what it meant for one of several instances: only the
/// first one's entry names the launch.
fn is_birth(event: &Event) -> bool {
    event.action == "instance.launch" || is_placement(event)
}

fn is_placement(event: &Event) -> bool {
    event.action == "instance.state" && event.detail.starts_with("placed on ")
}

/// It began anew on another host.
fn is_new_place(event: &Event) -> bool {
    event.action == "instance.state" && event.detail.starts_with("placed anew on ")
}

/// What one log entry did.
fn lines(entry: &[Event], placement: Option<&PlacementExplanation>) -> Vec<String> {
    let mut lines = Vec::new();
    let mut actor = None;
    let mut born = false;
    for event in entry {
        if is_birth(event) && !born {
            born = true;
            actor = Some(&event.actor);
            lines.push(match event.action.as_str() {
                "instance.launch" => sentence(event),
                _ => launched(event, ""),
            });
            lines.extend(placement.iter().flat_map(|placement| placed(placement)));
        }
        match event.action.as_str() {
            "instance.launch" => {}
            _ if is_new_place(event) => {
                lines.push(sentence(event));
                lines.extend(placement.iter().flat_map(|placement| placed(placement)));
            }
            // The explanation says it better.
            _ if is_placement(event) && placement.is_some() => {}
            "instance.state" if actor == Some(&event.actor) => lines.push(event.detail.clone()),
            _ => lines.push(sentence(event)),
        }
        actor = Some(&event.actor);
    }
    lines
}

fn launched(event: &Event, detail: &str) -> String {
    let from = match event.source.as_str() {
        "" => String::new(),
        source => format!(" from {source}"),
    };
    let detail = match detail {
        "" => String::new(),
        detail => format!(": {detail}"),
    };
    format!("{} launched it{from}{detail}", event.actor)
}

/// Who did what, and why.
fn sentence(event: &Event) -> String {
    let actor = match event.actor.as_str() {
        "" => "the control plane",
        actor => actor,
    };
    let what = match event.action.as_str() {
        "instance.launch" => return launched(event, &event.detail),
        "instance.start" => format!("{actor} asked to start it"),
        "instance.stop" => format!("{actor} asked to stop it"),
        "instance.reboot" => format!("{actor} asked to reboot it"),
        "instance.delete" => format!("{actor} asked to delete it"),
        // The detail is the state and its reason.
        "instance.state" => match event.detail.as_str() {
            "" => format!("{actor} reported a new state"),
            detail => return format!("{detail} ({actor})"),
        },
        action => format!("{actor}: {action}"),
    };
    let from = match event.source.as_str() {
        "" => String::new(),
        source => format!(" from {source}"),
    };
    match event.detail.as_str() {
        "" => what + &from,
        detail => format!("{what}{from}: {detail}"),
    }
}

/// Where it was placed, and why there and not elsewhere.
fn placed(placement: &PlacementExplanation) -> Vec<String> {
    let fitting = explain::fitting(placement);
    let mut lines = match explain::chosen(placement) {
        Some(host) => {
            let name = explain::host_name(host);
            vec![format!("placed on {name}, score {}", host.score), fitting]
        }
        None => vec![fitting],
    };
    for host in placement.hosts.iter().filter(|host| !host.chosen) {
        let name = explain::host_name(host);
        lines.push(match (host.refused_for.as_str(), host.reason.as_str()) {
            ("", _) => format!("not {name}: score {}", host.score),
            (word, "") => format!("not {name}: {word}"),
            (word, reason) => format!("not {name}: {word}, {reason}"),
        });
    }
    let hidden = (placement.hosts_total as usize).saturating_sub(placement.hosts.len());
    if hidden > 0 {
        lines.push(format!(
            "not {hidden} others; `cloudctl explain` shows the best of them"
        ));
    }
    lines
}

#[cfg(test)]
mod test {
    use super::super::event::test::sample as happened;
    use super::*;

    fn story() -> Story {
        let mut failed = instance::test::sample("web", InstanceState::Failed);
        failed.reason = "the guest's kernel panicked; see `cloudctl logs web`".into();
        let mut placement = explain::test::sample("web");
        (placement.hosts_total, placement.hosts_fitting) = (4, 2);
        let quiet = |seconds, detail: &str| {
            let mut event = happened(seconds, "agent/node-2", "instance.state", detail);
            event.source.clear();
            event
        };
        let bob = |action, detail| happened(60, "user/bob", action, detail);
        Story {
            name: "web".into(),
            id: "i-00c0ffee00c0ffee".into(),
            instance: Some(failed),
            events: vec![
                happened(0, "user/alice", "instance.launch", "1 × n1.micro"),
                happened(0, "user/alice", "instance.state", "placed on node-2"),
                quiet(1, "pending → starting"),
                quiet(3, "starting → running"),
                bob("instance.stop", "forced"),
                bob("instance.state", "running → stopping"),
                quiet(61, "stopping → failed: the kernel panicked"),
            ],
            placement: Some(placement),
            oldest_revision: 0,
        }
    }

    #[test]
    fn stories_are_golden() {
        // One of several: its own event of the launch is the placement.
        let mut second = story();
        second.events.drain(..1);
        second.placement = None;
        let mut gone = story();
        gone.instance = None;
        gone.events.drain(..4);
        gone.events[0].actor.clear();
        gone.events[0].source.clear();
        gone.oldest_revision = 1100;
        let text = tell(&story()) + "\n" + &tell(&second) + "\n" + &tell(&gone);
        crate::golden::check_narrow("why", &text);
    }

    #[test]
    fn a_replacement_is_explained_where_it_happened() {
        let mut lost = story();
        lost.instance = Some(instance::test::sample("web", InstanceState::Running));
        lost.events.drain(4..);
        let by = |seconds, actor, detail| {
            let mut event = happened(seconds, actor, "instance.state", detail);
            event.source.clear();
            event
        };
        let why = "running → pending: its host was lost; it waits for room on another";
        lost.events.extend([
            by(90, "controller/1", why),
            by(91, "controller/1", "placed anew on node-2: node-1 was lost"),
            by(95, "agent/node-2", "pending → running"),
        ]);
        crate::golden::check("why_replaced", &tell(&lost));
    }

    #[test]
    fn nobody_writes_to_the_readers_terminal() {
        let mut hostile = story();
        hostile.events[3].detail = "a\u{1b}[2Jb\nforged line".into();
        let text = tell(&hostile);
        assert!(
            !text.contains('\u{1b}') && !text.contains("\nforged"),
            "{text}"
        );
    }
}
