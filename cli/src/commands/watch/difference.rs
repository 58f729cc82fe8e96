//! What changed between two versions of a record, in a few words. Versions are
//! compared field by field as the contract names them, so a new field needs no
//! line here.

use std::collections::BTreeMap;

use nube_proto::v1::change::Object;
use nube_proto::v1::{Change, InstanceState, NodeState};
use serde_json::{Map, Value as Json};

use super::Seen;
use crate::output::json;
use crate::output::table::Tone;
use crate::output::text::enum_word;

/// Beyond this many records the oldest ones are forgotten: their next change is
/// told without what was before.
const RECORDS_MAX: usize = 100_000;
/// Longer values say that they changed, not into what.
const SHOWN_CHARS_MAX: usize = 60;

type Fields = Map<String, Json>;

/// The records as they were seen last.
#[derive(Debug, Default)]
pub struct Known {
    records: BTreeMap<(String, String), (String, Fields)>,
}

impl Known {
    /// Takes note of a change and says what it is.
    pub fn see(&mut self, change: &Change, initial: bool) -> Seen {
        let key = (change.kind.clone(), change.id.clone());
        let Some(object) = change.object.as_ref().filter(|_| !change.removed) else {
            let was = self.records.remove(&key);
            return Seen {
                name: was.map(|(name, _)| name).unwrap_or_default(),
                what: "removed".to_owned(),
                tone: Tone::Plain,
            };
        };
        let (name, summary, tone) = summary(object);
        if let Object::Event(_) = object {
            // Events never change: there is nothing to compare the next one with.
            let what = summary;
            return Seen { name, what, tone };
        }
        let fields = fields(object);
        let before = self.records.insert(key, (name.clone(), fields.clone()));
        while self.records.len() > RECORDS_MAX {
            self.records.pop_first();
        }
        let what = match (before, initial) {
            (Some((_, before)), false) => differences(&before, &fields),
            (_, true) => summary,
            (None, false) if summary.is_empty() => "set".to_owned(),
            (None, false) => summary,
        };
        Seen { name, what, tone }
    }
}

/// Name, how it is now, and whether that is good.
fn summary(object: &Object) -> (String, String, Tone) {
    match object {
        Object::Instance(one) => {
            let state = enum_word(one.state().as_str_name(), "INSTANCE_STATE");
            let tone = match one.state() {
                InstanceState::Running => Tone::Good,
                InstanceState::Failed => Tone::Bad,
                InstanceState::Stopped | InstanceState::Deleted => Tone::Plain,
                _ => Tone::Busy,
            };
            let place = match one.node_name.as_str() {
                "" => String::new(),
                node => format!(" on {node}"),
            };
            (one.name.clone(), state + &place, tone)
        }
        Object::Node(one) => {
            let state = enum_word(one.state().as_str_name(), "NODE_STATE");
            let drained = if one.drained { ", drained" } else { "" };
            let tone = match one.state() {
                NodeState::Ready if one.drained => Tone::Busy,
                NodeState::Ready => Tone::Good,
                _ => Tone::Bad,
            };
            (one.name.clone(), state + drained, tone)
        }
        Object::Image(one) => (one.name.clone(), one.version.clone(), Tone::Plain),
        Object::SshKey(one) => (one.name.clone(), one.algorithm.clone(), Tone::Plain),
        Object::Project(one) => (one.name.clone(), String::new(), Tone::Plain),
        Object::Principal(one) => (one.name.clone(), String::new(), Tone::Plain),
        Object::Network(one) => (one.name.clone(), String::new(), Tone::Plain),
        Object::Subnet(one) => (one.name.clone(), one.cidr.clone(), Tone::Plain),
        Object::SecurityGroup(one) => {
            let rules = format!("{} rules", one.rules.len());
            (one.name.clone(), rules, Tone::Plain)
        }
        Object::Address(one) => {
            let what = match one.target_name.as_str() {
                "" => one.address.clone(),
                target => format!("{} to {target}", one.address),
            };
            (one.name.clone(), what, Tone::Plain)
        }
        Object::LoadBalancer(one) => {
            let healthy = one.targets.iter().filter(|t| t.state == "healthy").count();
            let what = format!("{healthy} of {} targets healthy", one.targets.len());
            (one.name.clone(), what, Tone::Plain)
        }
        Object::AccessKey(one) => {
            let whose = format!("of {}", one.principal_name);
            (one.id.clone(), whose, Tone::Plain)
        }
        Object::Event(one) => {
            let detail = match one.detail.as_str() {
                "" => String::new(),
                detail => format!(": {detail}"),
            };
            let what = format!("{} by {}{detail}", one.action, one.actor);
            (one.resource_name.clone(), what, Tone::Plain)
        }
    }
}

fn fields(object: &Object) -> Fields {
    let value = match object {
        Object::Instance(one) => json::value(one),
        Object::Image(one) => json::value(one),
        Object::SshKey(one) => json::value(one),
        Object::Node(one) => json::value(one),
        Object::Project(one) => json::value(one),
        Object::Principal(one) => json::value(one),
        Object::AccessKey(one) => json::value(one),
        Object::Event(one) => json::value(one),
        Object::Network(one) => json::value(one),
        Object::Subnet(one) => json::value(one),
        Object::SecurityGroup(one) => json::value(one),
        Object::Address(one) => json::value(one),
        Object::LoadBalancer(one) => json::value(one),
    };
    match value {
        Ok(Json::Object(fields)) => fields,
        _ => Fields::new(),
    }
}

/// Fields that change with every change, or follow from others.
const UNTOLD: [&str; 5] = [
    "revision",
    "state_changed_at_ms",
    "last_seen_at_ms",
    "generation",
    "applied_generation",
];

/// As `state starting → running, reason no space`.
fn differences(before: &Fields, now: &Fields) -> String {
    let mut told = Vec::new();
    // The state first: it is what one looks for.
    let first = now.get_key_value("state").into_iter();
    let rest = now.iter().filter(|(field, _)| *field != "state");
    for (field, value) in first.chain(rest) {
        let was = before.get(field);
        if was == Some(value) || UNTOLD.contains(&field.as_str()) {
            continue;
        }
        let name = field.strip_suffix("_ms").unwrap_or(field).replace('_', " ");
        told.push(
            match (was.and_then(|v| word(field, v)), word(field, value)) {
                (_, None) => format!("{name} changed"),
                (None, Some(now)) => format!("{name} {now}"),
                (Some(was), Some(now)) if was.is_empty() => format!("{name} {now}"),
                (Some(_), Some(now)) if now.is_empty() => format!("{name} cleared"),
                (Some(was), Some(now)) => format!("{name} {was} → {now}"),
            },
        );
    }
    match told.is_empty() {
        // Another wish or report that shows in no field of its own.
        true => "touched".to_owned(),
        false => told.join(", "),
    }
}

/// A short value as a person says it.
fn word(field: &str, value: &Json) -> Option<String> {
    let text = match value {
        Json::Null => String::new(),
        Json::Bool(true) => "yes".to_owned(),
        Json::Bool(false) => "no".to_owned(),
        Json::Number(number) => number.to_string(),
        Json::String(text) => enum_value(field, text),
        Json::Object(_) | Json::Array(_) => return None,
    };
    (text.chars().count() <= SHOWN_CHARS_MAX).then_some(text)
}

/// `INSTANCE_STATE_RUNNING` → `running`: enum values end with the field's name
/// and the value.
fn enum_value(field: &str, text: &str) -> String {
    let upper = text.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    let mark = format!("{}_", field.to_uppercase());
    match text.find(&mark).filter(|_| upper) {
        Some(at) => text[at + mark.len()..]
            .to_lowercase()
            .replace("unspecified", ""),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn told(before: &str, now: &str) -> String {
        let parse = |text| serde_json::from_str::<Fields>(text).expect("an object");
        differences(&parse(before), &parse(now))
    }

    #[test]
    fn differences_are_told_in_words() {
        let before = r#"{"state": "INSTANCE_STATE_STARTING", "reason": "", "revision": "1"}"#;
        let now = r#"{"state": "INSTANCE_STATE_RUNNING", "reason": "", "revision": "2"}"#;
        assert_eq!(told(before, now), "state starting → running");
        assert_eq!(told(now, now), "touched");
        assert_eq!(
            told(
                r#"{"drained": false, "labels": {}}"#,
                r#"{"drained": true, "labels": {"a": "b"}}"#
            ),
            "drained no → yes, labels changed"
        );
        assert_eq!(
            told(r#"{"reason": "x"}"#, r#"{"reason": ""}"#),
            "reason cleared"
        );
        assert_eq!(told("{}", r#"{"zone": "b"}"#), "zone b");
        let long = format!(r#"{{"reason": "{}"}}"#, "x".repeat(61));
        assert_eq!(told("{}", &long), "reason changed");
    }
}
