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
/// Below this width the indented lines of one event stand.
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
    let mut text = escape(&heading(story)) + "\n";
    if story.oldest_revision > 0 && !begins_with_launch(&story.events) {
        let oldest = story.oldest_revision;
        text.push_str(&format!(
            "\n(what was before revision {oldest} is forgotten)\n"
        ));
    }
    if !story.events.is_empty() {
        text.push('\n');
    }
    for event in &story.events {
        let line = format!("{}  {}", time(event.time_ms), sentence(event));
        text.push_str(&(escape(&line) + "\n"));
        if event.action == "instance.launch" {
            let reasons = story.placement.iter().flat_map(placed);
            text.extend(reasons.map(|line| format!("{INDENT}{}\n", escape(&line))));
        }
    }
    text
}

fn heading(story: &Story) -> String {
    let (name, id) = (&story.name, &story.id);
    let Some(instance) = &story.instance else {
        return format!("{name} ({id}) is gone");
    };
    let state = instance.state();
    let word = enum_word(state.as_str_name(), "INSTANCE_STATE");
    let since = match instance.state_changed_at_ms {
        0 => String::new(),
        ms => format!(" since {}", time(ms)),
    };
    let reason = match instance.reason.as_str() {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    let silent = state == InstanceState::Running && !instance.node_reachable;
    let doubt = match silent {
        true => ", as far as anybody knows: its host is silent",
        false => "",
    };
    format!("{name} ({id}) is {word}{since}{reason}{doubt}")
}

fn begins_with_launch(events: &[Event]) -> bool {
    let first = events.first();
    first.is_some_and(|event| event.action == "instance.launch")
}

/// Who did what, and why.
fn sentence(event: &Event) -> String {
    let actor = match event.actor.as_str() {
        "" => "the control plane",
        actor => actor,
    };
    let what = match event.action.as_str() {
        "instance.launch" => format!("{actor} launched it"),
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
            vec![format!("placed on {name}, score {}: {fitting}", host.score)]
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
        let quiet = |seconds, action: &str, detail: &str| {
            let mut event = happened(seconds, "agent/node-2", action, detail);
            event.source.clear();
            event
        };
        Story {
            name: "web".into(),
            id: "i-00c0ffee00c0ffee".into(),
            instance: Some(failed),
            events: vec![
                happened(0, "user/alice", "instance.launch", ""),
                quiet(1, "instance.state", "pending -> starting"),
                quiet(3, "instance.state", "starting -> running"),
                happened(60, "user/bob", "instance.reboot", ""),
                quiet(
                    61,
                    "instance.state",
                    "running -> failed: the kernel panicked",
                ),
            ],
            placement: Some(placement),
            oldest_revision: 0,
        }
    }

    #[test]
    fn stories_are_golden() {
        let mut gone = story();
        gone.instance = None;
        gone.placement = None;
        gone.events.drain(..3);
        gone.events[0].actor.clear();
        gone.oldest_revision = 1100;
        let text = tell(&story()) + "\n" + &tell(&gone);
        crate::golden::check("why", &text);
    }

    #[test]
    fn nobody_writes_to_the_readers_terminal() {
        let mut hostile = story();
        hostile.events[1].detail = "a\u{1b}[2Jb\nforged line".into();
        let text = tell(&hostile);
        assert!(
            !text.contains('\u{1b}') && !text.contains("\nforged"),
            "{text}"
        );
    }
}
