//! Transactions of the packet filter: rules as data, what stands in the kernel,
//! and the calls that read and replace it.
//!
//! A table is replaced as a whole, in one transaction, and only when it differs:
//! each carries an empty chain whose name is the hash of its content, so that an
//! agent that starts again finds out without comparing rules. Names and values
//! come from ids and typed values, never from a user's text.

use std::collections::BTreeMap;
use std::io;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const NFT: &str = "/usr/sbin/nft";
const MARK_PREFIX: &str = "content_";

/// One table, ready to be put into the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    family: &'static str,
    name: String,
    mark: String,
    commands: Vec<Value>,
}

impl Table {
    /// Of all that stands in it.
    #[must_use]
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// For tests and for people: the transaction.
    #[must_use]
    pub fn commands(&self) -> &[Value] {
        &self.commands
    }
}

/// What stands in the kernel: the marks of all tables of a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing(BTreeMap<(String, String), Option<String>>);

impl Standing {
    /// Looks, in the namespace of the calling thread.
    pub fn read() -> io::Result<Self> {
        let tables = json!({ "nftables": [{ "list": { "tables": null } }] });
        let chains = json!({ "nftables": [{ "list": { "chains": null } }] });
        let mut standing = Self::default();
        for entry in query(&tables)? {
            if let Some((family, name)) = names(&entry["table"], "name") {
                standing.0.insert((family, name), None);
            }
        }
        for entry in query(&chains)? {
            let chain = &entry["chain"];
            if let (Some(of), Some(name)) = (names(chain, "table"), chain["name"].as_str())
                && name.starts_with(MARK_PREFIX)
            {
                standing.0.insert(of, Some(name.to_owned()));
            }
        }
        Ok(standing)
    }

    /// Whether such a table exists, whatever is in it.
    #[must_use]
    pub fn has(&self, family: &str, name: &str) -> bool {
        self.0.contains_key(&(family.to_owned(), name.to_owned()))
    }

    /// Names of the tables of a family.
    pub fn names<'a>(&'a self, family: &'a str) -> impl Iterator<Item = &'a str> {
        let of = move |(of, _): &&(String, String)| of == family;
        self.0.keys().filter(of).map(|(_, name)| name.as_str())
    }

    fn is(&self, table: &Table) -> bool {
        let key = (table.family.to_owned(), table.name.clone());
        self.0.get(&key) == Some(&Some(table.mark.clone()))
    }
}

fn names(value: &Value, key: &str) -> Option<(String, String)> {
    let text = |key: &str| value[key].as_str().map(str::to_owned);
    Some((text("family")?, text(key)?))
}

/// Puts tables that differ from what stands into the kernel, all or nothing, and
/// takes others away. Returns how many changed.
pub fn replace(
    standing: &Standing,
    tables: &[Table],
    gone: &[(&'static str, String)],
) -> io::Result<u64> {
    let mut commands = Vec::new();
    let mut changes = 0;
    for table in tables.iter().filter(|table| !standing.is(table)) {
        commands.extend(table.commands.iter().cloned());
        changes += 1;
    }
    for (family, name) in gone {
        if standing.has(family, name) {
            let table = json!({ "family": family, "name": name });
            commands.push(json!({ "delete": { "table": table } }));
            changes += 1;
        }
    }
    if changes > 0 {
        apply(&json!({ "nftables": commands }))?;
    }
    Ok(changes)
}

/// Puts rules into the namespace of the calling thread, all or nothing.
/// Blocks for the run of `nft`.
pub fn apply(rules: &Value) -> io::Result<()> {
    run(rules).map(|_| ())
}

/// Entries of the answer to a question.
pub fn query(question: &Value) -> io::Result<Vec<Value>> {
    let text = run(question)?;
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let mut answer: Value = serde_json::from_str(&text).map_err(io::Error::other)?;
    match answer["nftables"].take() {
        Value::Array(entries) => Ok(entries),
        _ => Err(io::Error::other("nft answers something else than a list")),
    }
}

fn run(commands: &Value) -> io::Result<String> {
    let text = commands.to_string();
    // By its full name where it has one: nothing in the agent's PATH counts.
    let nft = std::path::Path::new(NFT);
    nftables::helper::apply_ruleset_raw(
        &text,
        nft.exists().then_some(nft),
        nftables::helper::DEFAULT_ARGS,
    )
    .map_err(io::Error::other)
}

/// A transaction under construction.
pub struct Rules {
    family: &'static str,
    table: String,
    commands: Vec<Value>,
}

impl Rules {
    /// Begins a table that takes the place of one of the same name: `add` before
    /// `delete`, so that the deletion cannot fail for absence.
    #[must_use]
    pub fn replacing(family: &'static str, table: &str) -> Self {
        let name = json!({ "family": family, "name": table });
        Self {
            family,
            table: table.to_owned(),
            commands: vec![
                json!({ "add": { "table": name } }),
                json!({ "delete": { "table": name } }),
                json!({ "add": { "table": name } }),
            ],
        }
    }

    fn named(&self, name: &str) -> serde_json::Map<String, Value> {
        let value = json!({ "family": self.family, "table": self.table, "name": name });
        match value {
            Value::Object(map) => map,
            _ => unreachable!("an object was written"),
        }
    }

    fn add(&mut self, kind: &str, thing: serde_json::Map<String, Value>) {
        self.commands.push(json!({ "add": { kind: thing } }));
    }

    /// A chain that others jump to.
    pub fn chain(&mut self, name: &str) {
        let chain = self.named(name);
        self.add("chain", chain);
    }

    /// A chain that the kernel calls.
    pub fn base_chain(&mut self, name: &str, kind: &str, hook: &str, priority: i32, policy: &str) {
        let mut chain = self.named(name);
        chain.insert("type".into(), json!(kind));
        chain.insert("hook".into(), json!(hook));
        chain.insert("prio".into(), json!(priority));
        chain.insert("policy".into(), json!(policy));
        self.add("chain", chain);
    }

    /// What enters from a device.
    pub fn ingress_chain(&mut self, name: &str, device: &str) {
        let mut chain = self.named(name);
        chain.insert("type".into(), json!("filter"));
        chain.insert("hook".into(), json!("ingress"));
        chain.insert("dev".into(), json!(device));
        chain.insert("prio".into(), json!(-300));
        chain.insert("policy".into(), json!("drop"));
        self.add("chain", chain);
    }

    /// A rule at the end of a chain.
    pub fn rule(&mut self, chain: &str, statements: Vec<Value>) {
        let rule = json!({
            "family": self.family, "table": self.table, "chain": chain, "expr": statements,
        });
        self.commands.push(json!({ "add": { "rule": rule } }));
    }

    /// A counter that rules name.
    pub fn counter(&mut self, name: &str) {
        let counter = self.named(name);
        self.add("counter", counter);
    }

    /// A set with its elements; `types` names what an element consists of.
    pub fn set(&mut self, name: &str, types: &[&str], elements: Vec<Value>) {
        let mut set = self.named(name);
        set.insert("type".into(), kind(types));
        if !elements.is_empty() {
            set.insert("elem".into(), Value::Array(elements));
        }
        self.add("set", set);
    }

    /// A set whose elements count the packets that match them.
    pub fn counting_set(&mut self, name: &str, of: &str) {
        let mut set = self.named(name);
        set.insert("type".into(), json!(of));
        set.insert("stmt".into(), json!([{ "counter": null }]));
        self.add("set", set);
    }

    /// A map from values to verdicts.
    pub fn verdicts(&mut self, name: &str, types: &[&str], elements: Vec<Value>) {
        let mut map = self.named(name);
        map.insert("type".into(), kind(types));
        map.insert("map".into(), json!("verdict"));
        if !elements.is_empty() {
            map.insert("elem".into(), Value::Array(elements));
        }
        self.add("map", map);
    }

    /// The table with its mark.
    #[must_use]
    pub fn finish(mut self) -> Table {
        let mark = format!("{MARK_PREFIX}{:016x}", self.digest());
        self.chain(&mark);
        self.order();
        Table {
            family: self.family,
            name: self.table,
            mark,
            commands: self.commands,
        }
    }

    /// What is jumped to, and what rules and maps name, comes before them: the
    /// kernel takes a transaction command by command.
    fn order(&mut self) {
        const ORDER: [&str; 5] = ["table", "counter", "chain", "set", "map"];
        self.commands.sort_by_key(|command| {
            let added = &command["add"];
            let is = |kind: &&str| added.get(*kind).is_some() || command["delete"].is_object();
            ORDER.iter().position(is).unwrap_or(ORDER.len())
        });
    }

    /// The transaction alone, without a mark.
    #[must_use]
    pub fn commands(mut self) -> Value {
        self.order();
        json!({ "nftables": self.commands })
    }

    /// Of all commands so far.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut hash = Sha256::new();
        for command in &self.commands {
            hash.update(command.to_string());
        }
        let bytes: [u8; 32] = hash.finalize().into();
        u64::from_be_bytes(*bytes.first_chunk().expect("32 bytes"))
    }
}

fn kind(types: &[&str]) -> Value {
    match types {
        [one] => json!(one),
        several => json!(several),
    }
}

/// Removes a table; absent is fine.
#[must_use]
pub fn no_table(family: &'static str, table: &str) -> Value {
    let mut rules = Rules::replacing(family, table);
    let name = json!({ "family": family, "name": table });
    rules.commands.push(json!({ "delete": { "table": name } }));
    json!({ "nftables": rules.commands })
}

/// Words of rules.
pub mod word {
    use std::fmt::Display;

    use serde_json::{Value, json};

    /// Lets a packet through this table.
    #[must_use]
    pub fn accept() -> Value {
        json!({ "accept": null })
    }

    /// Ends a packet.
    #[must_use]
    pub fn drop() -> Value {
        json!({ "drop": null })
    }

    /// Ends a packet and counts it.
    #[must_use]
    pub fn count(counter: &str) -> Value {
        json!({ "counter": counter })
    }

    /// Back to the chain that jumped here.
    #[must_use]
    pub fn back() -> Value {
        json!({ "return": null })
    }

    /// To a chain, and back.
    #[must_use]
    pub fn jump(chain: &str) -> Value {
        json!({ "jump": { "target": chain } })
    }

    /// To a chain for good.
    #[must_use]
    pub fn goto(chain: &str) -> Value {
        json!({ "goto": { "target": chain } })
    }

    /// The address of the link that a packet leaves by.
    #[must_use]
    pub fn masquerade() -> Value {
        json!({ "masquerade": null })
    }

    /// Equal to a value, or in a set.
    #[must_use]
    pub fn matches(left: Value, right: Value) -> Value {
        json!({ "match": { "op": "==", "left": left, "right": right } })
    }

    /// The contrary.
    #[must_use]
    pub fn differs(left: Value, right: Value) -> Value {
        json!({ "match": { "op": "!=", "left": left, "right": right } })
    }

    /// A property of the packet beside its bytes.
    #[must_use]
    pub fn meta(key: &str) -> Value {
        json!({ "meta": { "key": key } })
    }

    /// A field of a header.
    #[must_use]
    pub fn payload(protocol: &str, field: &str) -> Value {
        json!({ "payload": { "protocol": protocol, "field": field } })
    }

    /// Bits behind the begin of a header: `ll`, `nh` or `th`.
    #[must_use]
    pub fn raw(base: &str, offset: u32, length: u32) -> Value {
        json!({ "payload": { "base": base, "offset": offset, "len": length } })
    }

    /// Several values as one.
    #[must_use]
    pub fn concat(parts: Vec<Value>) -> Value {
        json!({ "concat": parts })
    }

    /// Values without a name.
    #[must_use]
    pub fn any_of(values: Vec<Value>) -> Value {
        json!({ "set": values })
    }

    /// A range of addresses.
    #[must_use]
    pub fn prefix(address: impl Display, length: u8) -> Value {
        json!({ "prefix": { "addr": address.to_string(), "len": length } })
    }

    /// An address as a value.
    #[must_use]
    pub fn text(value: impl Display) -> Value {
        json!(value.to_string())
    }

    /// A hardware address as a value.
    #[must_use]
    pub fn mac(address: [u8; 6]) -> Value {
        let [a, b, c, d, e, f] = address;
        json!(format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"))
    }

    /// The device a packet came by.
    #[must_use]
    pub fn from_link(pattern: &str) -> Value {
        matches(meta("iifname"), json!(pattern))
    }

    /// The device it leaves by.
    #[must_use]
    pub fn to_link(pattern: &str) -> Value {
        matches(meta("oifname"), json!(pattern))
    }

    /// The packet's connection: of a known flow, or what belongs to one.
    #[must_use]
    pub fn established() -> Value {
        state(json!(["established", "related"]))
    }

    /// Of no flow.
    #[must_use]
    pub fn invalid() -> Value {
        state(json!("invalid"))
    }

    /// In one of these states.
    #[must_use]
    pub fn state(states: Value) -> Value {
        let state = json!({ "ct": { "key": "state" } });
        json!({ "match": { "op": "in", "left": state, "right": states } })
    }

    /// The flow's destination was translated.
    #[must_use]
    pub fn translated() -> Value {
        let status = json!({ "ct": { "key": "status" } });
        json!({ "match": { "op": "in", "left": status, "right": "dnat" } })
    }

    /// Which way of its flow.
    #[must_use]
    pub fn direction(word: &str) -> Value {
        matches(json!({ "ct": { "key": "direction" } }), json!(word))
    }

    /// The destination that the flow's first packet had.
    #[must_use]
    pub fn first_destination() -> Value {
        json!({ "ct": { "key": "ip daddr", "dir": "original" } })
    }
}
