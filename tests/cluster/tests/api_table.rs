//! Every method, as every identity, with every kind of bad value, generated from
//! the contract: a method that is added without a row here fails this test. Each
//! bad call gets a typed error, and nothing changes.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use nube_cluster_tests::door::Door;
use nube_cluster_tests::raw::{self, call};
use nube_harness::{Cloud, Process, Size};
use prost_reflect::prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MethodDescriptor, Value};
use tonic::transport::Channel;
use tonic::{Code, Status};

/// Who may call each method, written down apart from the controller's own table.
/// `v` viewer, `m` member, `p` admin of the project, `o` operator, `a` admin of
/// the cell; `s` everybody who is somebody; `*` everybody; `A` agents; `C`
/// controllers. A letter includes those after it that include its rights.
const ALLOWED: &str = "
AccessKeyService: CreateAccessKey s, DeleteAccessKey s, ListAccessKeys s, WhoAmI s
AddressService: AddAddressPool o, AllocateAddress m, AssociateAddress m, DisassociateAddress m
AddressService: GetAddress v, ListAddresses v, ListAddressPools o, ReleaseAddress m
AddressService: RemoveAddressPool o
AgentService: Attach A, FetchBlob A, Session A
BillingService: ExplainBillLine v, GetBill v, ListUsage v, VerifyBill v
ClusterService: BackupCluster a, CreateJoinToken a, GetCluster o, PromoteMember a
ClusterService: RemoveMember a, TransferLeadership o
EventService: ListEvents v
ImageService: DeleteImage m, GetImage v, ListImages v, RegisterImage m, UploadBlob m
InstanceService: DeleteInstance m, ExplainInstance v, GetInstance v, LaunchInstances m
InstanceService: ListInstances v, OpenConsole m, OpenTunnel m, PreviewLaunch v, ReadSerialLog v
InstanceService: RebootInstance m, StartInstance m, StopInstance m, WatchInstance v
InstanceTypeService: ListInstanceTypes v
JoinService: Join *, RenewCertificate AC
LoadBalancerService: CreateLoadBalancer m, DeleteLoadBalancer m, GetLoadBalancer v
LoadBalancerService: ListLoadBalancers v, SetTargetDraining m
NetworkService: CreateNetwork m, DeleteNetwork m, ExplainPath v, GetNetwork v, GetNetworkMap v
NetworkService: ListNetworks v, SetInternetGateway m
NodeService: DrainNode o, GetNode o, ListNodes o, SetNodeLabels o, UncordonNode o
PeerService: InstallSnapshot C, Messages C, Propose C, ReadClock C
PrincipalService: CreatePrincipal a, DeletePrincipal a, GetPrincipal s, ListPrincipals s, SetRole p
ProjectService: CreateProject a, DeleteProject a, GetProject v, ListProjects v, SetProjectQuota a
SecurityGroupService: AddSecurityRule m, CreateSecurityGroup m, DeleteSecurityGroup m
SecurityGroupService: GetSecurityGroup v, ListSecurityGroups v, RemoveSecurityRule m
SecurityGroupService: SetInstanceSecurityGroups m
SshKeyService: DeleteSshKey m, GetSshKey v, GenerateSshKey m, ImportSshKey m, ListSshKeys v
SubnetService: CreateSubnet m, DeleteSubnet m, GetSubnet v, ListSubnets v
WatchService: Watch v
";

/// What each class of caller may do, as letters of [`ALLOWED`].
const CLASSES: [(&str, &str); 11] = [
    ("nobody", "*"),
    ("wrong CA", "*"),
    ("expired certificate", "*"),
    ("unknown key", "*"),
    ("viewer", "*sv"),
    ("member", "*svm"),
    ("project admin", "*svmp"),
    ("operator", "*svo"),
    ("cell admin", "*svmpoa"),
    ("agent", "*A"),
    ("controller", "*C"),
];

fn allowed() -> BTreeMap<String, String> {
    let mut rows = BTreeMap::new();
    for line in ALLOWED.lines().filter(|line| !line.is_empty()) {
        let (service, methods) = line.split_once(':').expect("a service");
        for method in methods.split(',') {
            let (name, who) = method.trim().split_once(' ').expect("a method and who");
            rows.insert(format!("{service}/{name}"), who.to_owned());
        }
    }
    rows
}

fn short(method: &MethodDescriptor) -> String {
    format!("{}/{}", method.parent_service().name(), method.name())
}

/// A cloud with two projects, and a door for each class of caller.
struct World {
    cloud: Cloud,
    agent: Process,
    doors: Vec<(&'static str, Door)>,
    /// Ids in the project `other`, by the field that may name them.
    foreign: BTreeMap<&'static str, String>,
}

impl World {
    fn new() -> anyhow::Result<Self> {
        let cloud = Cloud::up(Size {
            controllers: 1,
            nodes: 1,
        })?;
        cloud.ctl(&["project", "create", "other"])?;
        let foreign = Self::populate_other(&cloud)?;
        let doors = Self::doors(&cloud)?;
        // A silent host proves nothing: from here on only calls change anything.
        let agent = cloud.process("node-1")?;
        agent.pause()?;
        nube_harness::eventually("node-1 is unreachable", Duration::from_secs(60), || {
            let node = cloud.json(&["node", "show", "node-1"])?;
            anyhow::ensure!(
                node["state"] == "NODE_STATE_UNREACHABLE",
                "{}",
                node["state"]
            );
            Ok(())
        })?;
        Ok(Self {
            agent,
            cloud,
            doors,
            foreign,
        })
    }

    fn populate_other(cloud: &Cloud) -> anyhow::Result<BTreeMap<&'static str, String>> {
        let image = cloud.json(&["image", "show", "micro"])?;
        let other = |args: &[&str]| {
            let mut all = vec!["--project", "other"];
            all.extend(args);
            cloud.json(&all)
        };
        let key = other(&["ssh-key", "generate", "theirs"])?;
        let dir = nube_harness::micro_image()?;
        let theirs = other(&["image", "import", dir.to_str().context("UTF-8")?])?;
        let instance = other(&["launch", "micro", "--name", "theirs", "--wait", "running"])?;
        let id = |value: &serde_json::Value| find_id(value).context("an id in the answer");
        anyhow::ensure!(find_id(&image).is_some(), "{image}");
        Ok(BTreeMap::from([
            ("ssh_key", id(&key)?),
            ("image", id(&theirs)?),
            ("instance", id(&instance)?),
        ]))
    }

    fn doors(cloud: &Cloud) -> anyhow::Result<Vec<(&'static str, Door)>> {
        let stranger = Door::stranger(cloud)?;
        let token = |name: &str, project: Option<&str>, role: &str| -> anyhow::Result<Door> {
            cloud.ctl(&["principal", "create", name])?;
            let mut give = vec!["principal", "role", name, role];
            let mut make = vec!["access-key", "create", "--principal", name, "--role", role];
            for args in [&mut give, &mut make] {
                match project {
                    Some(project) => args.extend(["--project", project]),
                    None => args.push("--cell"),
                }
            }
            cloud.ctl(&give)?;
            let made = cloud.json(&make)?;
            let token = made["token"].as_str().context("a token")?;
            Ok(Door::stranger(cloud)?.with_token(token))
        };
        let dir = cloud.dir();
        let (wrong_ca, expired) = forged(&dir)?;
        Ok(vec![
            ("nobody", stranger.clone()),
            (
                "wrong CA",
                stranger.clone().with_certificate(wrong_ca.0, wrong_ca.1),
            ),
            (
                "expired certificate",
                stranger.clone().with_certificate(expired.0, expired.1),
            ),
            (
                "unknown key",
                stranger
                    .clone()
                    .with_token("nube1.ak-0000000000000001.c2VjcmV0"),
            ),
            ("viewer", token("vi", Some("default"), "viewer")?),
            ("member", token("me", Some("default"), "member")?),
            ("project admin", token("pa", Some("default"), "admin")?),
            ("operator", token("op", None, "operator")?),
            ("cell admin", Door::operator(cloud)?),
            (
                "agent",
                stranger.clone().with_files(&dir.join("node-1/tls"))?,
            ),
            (
                "controller",
                stranger.with_files(&dir.join("controller-1/tls"))?,
            ),
        ])
    }

    fn door(&self, class: &str) -> &Door {
        let found = self.doors.iter().find(|(name, _)| *name == class);
        &found.expect("a class of this test").1
    }
}

/// The first `id` in an answer, whatever it is wrapped in.
fn find_id(value: &serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::Object(map) => match map.get("id").and_then(|id| id.as_str()) {
            Some(id) => Some(id.to_owned()),
            None => map.values().find_map(find_id),
        },
        serde_json::Value::Array(items) => items.iter().find_map(find_id),
        _ => None,
    }
}

type Pem = (Vec<u8>, Vec<u8>);

/// An operator's certificate by another CA, and an expired one by the right CA.
fn forged(dir: &std::path::Path) -> anyhow::Result<(Pem, Pem)> {
    use rcgen::{CertificateParams, Issuer, KeyPair, SanType, date_time_ymd};
    let text = std::fs::read_to_string(dir.join("nube.cell"))?;
    let id = text.lines().find_map(|line| line.strip_prefix("id = \""));
    let id = id
        .context("the cell's id")?
        .trim_end_matches('"')
        .to_owned();
    let leaf = |expired: bool, issuer: &Issuer<'_, KeyPair>| -> anyhow::Result<Pem> {
        let mut params = CertificateParams::default();
        let uri = format!("nube://{id}/operator/admin");
        params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
        if expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2020, 2, 1);
        }
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, issuer)?.pem();
        Ok((certificate.into_bytes(), key.serialize_pem().into_bytes()))
    };
    let other_key = KeyPair::generate()?;
    let mut other = CertificateParams::default();
    other.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let other = Issuer::new(other, other_key);
    let ca_key = KeyPair::from_pem(&std::fs::read_to_string(dir.join("pki/ca.key"))?)?;
    let ca = Issuer::from_ca_cert_pem(&std::fs::read_to_string(dir.join("pki/ca.pem"))?, ca_key)?;
    Ok((leaf(false, &other)?, leaf(true, &ca)?))
}

fn runtime() -> tokio::runtime::Runtime {
    let built = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    built.expect("a runtime")
}

#[test]
fn every_method_refuses_every_wrong_identity_and_every_bad_value() -> anyhow::Result<()> {
    // With a choice of providers rustls panics instead of guessing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let world = World::new()?;
    let pool = raw::contract();
    let methods = raw::methods(&pool);
    let identities = runtime().block_on(identity_table(&world, &methods))?;
    let values = runtime().block_on(value_table(&world, &methods))?;
    let probes = runtime().block_on(foreign_table(&world, &methods))?;
    println!(
        "{} methods: {identities} identity rows, {values} value rows, {probes} cross-project probes",
        methods.len()
    );
    assert!(identities >= methods.len() * CLASSES.len());
    world.agent.resume()?;
    world.cloud.verify_bill()
}

async fn identity_table(world: &World, methods: &[MethodDescriptor]) -> anyhow::Result<usize> {
    let allowed = allowed();
    let before = world.cloud.state_hash()?;
    let mut rows = 0;
    let mut wrong = Vec::new();
    for (class, letters) in CLASSES {
        let door = world.door(class);
        let channel = door.connect(0).await;
        for method in methods {
            let name = short(method);
            let who = allowed.get(&name);
            let who = who.with_context(|| format!("{name} has no row in ALLOWED"))?;
            let may = who.chars().any(|letter| letters.contains(letter));
            let answer = match &channel {
                Ok(channel) => call(channel, door, &raw::path(method), Bytes::new()).await,
                Err(error) => Err(Status::new(Code::Unknown, format!("{error:#}"))),
            };
            rows += 1;
            if let Some(problem) = judge_identity(may, &answer, class) {
                wrong.push(format!("{class} calls {name}: {problem}"));
            }
        }
    }
    anyhow::ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    anyhow::ensure!(
        world.cloud.state_hash()? == before,
        "a refused call changed the state"
    );
    Ok(rows)
}

fn judge_identity(
    may: bool,
    answer: &Result<Option<Bytes>, Status>,
    class: &str,
) -> Option<String> {
    let code = answer.as_ref().map_or_else(Status::code, |_| Code::Ok);
    // A certificate that does not verify ends the connection itself.
    let unproven = matches!(class, "wrong CA" | "expired certificate");
    let refused = matches!(code, Code::Unauthenticated | Code::PermissionDenied)
        || unproven && matches!(code, Code::Unknown | Code::Unavailable | Code::Cancelled);
    let fault = matches!(code, Code::Internal | Code::DataLoss) || !may && !refused;
    // A join is let in and then judged by its token. Agents and controllers that
    // are let in are then held to their own rules.
    let by_token = answer
        .as_ref()
        .is_err_and(|status| status.message().contains("join token"));
    let own_rules = by_token || matches!(class, "agent" | "controller") || unproven;
    let let_in = may && (!refused || own_rules);
    (fault || may && !let_in).then(|| format!("{answer:?}"))
}

/// What must not be accepted in a field, whatever the method.
fn bad_values(field: &FieldDescriptor) -> Vec<(&'static str, Value)> {
    let text = |text: &str| Value::String(text.to_owned());
    let known = field.name();
    match field.kind() {
        _ if field.is_map() => Vec::new(),
        Kind::String => {
            let mut bad = vec![
                ("64 KiB of text", text(&"x".repeat(64 * 1024))),
                ("control characters", text("a\n\u{1b}[2J\u{0}b")),
                (A_QUOTE, text("x\",file=/etc/shadow;$(id)'")),
            ];
            if known == "request_id" {
                bad.push(("nothing", text("")));
                bad.push(("no UUID", text("not-a-uuid")));
            }
            bad
        }
        Kind::Bytes => vec![(
            "1 MiB of bytes",
            Value::Bytes(Bytes::from(vec![0; 1 << 20])),
        )],
        Kind::Uint32 => vec![("the largest", Value::U32(u32::MAX))],
        Kind::Uint64 => vec![("the largest", Value::U64(u64::MAX))],
        Kind::Enum(_) => vec![("an unknown number", Value::EnumNumber(9_999))],
        _ => Vec::new(),
    }
}

const A_QUOTE: &str = "a quote";
/// Compared with what is kept, and nothing else: any printable text may be.
const SEARCHED: [&str; 2] = ["resource", "actor"];

/// Fields for which the largest number or a strange text is a legal wish, each
/// with why.
const LEGAL: [(&str, &str); 8] = [
    // No limit.
    ("SetProjectQuotaRequest", "quota"),
    ("CreateProjectRequest", "quota"),
    // Cut to what is kept.
    ("ReadSerialLogRequest", "bytes_max"),
    // Output fields of a record are ignored.
    ("RegisterImageRequest", "image"),
    // A set of labels is judged as a whole; see the value rows of `remove`.
    ("LaunchInstancesRequest", "labels"),
    ("SetNodeLabelsRequest", "labels"),
    // Keys that are not there need no removal.
    ("SetNodeLabelsRequest", "remove"),
    // Anything that no event has is an empty list.
    ("ListInstancesRequest", "labels"),
];

/// A message that a cell admin could send, before one field of it is spoilt.
fn base(method: &MethodDescriptor) -> serde_json::Value {
    let request_id = uuid::Uuid::new_v4().to_string();
    let nowhere = "nowhere";
    match short(method).as_str() {
        "SshKeyService/ImportSshKey" => serde_json::json!({
            "request_id": request_id, "name": "spoilt", "public_key": "ssh-ed25519 AAAA"
        }),
        "SshKeyService/GenerateSshKey" => {
            serde_json::json!({"request_id": request_id, "name": "theirs.not.legal"})
        }
        "InstanceService/LaunchInstances" | "InstanceService/PreviewLaunch" => serde_json::json!({
            "request_id": request_id, "name": "spoilt", "image": nowhere
        }),
        "ProjectService/CreateProject" => {
            serde_json::json!({"request_id": request_id, "name": "default"})
        }
        "PrincipalService/CreatePrincipal" => {
            serde_json::json!({"request_id": request_id, "name": "vi"})
        }
        "ImageService/RegisterImage" => serde_json::json!({
            "request_id": request_id, "image": {"name": "spoilt", "architecture": "x86_64"}
        }),
        "NetworkService/CreateNetwork" => {
            serde_json::json!({"request_id": request_id, "name": "default"})
        }
        "SubnetService/CreateSubnet" => serde_json::json!({
            "request_id": request_id, "name": "default", "cidr": "10.9.0.0/24"
        }),
        "SecurityGroupService/CreateSecurityGroup" => {
            serde_json::json!({"request_id": request_id, "name": "default"})
        }
        "SecurityGroupService/AddSecurityRule" => serde_json::json!({
            "request_id": request_id, "security_group": nowhere,
            "rule": {"direction": "TRAFFIC_DIRECTION_INGRESS", "protocol": "any", "cidr": "::/0"}
        }),
        "LoadBalancerService/CreateLoadBalancer" => serde_json::json!({
            "request_id": request_id, "name": "spoilt", "elastic_address": nowhere,
            "listeners": [{"protocol": "tcp", "port": 80}], "target_labels": {"app": "web"}
        }),
        "NetworkService/ExplainPath" => {
            serde_json::json!({"from": nowhere, "to": nowhere, "port": 80})
        }
        _ => serde_json::json!({}),
    }
}

fn build(method: &MethodDescriptor) -> anyhow::Result<DynamicMessage> {
    let known: serde_json::Map<String, serde_json::Value> = match base(method) {
        serde_json::Value::Object(map) => map,
        _ => serde_json::Map::new(),
    };
    let mut message =
        DynamicMessage::deserialize(method.input(), serde_json::Value::Object(known))?;
    for field in method.input().fields() {
        let named = field.name();
        if named == "request_id" && !message.has_field(&field) {
            let id = uuid::Uuid::new_v4().to_string();
            message.set_field(&field, Value::String(id));
        }
    }
    Ok(message)
}

async fn value_table(world: &World, methods: &[MethodDescriptor]) -> anyhow::Result<usize> {
    let door = world.door("cell admin");
    let channel = door.connect(0).await?;
    let before = world.cloud.state_hash()?;
    let (mut rows, mut wrong) = (0, Vec::new());
    for method in methods {
        let service = method.parent_service().full_name().to_owned();
        // Agents' and peers' own protocols have their own tables.
        if !service.starts_with("nube.v1.") || short(method) == "JoinService/RenewCertificate" {
            continue;
        }
        for field in method.input().fields() {
            let legal = (method.input().name().to_owned(), field.name().to_owned());
            if LEGAL.iter().any(|(m, f)| (*m, *f) == (&legal.0, &legal.1)) {
                continue;
            }
            for (what, value) in bad_values(&field) {
                if what == A_QUOTE && SEARCHED.contains(&field.name()) {
                    continue;
                }
                let mut message = build(method)?;
                let value = if field.is_list() {
                    Value::List(vec![value])
                } else {
                    value
                };
                message.set_field(&field, value);
                let answer = send(&channel, door, method, &message).await;
                rows += 1;
                if let Some(problem) = judge_value(&answer) {
                    let name = short(method);
                    wrong.push(format!("{name} with {what} in {}: {problem}", field.name()));
                }
            }
        }
    }
    anyhow::ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    anyhow::ensure!(
        world.cloud.state_hash()? == before,
        "a bad value changed the state"
    );
    Ok(rows)
}

async fn send(
    channel: &Channel,
    door: &Door,
    method: &MethodDescriptor,
    message: &DynamicMessage,
) -> Result<Option<Bytes>, Status> {
    let bytes = Bytes::from(message.encode_to_vec());
    call(channel, door, &raw::path(method), bytes).await
}

/// A bad value is refused by a word of ours, never by an accident.
fn judge_value(answer: &Result<Option<Bytes>, Status>) -> Option<String> {
    let status = match answer {
        Ok(_) => return Some("accepted".to_owned()),
        Err(status) => status,
    };
    let typed = matches!(
        status.code(),
        Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::PermissionDenied
            | Code::Unauthenticated
    );
    let clean = !status
        .message()
        .chars()
        .any(|c| c.is_control() && c != '\n');
    (!typed || !clean || status.message().len() > 2_000).then(|| format!("{status:?}"))
}

/// Ids of another project answer exactly as ids that never were.
async fn foreign_table(world: &World, methods: &[MethodDescriptor]) -> anyhow::Result<usize> {
    let door = world.door("project admin");
    let channel = door.connect(0).await?;
    let before = world.cloud.state_hash()?;
    let (mut rows, mut wrong) = (0, Vec::new());
    for method in methods
        .iter()
        .filter(|m| m.parent_service().name() != "AgentService")
    {
        for field in method.input().fields() {
            let Some(foreign) = world.foreign.get(field.name()) else {
                continue;
            };
            if !matches!(field.kind(), Kind::String) {
                continue;
            }
            let prefix = foreign.rsplit_once('-').context("an id")?.0;
            let never = format!("{prefix}-00000000000000aa");
            let mut answers = Vec::new();
            for id in [foreign, &never] {
                let mut message = build(method)?;
                message.set_field(&field, Value::String(id.clone()));
                let answer = send(&channel, door, method, &message).await;
                let seen = match answer {
                    Ok(bytes) => format!("answered {:?}", bytes.map(|b| b.len())),
                    Err(status) => {
                        let text = status.message().replace(id.as_str(), "ID");
                        format!("{:?}: {text}", status.code())
                    }
                };
                answers.push(seen);
            }
            if world.cloud.state_hash()? != before {
                wrong.push(format!(
                    "{} {} changed the state: {answers:?}",
                    short(method),
                    field.name()
                ));
            }
            rows += 1;
            if answers[0] != answers[1] {
                let name = short(method);
                wrong.push(format!(
                    "{name} {}: {} | {}",
                    field.name(),
                    answers[0],
                    answers[1]
                ));
            }
        }
    }
    anyhow::ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    anyhow::ensure!(
        world.cloud.state_hash()? == before,
        "a probe changed the state"
    );
    anyhow::ensure!(rows >= 10, "only {rows} probes");
    Ok(rows)
}

#[test]
fn the_table_names_every_method_once() {
    let pool = raw::contract();
    let names: Vec<String> = raw::methods(&pool).iter().map(short).collect();
    let rows = allowed();
    let missing: Vec<_> = names
        .iter()
        .filter(|name| !rows.contains_key(*name))
        .collect();
    let extra: Vec<_> = rows.keys().filter(|name| !names.contains(name)).collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "missing {missing:?}, extra {extra:?}"
    );
}
