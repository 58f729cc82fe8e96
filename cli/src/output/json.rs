//! Proto3 JSON with the proto's own field names, and YAML with the same
//! content. Default values are printed: a script that reads `.reason` finds an
//! empty text, not a missing field.

use std::sync::OnceLock;

use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde::Serialize;

use crate::error::{Context, Error, Result};

/// One message as indented JSON.
pub fn json<M: Message + Name>(message: &M) -> Result<String> {
    json_text(&Reflected(dynamic(message)?))
}

/// One message as JSON on one line, for streams.
pub fn json_line<M: Message + Name>(message: &M) -> Result<String> {
    let text = serde_json::to_string(&Reflected(dynamic(message)?)).context("json")?;
    Ok(escape_c1(&text))
}

/// One message as YAML.
pub fn yaml<M: Message + Name>(message: &M) -> Result<String> {
    yaml_text(&Reflected(dynamic(message)?))
}

/// One message as a value, to put into a larger answer.
pub fn value<M: Message + Name>(message: &M) -> Result<serde_json::Value> {
    serde_json::to_value(Reflected(dynamic(message)?)).context("json")
}

/// Any value as indented JSON.
pub fn json_text(value: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(value).context("json")?;
    Ok(escape_c1(&text))
}

/// Any value as YAML.
pub fn yaml_text(value: &impl Serialize) -> Result<String> {
    let text = serde_yaml_ng::to_string(value).context("yaml")?;
    Ok(escape_c1(&text))
}

struct Reflected(DynamicMessage);

impl Serialize for Reflected {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let options = SerializeOptions::new()
            .use_proto_field_name(true)
            .skip_default_fields(false);
        self.0.serialize_with_options(serializer, &options)
    }
}

fn dynamic<M: Message + Name>(message: &M) -> Result<DynamicMessage> {
    static POOL: OnceLock<Option<DescriptorPool>> = OnceLock::new();
    let pool = POOL.get_or_init(|| DescriptorPool::decode(nube_proto::DESCRIPTORS).ok());
    let name = M::full_name();
    let descriptor = pool
        .as_ref()
        .and_then(|pool| pool.get_message_by_name(&name))
        .ok_or_else(|| Error::failed(format!("`{name}` is not in the contract")))?;
    let bytes = message.encode_to_vec();
    DynamicMessage::decode(descriptor, bytes.as_slice()).context(name)
}

/// serde_json leaves DEL and the C1 controls alone; some terminals obey them.
/// Outside of strings none can stand, so the JSON escape is always right.
fn escape_c1(text: &str) -> String {
    if !text.contains(is_c1) {
        return text.to_owned();
    }
    let escape = |c: char| match is_c1(c) {
        true => format!("\\u{:04x}", u32::from(c)),
        false => c.to_string(),
    };
    text.chars().map(escape).collect()
}

fn is_c1(c: char) -> bool {
    ('\u{7f}'..='\u{9f}').contains(&c)
}

#[cfg(test)]
mod test {
    use super::*;
    use nube_proto::v1::{Instance, InstanceState};

    fn sample() -> Instance {
        Instance {
            id: "i-00c0ffee00c0ffee".into(),
            name: "web".into(),
            state: InstanceState::Running as i32,
            memory_mib: 512,
            price_nanos_per_hour: 2_000_000,
            labels: [("team".to_owned(), "web".to_owned())].into(),
            ..Instance::default()
        }
    }

    #[test]
    fn json_is_proto3_json_with_proto_names() {
        let text = json(&sample()).expect("json");
        crate::golden::check("instance_json", &text);
        let value: serde_json::Value = serde_json::from_str(&text).expect("valid");
        assert_eq!(value["memory_mib"], "512");
        assert_eq!(value["state"], "INSTANCE_STATE_RUNNING");
        assert_eq!(value["node_reachable"], false);
    }

    #[test]
    fn a_line_is_a_line() {
        let mut message = sample();
        message.reason = "a\nb\u{9b}".into();
        let line = json_line(&message).expect("json");
        assert!(!line.contains(['\n', '\u{9b}']), "{line}");
        let parsed: serde_json::Value = serde_json::from_str(&line).expect("valid");
        assert_eq!(parsed, value(&message).expect("value"));
    }

    #[test]
    fn yaml_says_the_same() {
        let text = yaml(&sample()).expect("yaml");
        let from_yaml: serde_json::Value = serde_yaml_ng::from_str(&text).expect("valid");
        assert_eq!(from_yaml, value(&sample()).expect("value"));
    }

    #[test]
    fn control_characters_are_escaped() {
        let mut message = sample();
        message.reason = "a\u{1b}[31m\u{9b}31m\u{7f}".into();
        for text in [json(&message), yaml(&message)] {
            let text = text.expect("text");
            assert!(!text.contains(['\u{1b}', '\u{9b}', '\u{7f}']), "{text}");
        }
        let text = json(&message).expect("json");
        let value: serde_json::Value = serde_json::from_str(&text).expect("still valid");
        assert_eq!(value["reason"], message.reason);
    }
}
