//! `watch`: every change, one line each, through lost connections.

mod difference;

use nube_proto::v1::{Change, WatchRequest, WatchResponse};

use super::App;
use crate::args::Format;
use crate::args::event::Watch;
use crate::client::{Changes, News};
use crate::error::{Error, Result};
use crate::output::json::{json_line, yaml};
use crate::output::print;
use crate::output::progress::warn;
use crate::output::table::{Look, Tone, paint};
use crate::output::text::{escape, time};
use difference::Known;

/// `watch`.
pub async fn run(app: &App, args: Watch) -> Result<()> {
    app.output.refuse_csv()?;
    let client = app.client()?;
    let mut kinds: Vec<String> = args.kinds.iter().map(|k| k.word().to_owned()).collect();
    kinds.dedup();
    let request = WatchRequest {
        after_revision: args.after,
        kinds,
        all_projects: args.all_projects,
    };
    let mut changes = Changes::new(&client, request);
    let mut known = Known::default();
    loop {
        match changes.next().await {
            Ok(News::Message(message)) => show(app, &mut known, &message)?,
            Ok(News::Compacted { after }) => {
                known = Known::default();
                warn(&format!(
                    "changes after revision {after} are no longer kept: everything is listed anew"
                ));
            }
            Err(error) => return Err(resumable(error, changes.revision())),
        }
    }
}

/// A watch that ended says where to go on.
fn resumable(error: Error, revision: u64) -> Error {
    match revision {
        0 => error,
        _ => error.detail(format!(
            "seen up to revision {revision}: `--after {revision}` goes on"
        )),
    }
}

fn show(app: &App, known: &mut Known, message: &WatchResponse) -> Result<()> {
    match app.output.format() {
        Format::Json => print(&json_line(message)?),
        Format::Yaml => print(&format!("---\n{}", yaml(message)?)),
        _ => {
            let look = app.output.look();
            let lines = message.changes.iter();
            let text: String = lines.map(|c| line(look, known, message, c)).collect();
            match text.is_empty() {
                true => Ok(()),
                false => print(&text),
            }
        }
    }
}

/// Revision, time, kind, name, what changed.
fn line(look: Look, known: &mut Known, message: &WatchResponse, change: &Change) -> String {
    let seen = known.see(change, message.initial);
    let clock = time(message.time_ms);
    let name = match seen.name.is_empty() {
        true => &change.id,
        false => &seen.name,
    };
    let kind = change.kind.as_str();
    let head = escape(&format!(
        "{:>7}  {clock}  {kind:10}  {name}",
        message.revision
    ));
    // Colour says how it is now; the words say it without colour too.
    let what = paint(look, &escape(&seen.what), seen.tone);
    format!("{head}  {what}\n")
}

/// What a change means to the watcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    name: String,
    what: String,
    tone: Tone,
}

#[cfg(test)]
mod test {
    use super::super::{event, instance, node};
    use super::*;
    use nube_proto::v1::change::Object;
    use nube_proto::v1::{InstanceState, NodeState};

    fn change(kind: &str, id: &str, object: Option<Object>) -> Change {
        Change {
            kind: kind.into(),
            id: id.into(),
            removed: object.is_none(),
            object,
            ..Change::default()
        }
    }

    fn message(revision: u64, changes: Vec<Change>) -> WatchResponse {
        WatchResponse {
            revision,
            time_ms: 1_790_000_000_000 + revision,
            changes,
            ..WatchResponse::default()
        }
    }

    fn web(state: InstanceState) -> Change {
        let web = instance::test::sample("web", state);
        change("instance", "i-1", Some(Object::Instance(web)))
    }

    fn messages() -> Vec<WatchResponse> {
        let mut listing = message(1042, vec![web(InstanceState::Pending)]);
        let host = node::test::sample("node-1", NodeState::Ready);
        listing
            .changes
            .push(change("node", "n-1", Some(Object::Node(host.clone()))));
        listing.initial = true;
        let mut drained = host;
        drained.drained = true;
        drained.labels.insert("disk".into(), "ssd".into());
        let mut failed = instance::test::sample("web", InstanceState::Failed);
        failed.reason = "no space\u{1b}[2J".into();
        let reported = event::test::sample(3, "agent/node-2", "instance.state", "running");
        vec![
            listing,
            message(1043, vec![web(InstanceState::Starting)]),
            message(
                1044,
                vec![
                    web(InstanceState::Running),
                    change("event", "1044.0", Some(Object::Event(reported))),
                ],
            ),
            message(
                1045,
                vec![change("node", "n-1", Some(Object::Node(drained)))],
            ),
            message(
                1046,
                vec![change("instance", "i-1", Some(Object::Instance(failed)))],
            ),
            message(1047, vec![change("instance", "i-1", None)]),
            message(1048, vec![change("ssh_key", "key-7", None)]),
        ]
    }

    fn lines(look: Look) -> String {
        let mut known = Known::default();
        let mut text = String::new();
        for message in messages() {
            let all = message.changes.iter();
            text.extend(all.map(|change| line(look, &mut known, &message, change)));
        }
        text
    }

    #[test]
    fn lines_are_golden() {
        crate::golden::check("watch", &lines(Look::default()));
    }

    #[test]
    fn states_are_colored_where_wanted() {
        let color = Look {
            color: true,
            ..Look::default()
        };
        let text = lines(color);
        assert!(
            text.contains("\u{1b}[32m") && text.contains("\u{1b}[31m"),
            "{text:?}"
        );
        assert!(!text.contains("\u{1b}[2J") && !lines(Look::default()).contains('\u{1b}'));
    }
}
