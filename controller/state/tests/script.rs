//! Stories as text: `tests/script/*.txt` hold commands, `----`, and what came of
//! them: the outcome and every row that changed. `UPDATE_EXPECT=1 cargo test`
//! writes the files anew; read the difference before you commit it.
//!
//! ```text
//! @12 stop web force request=1 params=a     @ seconds since the story began
//! ----
//! done
//! i1 web: stopping, wants stopped, …        + new, - gone, otherwise changed
//! ```

#![expect(
    clippy::disallowed_methods,
    reason = "stories are files, compared and rewritten"
)]

mod fixture;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;

use fixture::networks as net;
use fixture::{Cell, at_ms};
use nube_state::command::{NodeSeen, Tick, Wish};
use nube_state::security_group::{Peer, Protocol};
use nube_state::{AddressTarget, SecurityRule, load_balancer};
use nube_state::{
    Command, HostFailurePolicy, Instance, InstanceStage, InstanceState, JoinRole, Joined, Node,
    Outcome, Refusal, State, codec,
};
use nube_types::{
    AddressId, ImageId, InstanceId, Mib, NetworkId, NodeId, PlacementEpoch, SecurityGroupId,
    SshKeyId, SubnetId, TimestampMs,
};

#[test]
fn every_story_goes_as_written() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/script");
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut wrong = Vec::new();
    let mut count = 0;
    for entry in std::fs::read_dir(&dir).expect("the folder is part of the source") {
        let path = entry.expect("the folder can be read").path();
        let text = std::fs::read_to_string(&path).expect("stories are text");
        let played = play(&text);
        count += 1;
        if update {
            std::fs::write(&path, &played).expect("the source can be written");
        } else if played != text {
            wrong.push(format!(
                "{}:\n{}",
                path.display(),
                difference(&text, &played)
            ));
        }
    }
    assert!(count > 10, "stories are missing");
    assert!(
        wrong.is_empty(),
        "UPDATE_EXPECT=1 accepts these:\n{}",
        wrong.join("\n")
    );
}

fn difference(text: &str, played: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (text.lines().collect(), played.lines().collect());
    let first = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let show = |lines: &[&str]| {
        lines[first.saturating_sub(8).min(lines.len())..(first + 6).min(lines.len())].join("\n  ")
    };
    format!(
        "line {}\nwritten:\n  {}\nplayed:\n  {}",
        first + 1,
        show(&old),
        show(&new)
    )
}

/// The same text with the outcomes that are so.
fn play(text: &str) -> String {
    let mut story = Story::default();
    let mut played = String::new();
    let mut answers = false;
    for line in text.lines() {
        if answers {
            answers = !line.is_empty();
            if answers {
                continue;
            }
        }
        let _ = writeln!(played, "{line}");
        if line == "----" {
            played.push_str(&story.answer());
            answers = true;
        } else if !line.is_empty() && !line.starts_with('#') {
            line.clone_into(&mut story.line);
        }
    }
    played
}

/// A cell, and the names that its script gives to things.
#[derive(Default)]
struct Story {
    cell: Cell,
    line: String,
    instances: BTreeMap<String, InstanceId>,
    instance_count: u64,
    asked: Vec<(String, InstanceId)>,
    keys: BTreeMap<String, SshKeyId>,
    images: BTreeMap<String, ImageId>,
}

/// A command line: plain words, and `key=value` pairs.
struct Words<'a> {
    plain: Vec<&'a str>,
    pairs: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    fn of(line: &'a str) -> Self {
        let (pairs, plain): (Vec<_>, Vec<_>) =
            line.split_whitespace().partition(|word| word.contains('='));
        let pairs = pairs
            .into_iter()
            .filter_map(|pair| pair.split_once('='))
            .collect();
        Self { plain, pairs }
    }

    fn word(&self, position: usize) -> &'a str {
        self.plain.get(position).copied().unwrap_or_default()
    }

    fn has(&self, word: &str) -> bool {
        self.plain.contains(&word)
    }

    fn number(&self, key: &str, default: u64) -> u64 {
        self.pairs.get(key).map_or(default, |text| number(text))
    }
}

fn number(text: &str) -> u64 {
    text.parse()
        .unwrap_or_else(|_| panic!("`{text}` is not a number"))
}

fn numbers(text: &str) -> Vec<u64> {
    let words = text.split(',').filter(|word| !word.is_empty());
    words.map(number).collect()
}

fn node_id(text: &str) -> NodeId {
    NodeId(number(text.trim_start_matches('n')))
}

fn seconds(text: &str) -> TimestampMs {
    at_ms(number(text) * 1000)
}

impl Story {
    fn answer(&mut self) -> String {
        let line = self.line.clone();
        let mut words = Words::of(&line);
        if let Some(at) = words.word(0).strip_prefix('@') {
            self.cell.now_ms = number(at) * 1000;
            words.plain.remove(0);
        }
        let before = self.cell.state.clone();
        let request = words.pairs.contains_key("request").then(|| {
            let parameters = words
                .pairs
                .get("params")
                .map_or(0, |text| text.as_bytes()[0]);
            fixture::request(
                words.number("request", 0).try_into().unwrap_or(0),
                parameters,
            )
        });
        let command = self.command(&words);
        let outcome = self.cell.apply(request, command);
        // A name means its newest instance; a refused launch leaves it alone.
        let created = |(_, id): &(String, InstanceId)| self.cell.state.instances.get(id).is_some();
        self.instances.extend(self.asked.drain(..).filter(created));
        let mut answer = shown_outcome(&outcome);
        changes(&before, &self.cell.state, &mut answer);
        if let Outcome::Refused(_) = outcome {
            let hash = codec::state_hash(&self.cell.state);
            assert_eq!(
                codec::state_hash(&before),
                hash,
                "`{line}` was refused with an effect"
            );
        }
        answer
    }

    fn command(&mut self, words: &Words<'_>) -> Command {
        match words.word(0) {
            "init" => fixture::init(),
            "tick" => Command::Tick(Tick { seen: seen(words) }),
            "key" => {
                let id = SshKeyId(words.number("id", self.keys.len() as u64 + 1));
                let text = words.word(1);
                self.keys.entry(text.to_owned()).or_insert(id);
                fixture::ssh_key(id, text, words.pairs.get("material").unwrap_or(&text))
            }
            "delete-key" => Command::DeleteSshKey(fixture::PROJECT, self.key(words.word(1))),
            "image" => {
                let id = ImageId(words.number("id", self.images.len() as u64 + 1));
                self.images.entry(words.word(1).to_owned()).or_insert(id);
                let mut image = fixture::image(id, words.word(1));
                image.memory_min = Mib(words.number("memory", image.memory_min.0));
                Command::RegisterImage(image)
            }
            "delete-image" => Command::DeleteImage(fixture::PROJECT, self.image(words.word(1))),
            "node" => node_command(words),
            "reachable" | "silent" => {
                let at = words
                    .pairs
                    .get("seen")
                    .map_or(at_ms(self.cell.now_ms), |at| seconds(at));
                fixture::reachable(node_id(words.word(1)), words.word(0) == "reachable", at)
            }
            "drain" => Command::SetNodeDrained(node_id(words.word(1)), !words.has("no")),
            "launch" => self.launch(words),
            "start" => self.wish(words, Wish::Start),
            "stop" => self.wish(words, Wish::Stop),
            "reboot" => self.wish(words, Wish::Reboot),
            "delete" => self.wish(words, Wish::Delete),
            "report" => self.report(words),
            "token" => {
                let role = match words.word(1) {
                    "agent" => JoinRole::Agent,
                    _ => JoinRole::Controller,
                };
                fixture::join_token(words.number("secret", 1) as u8, role, words.word(2))
            }
            // `join 7 secret=1 at=c4:7000`: a newcomer whose key is 7.
            "join" => fixture::redeem(
                words.number("secret", 1) as u8,
                number(words.word(1)) as u8,
                words.pairs.get("at").copied(),
            ),
            "fence" => fixture::fence(node_id(words.word(1)), number(words.word(2))),
            // `replace web n1 n2 epoch=1`
            "replace" => fixture::replace(
                self.instance(words.word(1)),
                node_id(words.word(2)),
                words.number("epoch", 1) as u32,
                node_id(words.word(3)),
            ),
            "members" => fixture::members(&numbers(words.word(1))),
            // `remove-member 1 voters=1,2,3 silent=2`
            "remove-member" => fixture::remove_member(
                number(words.word(1)),
                &numbers(words.pairs.get("voters").unwrap_or(&"")),
                &numbers(words.pairs.get("silent").unwrap_or(&"")),
            ),
            _ => self.network_command(words),
        }
    }

    /// Ids of these are numbers of the story's own.
    fn network_command(&self, words: &Words<'_>) -> Command {
        let (first, second) = (words.word(1), words.word(2));
        let instance = |text: &str| self.instance(text);
        let on = !words.has("no");
        match words.word(0) {
            // `network 20 lab 10.9.0.0/24`, `subnet 20 30 far 172.16.0.0/28`
            "network" => net::network(number(first), second, net::range(words.word(3))),
            "gateway" => net::gateway(number(first), on),
            "delete-network" => net::delete_network(number(first)),
            "subnet" => {
                let range = net::range(words.word(4));
                net::subnet(number(first), number(second), words.word(3), range)
            }
            "delete-subnet" => net::delete_subnet(number(first)),
            "group" => net::group(number(first), second),
            // `allow 40 7 tcp 22-80 10.0.0.0/8`, or `… group:41`
            "allow" => net::add_rule(number(first), rule(words)),
            "revoke" => net::remove_rule(number(first), number(second)),
            "groups" => net::set_groups(instance(first), &numbers(second)),
            "delete-group" => net::delete_group(number(first)),
            "pool" => Command::AddAddressPool(net::range(first)),
            "delete-pool" => Command::RemoveAddressPool(net::range(first)),
            "address" => net::address(number(first), second),
            "associate" => net::associate(number(first), instance(second), words.has("take")),
            "disassociate" => net::disassociate(number(first)),
            "release" => net::release(number(first)),
            // `balancer 60 front network=20 address=50`
            "balancer" => {
                let mut balancer = net::balancer(number(first), second);
                balancer.network = NetworkId(words.number("network", 1));
                let elastic = words.pairs.get("address");
                balancer.elastic_address = elastic.map(|id| AddressId(number(id)));
                Command::CreateLoadBalancer(balancer)
            }
            "target" => net::drain(number(first), instance(second), words.has("drain")),
            "delete-balancer" => net::delete_balancer(number(first)),
            // `traffic n1 web=out/in`, `health n1 60 web=healthy`
            "traffic" => {
                let totals = words.pairs.iter().filter(|(name, _)| **name != "placement");
                let epoch = words.number("placement", 1) as u32;
                let totals = totals.map(|(name, text)| {
                    let (out, into) = text.split_once('/').unwrap_or_default();
                    net::totals(instance(name), epoch, number(out), number(into))
                });
                net::traffic(node_id(first), totals.collect())
            }
            "health" => {
                let verdicts = words.pairs.iter().filter(|(name, _)| **name != "placement");
                let epoch = words.number("placement", 1) as u32;
                let verdicts = verdicts.map(|(name, word)| {
                    net::verdict(number(second), instance(name), epoch, *word == "healthy")
                });
                net::health(node_id(first), verdicts.collect())
            }
            other => panic!("`{other}` is no command of a story"),
        }
    }

    fn key(&self, text: &str) -> SshKeyId {
        self.keys.get(text).copied().unwrap_or(SshKeyId(99))
    }

    fn image(&self, text: &str) -> ImageId {
        self.images.get(text).copied().unwrap_or(ImageId(99))
    }

    fn instance(&self, text: &str) -> InstanceId {
        self.instances.get(text).copied().unwrap_or(InstanceId(99))
    }

    /// `launch a,b on n1,n2`: the hosts take turns.
    fn launch(&mut self, words: &Words<'_>) -> Command {
        let nodes: Vec<NodeId> = words.word(3).split(',').map(node_id).collect();
        let mut new = Vec::new();
        for (position, text) in words.word(1).split(',').enumerate() {
            self.instance_count += 1;
            let id = InstanceId(words.number("id", self.instance_count));
            self.asked.push((text.to_owned(), id));
            new.push(fixture::new_instance(
                id,
                text,
                nodes[position % nodes.len()],
            ));
        }
        let mut command = fixture::launch(new);
        if words.has("replaceable") {
            command.on_host_failure = HostFailurePolicy::Replace;
        }
        if let Some(size) = words.pairs.get("type") {
            command.instance_type = (*size).to_owned();
        }
        let images = words.pairs.get("image").copied().unwrap_or("debian");
        command.image = self.image(images);
        let keys = words.pairs.get("keys").copied().unwrap_or_default();
        command.ssh_keys = keys
            .split(',')
            .filter(|key| !key.is_empty())
            .map(|key| self.key(key))
            .collect();
        let network = words.pairs.get("network");
        command.network = network.map(|id| NetworkId(number(id)));
        let subnet = words.pairs.get("subnet");
        command.subnet = subnet.map(|id| SubnetId(number(id)));
        let address = words.pairs.get("ip");
        let address = address.map(|text| text.parse::<Ipv4Addr>().expect("an address"));
        command.address = address.map(Ipv4Addr::to_bits);
        let groups = numbers(words.pairs.get("groups").unwrap_or(&""));
        command.security_groups = groups.into_iter().map(SecurityGroupId).collect();
        Command::LaunchInstances(command)
    }

    fn wish(&self, words: &Words<'_>, wish: Wish) -> Command {
        fixture::wish(self.instance(words.word(1)), wish, words.has("force"))
    }

    /// `report n1 1.4 full web=running/2 db=stopped/1/dead`, with `unknown=…`.
    fn report(&self, words: &Words<'_>) -> Command {
        let (epoch, sequence) = words.word(2).split_once('.').unwrap_or_default();
        let mut seen = Vec::new();
        for (text, what) in &words.pairs {
            if matches!(*text, "unknown" | "reason" | "placement") {
                continue;
            }
            let mut parts = what.split('/');
            let state = state_of(parts.next().unwrap_or_default());
            let applied = number(parts.next().unwrap_or("0"));
            let mut observed = fixture::observed(self.instance(text), state, applied);
            observed.epoch = PlacementEpoch(words.number("placement", 1) as u32);
            observed.reason = words
                .pairs
                .get("reason")
                .copied()
                .unwrap_or_default()
                .to_owned();
            for part in parts {
                match part {
                    "dead" => observed.found_dead = true,
                    "image" => observed.stage = InstanceStage::Image,
                    "boot" => observed.stage = InstanceStage::Boot,
                    other => panic!("`{other}` is no part of a report"),
                }
            }
            seen.push(observed);
        }
        let node = node_id(words.word(1));
        let mut report = fixture::report(node, number(epoch), number(sequence), seen);
        report.full = words.has("full");
        let unknown = words.pairs.get("unknown").copied().unwrap_or_default();
        report.unknown = unknown
            .split(',')
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
            .collect();
        Command::ReportInstances(report)
    }
}

fn rule(words: &Words<'_>) -> SecurityRule {
    let protocol = match words.word(3) {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "icmp" => Protocol::Icmp,
        _ => Protocol::Any,
    };
    let ports = words.word(4).split_once('-').unwrap_or(("0", "0"));
    let port = |text| u16::try_from(number(text)).expect("a port");
    let peer = match words.word(5).split_once("group:") {
        Some((_, id)) => net::from_group(number(id)),
        None => net::from_range(words.word(5)),
    };
    let ports = (port(ports.0), port(ports.1));
    net::rule(number(words.word(2)), protocol, ports, peer)
}

fn seen(words: &Words<'_>) -> Vec<NodeSeen> {
    let seen = |(node, at): (&&str, &&str)| NodeSeen {
        node: node_id(node),
        at: seconds(at),
    };
    words.pairs.iter().map(seen).collect()
}

fn node_command(words: &Words<'_>) -> Command {
    let mut facts = fixture::facts(node_id(words.word(1)), words.number("epoch", 1));
    if let Some(name) = words.pairs.get("name") {
        facts.name = fixture::name(name);
    }
    facts.memory = Mib(words.number("memory", facts.memory.0));
    facts.vcpus = words.number("vcpus", facts.vcpus.into()) as u32;
    Command::RegisterNode(facts)
}

fn state_of(text: &str) -> InstanceState {
    let all = [
        InstanceState::Pending,
        InstanceState::Starting,
        InstanceState::Running,
        InstanceState::Stopping,
        InstanceState::Stopped,
        InstanceState::Deleting,
        InstanceState::Deleted,
        InstanceState::Failed,
    ];
    let found = all.into_iter().find(|state| state.word() == text);
    found.unwrap_or_else(|| panic!("`{text}` is no state"))
}

fn shown_outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done => "done\n".to_owned(),
        Outcome::Instances(ids) => {
            let ids: Vec<_> = ids.iter().map(|id| format!("i{}", id.0)).collect();
            format!("created {}\n", ids.join(" "))
        }
        Outcome::SshKey(id) => format!("key {}\n", id.0),
        Outcome::Image(id) => format!("image {}\n", id.0),
        Outcome::Project(_) | Outcome::Principal(_) | Outcome::AccessKey(_) => {
            unreachable!("stories of tenants are in tenancy.rs")
        }
        Outcome::Network(id) => format!("network {}\n", id.0),
        Outcome::Subnet(id) => format!("subnet {}\n", id.0),
        Outcome::SecurityGroup(id) => format!("group {}\n", id.0),
        Outcome::Address(id) => format!("address {}\n", id.0),
        Outcome::LoadBalancer(id) => format!("load balancer {}\n", id.0),
        Outcome::JoinToken(until) => format!("good until {}\n", shown_time(*until)),
        Outcome::Joined(Joined::Agent {
            node,
            name,
            agent_epoch,
        }) => format!(
            "joined as host n{} {name} after epoch {agent_epoch}\n",
            node.0
        ),
        Outcome::Joined(Joined::Controller { member, name }) => {
            format!("joined as member {member} {name}\n")
        }
        Outcome::Refused(refusal @ Refusal::StalePlacement { .. }) => {
            format!("refused, choose again: {refusal}\n")
        }
        Outcome::Refused(refusal) => format!("refused: {refusal}\n"),
    }
}

/// Every row that differs, with a mark for new and gone ones.
fn changes(before: &State, after: &State, answer: &mut String) {
    let (old, new) = (rows(before), rows(after));
    for (key, row) in &new {
        let mark = match old.get(key) {
            Some(same) if same == row => continue,
            Some(_) => "",
            None => "+ ",
        };
        if key.starts_with("told") {
            let _ = writeln!(answer, "{key}");
            continue;
        }
        let _ = writeln!(answer, "{mark}{key}: {row}");
    }
    let gone = |key: &&String| !new.contains_key(*key) && !key.starts_with("told");
    for key in old.keys().filter(gone) {
        let _ = writeln!(answer, "- {key}");
    }
}

fn rows(state: &State) -> BTreeMap<String, String> {
    let mut rows = BTreeMap::new();
    for node in state.nodes.iter() {
        rows.insert(node.facts.name.to_string(), shown_node(state, node));
    }
    for instance in state.instances.iter() {
        let key = format!("i{} {}", instance.id.0, instance.name);
        rows.insert(key, shown_instance(instance));
    }
    for owed in state.evictions.iter() {
        let key = format!("n{} owes i{}", owed.node.0, owed.instance.0);
        rows.insert(key, format!("epoch {}, {}", owed.epoch.0, owed.memory));
    }
    for usage in state.usage.iter() {
        let end = match (usage.end, usage.end_reason) {
            (Some(end), Some(reason)) => format!("{} {reason:?}", shown_time(end)),
            _ => "open".to_owned(),
        };
        let kind = usage
            .subject
            .address(&usage.resource)
            .map_or("i", |_| "address ");
        let key = format!("usage {kind}{} run {}", usage.subject.0, usage.run);
        rows.insert(key, format!("{} to {end}", shown_time(usage.start)));
    }
    for released in state.released.iter() {
        let key = format!("{} waits", Ipv4Addr::from(released.address));
        rows.insert(key, format!("since {}", shown_time(released.released_at)));
    }
    for key in state.ssh_keys.iter() {
        rows.insert(
            format!("key {}", key.id.0),
            format!("{} {}", key.name, key.fingerprint),
        );
    }
    for member in state.members.iter() {
        let mut row = member.address.clone();
        if let Some(name) = &member.name {
            let _ = write!(row, " {name}");
        }
        if let Some(at) = member.removed_at {
            let _ = write!(row, ", removed {}", shown_time(at));
        }
        rows.insert(format!("member {}", member.id), row);
    }
    for token in state.join_tokens.iter() {
        let spent = if token.spent.is_some() { ", spent" } else { "" };
        let (role, until) = (token.role, shown_time(token.expires_at));
        let row = format!("{role:?} {} until {until}{spent}", token.name);
        rows.insert(format!("token {}", token.hash[0]), row);
    }
    for image in state.images.iter() {
        rows.insert(format!("image {}", image.id.0), image.name().to_string());
    }
    network_rows(state, &mut rows);
    rows
}

/// The default network is shown when something was changed about it.
fn network_rows(state: &State, rows: &mut BTreeMap<String, String>) {
    for network in state.networks.iter().filter(|n| n.revision > 0) {
        let isolated = if network.isolated { ", closed" } else { "" };
        let (id, name, range) = (network.id.0, network.name(), network.range());
        let row = format!("{name} {range}, number {}{isolated}", network.number);
        rows.insert(format!("network {id}"), row);
    }
    for subnet in state.subnets.iter() {
        let row = format!("{} {} in {}", subnet.name, subnet.range, subnet.network.0);
        rows.insert(format!("subnet {}", subnet.id.0), row);
    }
    for group in state.security_groups.iter() {
        let mut row = group.name.to_string();
        for rule in &group.rules {
            let peer = match rule.peer {
                Peer::Range(range) => range.to_string(),
                Peer::Group(group) => format!("group {}", group.0),
            };
            let (id, min, max) = (rule.id.0, rule.port_min, rule.port_max);
            let (way, protocol) = (rule.direction, rule.protocol);
            let _ = write!(row, "; {id}: {way:?} {protocol:?} {min}-{max} {peer}");
        }
        rows.insert(format!("group {}", group.id.0), row);
    }
    for pool in state.address_pools.iter() {
        rows.insert(format!("pool {}", pool.range), String::new());
    }
    for address in state.addresses.iter() {
        let target = match address.target {
            None => "nothing".to_owned(),
            Some(AddressTarget::Instance(id)) => format!("i{}", id.0),
            Some(AddressTarget::LoadBalancer(id)) => format!("load balancer {}", id.0),
        };
        let row = format!("{} → {target}", Ipv4Addr::from(address.address));
        rows.insert(format!("address {} {}", address.id.0, address.name), row);
    }
    for balancer in state.load_balancers.iter() {
        let mut row = Ipv4Addr::from(balancer.address).to_string();
        for target in load_balancer::targets(state, balancer) {
            let new = if target.takes_new { ", takes new" } else { "" };
            let _ = write!(row, "; i{} {}{new}", target.instance.0, target.state);
        }
        if let Some(node) = load_balancer::announcer(state, balancer) {
            let _ = write!(row, "; at n{}", node.0);
        }
        let key = format!("load balancer {} {}", balancer.id.0, balancer.name);
        rows.insert(key, row);
    }
    for counter in state.traffic_counters.iter() {
        let row = format!("{} out, {} in", counter.bytes_out, counter.bytes_in);
        rows.insert(format!("traffic i{}", counter.instance.0), row);
    }
    for row in state.traffic_usage.iter() {
        let key = format!("traffic i{} day {}", row.instance.0, row.day);
        let row = format!("{} out, {} in", row.bytes_out, row.bytes_in);
        rows.insert(key, row);
    }
    for (node, index) in &state.derived.node_networks {
        // Who hears of this entry.
        if *index == state.index {
            rows.insert(format!("told n{}", node.0), format!("at {index}"));
        }
    }
}

fn shown_node(state: &State, node: &Node) -> String {
    let used = state.node_use(node.facts.id);
    let mut row = if node.reachable {
        "reachable"
    } else {
        "silent"
    }
    .to_owned();
    for (word, so) in [
        ("drained", node.drained),
        ("oversold", node.oversold),
        ("fenced", node.fenced),
    ] {
        if so {
            let _ = write!(row, ", {word}");
        }
    }
    let (agent, sequence) = (node.facts.agent_epoch, node.last_sequence);
    let _ = write!(
        row,
        ", seen {}, report {agent}.{sequence}",
        shown_time(node.last_seen)
    );
    let _ = write!(
        row,
        ", {} of {} used by {}",
        used.memory, node.facts.memory, used.instances
    );
    if !node.facts.unknown.is_empty() {
        let _ = write!(row, ", unknown {}", node.facts.unknown.join(" "));
    }
    row
}

fn shown_instance(instance: &Instance) -> String {
    let mut row = instance.state.word().to_owned();
    if instance.stage != InstanceStage::None {
        let _ = write!(row, " ({:?})", instance.stage);
    }
    let wish = format!("{:?}", instance.desired).to_lowercase();
    let (applied, generation) = (instance.applied_generation, instance.generation);
    let _ = write!(
        row,
        ", wants {wish} {applied}/{generation}, on n{}",
        instance.node.0
    );
    let _ = write!(row, ", {}", Ipv4Addr::from(instance.address));
    if !instance.security_groups.is_empty() {
        let ids: Vec<_> = instance
            .security_groups
            .iter()
            .map(|id| id.0.to_string())
            .collect();
        let _ = write!(row, ", groups {}", ids.join(" "));
    }
    if instance.epoch.0 > 1 {
        let _ = write!(row, ", epoch {}", instance.epoch.0);
    }
    let words = [
        ("forced", instance.force),
        (
            "replaceable",
            instance.on_host_failure == HostFailurePolicy::Replace,
        ),
        ("host owes clean-up", instance.host_owes_cleanup),
        ("rebooted", instance.reboot_count > 0),
        ("user-data forgotten", instance.user_data_sealed.is_empty()),
    ];
    for (word, _) in words.iter().filter(|(_, so)| *so) {
        let _ = write!(row, ", {word}");
    }
    let _ = write!(row, ", since {}", shown_time(instance.state_changed_at));
    if !instance.reason.is_empty() {
        let _ = write!(row, ": {}", instance.reason);
    }
    row
}

fn shown_time(at: TimestampMs) -> String {
    format!("{}s", at.0.saturating_sub(fixture::BEGIN_MS) / 1000)
}
