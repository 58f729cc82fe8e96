//! What the corpus begins with: real encodings of plausible things.

use std::collections::BTreeMap;

use nube_proto::{agent, backup, v1};
use nube_state::{Outcome, Refusal, codec};
use nube_types::{ImageId, InstanceId, TimestampMs};
use prost::{Message, Name};

use crate::grpc::MESSAGES;

/// A golden log with every command in it.
const HISTORY: &str =
    include_str!("../../../controller/state/tests/golden/history/0.2.0-dev.2.txt");
const ED25519: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ me@host";
const DIGEST: &str = "abababababababababababababababababababababababababababababababab";

fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or_default() as u8;
    let pairs = text.as_bytes().chunks_exact(2);
    pairs
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

/// The golden log's entries with their indexes.
#[must_use]
pub fn history() -> Vec<(u64, Vec<u8>)> {
    let entries = HISTORY
        .lines()
        .filter_map(|line| line.strip_prefix("entry "));
    let parted = entries.filter_map(|line| line.split_once(' '));
    let read = parted.filter_map(|(index, hex)| Some((index.parse().ok()?, unhex(hex))));
    read.collect()
}

/// One entry of each shape: the command's number is where shapes differ first.
fn envelopes() -> Vec<Vec<u8>> {
    let mut shapes = BTreeMap::new();
    for (_, entry) in history() {
        let shape = codec::decode_envelope(&entry).map(|envelope| {
            let text = format!("{:?}", envelope.command);
            let name = text.split(['(', ' ']).next().unwrap_or_default().to_owned();
            (name, envelope.request.is_some())
        });
        if let Ok(shape) = shape {
            shapes.entry(shape).or_insert(entry);
        }
    }
    shapes.into_values().collect()
}

fn outcomes() -> Vec<Vec<u8>> {
    let refused = Refusal::Invalid {
        field: "name".to_owned(),
        rule: "an RFC 1123 label".to_owned(),
    };
    let outcomes = [
        Outcome::Done,
        Outcome::Instances(vec![InstanceId(1), InstanceId(u64::MAX)]),
        Outcome::Image(ImageId(2)),
        Outcome::JoinToken(TimestampMs(1_800_000_000_000)),
        Outcome::Refused(Refusal::TokenRefused),
        Outcome::Refused(refused),
    ];
    outcomes.iter().map(codec::encode_outcome).collect()
}

pub(crate) fn wish() -> agent::v1::DesiredInstance {
    let blob = |size_bytes| {
        let sha256 = DIGEST.to_owned();
        Some(v1::Blob { sha256, size_bytes })
    };
    let image = v1::Image {
        disk: blob(10),
        disk_format: v1::DiskFormat::Qcow2.into(),
        kernel: blob(20),
        initrd: blob(30),
        cmdline: "console=ttyS0".to_owned(),
        ..v1::Image::default()
    };
    let port = agent::v1::Port {
        network_id: "net-0000000000000001".to_owned(),
        network_number: 1,
        address: "10.0.0.5".to_owned(),
        prefix_length: 16,
        gateway: "10.0.0.1".to_owned(),
        mac_address: "02:00:00:00:00:05".to_owned(),
        mtu: 1_500,
        ipv6_address: "fd12:3456:789a::a00:5".to_owned(),
        network_name: "default".to_owned(),
    };
    let spec = agent::v1::InstanceSpec {
        hostname: "web".to_owned(),
        vcpus: 1,
        memory_mib: 128,
        disk_mib: 512,
        image: Some(image),
        port: Some(port),
        authorized_keys: vec![ED25519.to_owned(), "ssh-rsa AAAA \"it's\": {x}".to_owned()],
        user_data: b"#cloud-config\nruncmd: [true]\n".to_vec().into(),
        ssh_host_private_key: "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END\n".to_owned(),
        ..agent::v1::InstanceSpec::default()
    };
    agent::v1::DesiredInstance {
        instance_id: "i-00c0ffee00c0ffee".to_owned(),
        placement_epoch: 1,
        generation: 2,
        state: v1::DesiredState::Running.into(),
        spec: Some(spec),
        ..agent::v1::DesiredInstance::default()
    }
}

/// A message behind the byte that names its type.
fn named<M: Message + Name>(message: &M) -> Vec<u8> {
    let name = M::full_name();
    let at = MESSAGES.iter().position(|(known, _)| known() == name);
    let mut bytes = vec![u8::try_from(at.unwrap_or_default()).unwrap_or_default()];
    bytes.extend(message.encode_to_vec());
    bytes
}

fn messages() -> Vec<Vec<u8>> {
    let hello = agent::v1::Hello {
        node_id: "node-0000000000000001".to_owned(),
        node_name: "host-1".to_owned(),
        zone: "default".to_owned(),
        agent_epoch: 3,
        vcpus: 8,
        memory_mib: 4_096,
        drivers: vec!["qemu".to_owned()],
        labels: BTreeMap::from([("rack".to_owned(), "r1".to_owned())]),
        unknown_resources: vec!["tap nube-x".to_owned()],
        ..agent::v1::Hello::default()
    };
    let seen = agent::v1::ObservedInstance {
        instance_id: "i-00c0ffee00c0ffee".to_owned(),
        placement_epoch: 1,
        reason: "guest-shutdown".to_owned(),
        ..agent::v1::ObservedInstance::default()
    };
    let report = agent::v1::Report {
        agent_epoch: 3,
        sequence: 4,
        full: true,
        instances: vec![seen],
        ..agent::v1::Report::default()
    };
    let desired = agent::v1::Desired {
        revision: 9,
        instances: vec![wish()],
        ..agent::v1::Desired::default()
    };
    let launch = v1::LaunchInstancesRequest {
        request_id: "00".repeat(16),
        name: "web".to_owned(),
        count: 3,
        image: "debian".to_owned(),
        ssh_keys: vec!["alice".to_owned()],
        user_data: b"#!/bin/true".to_vec().into(),
        ..v1::LaunchInstancesRequest::default()
    };
    let key = v1::ImportSshKeyRequest {
        request_id: "00".repeat(16),
        name: "alice".to_owned(),
        public_key: ED25519.to_owned(),
    };
    let frame = nube_proto::peer::v1::PeerMessages {
        hello: nube_consensus::probe::samples().2.remove(0).into(),
        messages: nube_consensus::probe::samples()
            .2
            .into_iter()
            .map(Into::into)
            .collect(),
        address: "10.0.0.1:7000".to_owned(),
    };
    vec![
        named(&hello),
        named(&report),
        named(&desired),
        named(&launch),
        named(&key),
        named(&frame),
    ]
}

fn backups() -> Vec<Vec<u8>> {
    let data = unhex(
        HISTORY
            .lines()
            .find_map(|l| l.strip_prefix("snapshot "))
            .unwrap_or_default(),
    );
    let Ok(state) = codec::decode_snapshot(&data) else {
        return Vec::new();
    };
    let (header, data) = nube_controller::backup::take(&state, DIGEST, 4);
    let written = backup::Writer::new(Vec::new(), &header).and_then(|mut writer| {
        writer.write(&data)?;
        writer.finish()
    });
    written.into_iter().collect()
}

const CONTROLLER: &str = r#"id = 1
cluster_id = "000102030405060708090a0b0c0d0e0f"
listen = ["127.0.0.1:7000"]
data_dir = "data"
image_dir = "images"
ca = "ca.pem"
certificate = "controller-1.pem"
key = "controller-1.key"
ca_key = "ca.key"
cluster_secret = "secret"
metrics_listen = "127.0.0.1:9100"

[[members]]
id = 1
address = "127.0.0.1:7000"
"#;
const AGENT: &str = r#"node_id = "node-0000000000000001"
name = "host-1"
zone = "default"
controllers = ["127.0.0.1:7000", "[::1]:7000"]
data_dir = "data"
ca = "ca.pem"
certificate = "agent.pem"
key = "agent.key"
vcpus = 4
memory_mib = 4096

[labels]
rack = "r1"
"#;
const CLIENT: &str = r#"endpoints = ["127.0.0.1:7000"]
ca = "ca.pem"
token = "nubekey1.x.y"
project = "default"
"#;
const CONTEXTS: &str = r#"current = "home"

[contexts.home]
endpoints = ["127.0.0.1:7000"]
ca = "ca.pem"
cert = "admin.pem"
key = "admin.key"
"#;

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// The first files of a target's corpus.
#[must_use]
pub fn of(target: &str) -> Vec<Vec<u8>> {
    let (records, snapshot_file, said) = nube_consensus::probe::samples();
    match target {
        "log_record" => records,
        "snapshot" => {
            let body = HISTORY
                .lines()
                .find_map(|line| line.strip_prefix("snapshot "));
            let empty = codec::encode_snapshot(&nube_state::State::default());
            vec![snapshot_file, unhex(body.unwrap_or_default()), empty]
        }
        "envelope" | "apply" => envelopes(),
        "outcome" => outcomes(),
        "peer" => said,
        "grpc" => messages(),
        "backup" => backups(),
        "config" => texts(&[CONTROLLER, AGENT, CLIENT, CONTEXTS]),
        "join_token" => {
            let text = nube_controller::api::join::token::text(DIGEST, &[7; 32]);
            texts(&[&text, &text[..60]])
        }
        "ssh_key" => texts(&[
            ED25519,
            &format!("command=\"/bin/true\",no-pty {ED25519}"),
            &format!("{ED25519}\n{ED25519}\n"),
            "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBHwf2HMM5TRXvo2SQJjsNkiDD5KqiiNjrGVv3UUh+mMT5RHxiRtOnlqvjhQtBq0VpmpCV/PwUdhOig4vkbqAcEc= x",
        ]),
        "seed" => {
            let mut plain = wish();
            if let Some(spec) = &mut plain.spec {
                spec.authorized_keys.clear();
                spec.user_data = bytes_of(b"\0\xff");
            }
            vec![wish().encode_to_vec(), plain.encode_to_vec()]
        }
        "qmp" => texts(&[
            "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 2}}, \"capabilities\": []}}\r\n",
            "{\"return\": {}, \"id\": 1}\r\n{\"id\": 2, \"error\": {\"class\": \"x\", \"desc\": \"not now\"}}\n",
            "{\"timestamp\": {\"seconds\": 1}, \"event\": \"SHUTDOWN\", \"data\": {\"guest\": true, \"reason\": \"guest-shutdown\"}}\n",
            "{\"event\": \"RESET\"}\n{\"event\": \"STOP\"}\n",
        ]),
        "metadata" => crate::service::seed::metadata(),
        "addresses" => crate::service::seed::addresses(),
        "names" => crate::service::seed::names(),
        _ => Vec::new(),
    }
}

fn bytes_of<B: From<Vec<u8>>>(bytes: &[u8]) -> B {
    bytes.to_vec().into()
}
