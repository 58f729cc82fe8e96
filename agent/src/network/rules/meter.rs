//! Bytes between guests and the internet, for the bill. The table is made once
//! and never replaced: elements come and go, and keep their counts meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::UPLINK;
use crate::host::nft::Rules;
use crate::host::nft::word::{from_link, matches, payload, to_link};

/// Name of the table, in the family `inet`.
pub const TABLE: &str = "nube_meter";
const LIFE_PREFIX: &str = "life_";
const SETS: [&str; 2] = ["bytes_out", "bytes_in"];

/// What was counted since the table was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// Names the table's life: other numbers begin with another.
    pub life: String,
    /// From and to each guest, in bytes.
    pub bytes: BTreeMap<Ipv4Addr, (u64, u64)>,
}

/// Makes the table; `life` is a number that no other life of it has.
#[must_use]
pub fn create(life: u64) -> Value {
    let mut rules = Rules::replacing("inet", TABLE);
    for name in SETS {
        rules.counting_set(name, "ipv4_addr");
    }
    // After the filter: what it drops is not sent. Before the source changes.
    rules.base_chain("to_forward", "filter", "forward", 10, "accept");
    let member = |field, set| matches(payload("ip", field), json!(set));
    rules.rule(
        "to_forward",
        vec![to_link(UPLINK), member("saddr", "@bytes_out")],
    );
    rules.rule(
        "to_forward",
        vec![from_link(UPLINK), member("daddr", "@bytes_in")],
    );
    rules.chain(&format!("{LIFE_PREFIX}{life:016x}"));
    rules.commands()
}

/// The question whose answer `read` reads.
#[must_use]
pub fn question() -> Value {
    json!({ "nftables": [{ "list": { "table": { "family": "inet", "name": TABLE } } }] })
}

/// The counts out of the answer of the packet filter.
#[must_use]
pub fn read(answer: &[Value]) -> Reading {
    let mut reading = Reading::default();
    for entry in answer {
        if let Some(life) = entry["chain"]["name"].as_str()
            && let Some(life) = life.strip_prefix(LIFE_PREFIX)
        {
            life.clone_into(&mut reading.life);
        }
        let set = &entry["set"];
        let out = match set["name"].as_str() {
            Some("bytes_out") => true,
            Some("bytes_in") => false,
            _ => continue,
        };
        for element in set["elem"].as_array().into_iter().flatten() {
            let element = &element["elem"];
            let address = element["val"].as_str().and_then(|text| text.parse().ok());
            let bytes = element["counter"]["bytes"].as_u64();
            if let (Some(address), Some(bytes)) = (address, bytes) {
                let counts = reading.bytes.entry(address).or_default();
                *(if out { &mut counts.0 } else { &mut counts.1 }) = bytes;
            }
        }
    }
    reading
}

/// Makes the table count for these guests and no others; nothing when it does.
#[must_use]
pub fn members(counted: &Reading, wanted: &BTreeSet<Ipv4Addr>) -> Option<Value> {
    let mut commands = Vec::new();
    let mut change = |verb: &str, address: &Ipv4Addr| {
        for name in SETS {
            let element = json!({
                "family": "inet", "table": TABLE, "name": name, "elem": [address.to_string()],
            });
            commands.push(json!({ verb: { "element": element } }));
        }
    };
    for address in counted
        .bytes
        .keys()
        .filter(|address| !wanted.contains(address))
    {
        change("delete", address);
    }
    for address in wanted
        .iter()
        .filter(|address| !counted.bytes.contains_key(address))
    {
        change("add", address);
    }
    (!commands.is_empty()).then(|| json!({ "nftables": commands }))
}
