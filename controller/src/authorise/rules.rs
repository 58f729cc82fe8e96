//! The table: one row for each method. A method without a row does not exist
//! for anybody; a test compares the rows with the contract.

use nube_state::AccessRole;

use super::{Caller, Denied};
use crate::identity::Role;

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Everybody, proven or not.
    Anyone,
    /// The cluster's own processes, by the role in their certificate.
    Process(&'static [Role]),
    /// Everybody who is somebody; the handler looks at what.
    SignedIn,
    /// This role in the call's project, or a greater one.
    Project(AccessRole),
    /// This role in the cell, or a greater one.
    Cell(AccessRole),
}

impl Rule {
    /// Lets a caller in, or says what is missing.
    pub(super) fn allows(self, caller: &Caller) -> Result<(), Denied> {
        let (has, needed, place) = match self {
            Self::Anyone | Self::SignedIn => return Ok(()),
            Self::Process(_) => {
                let text = "only agents and controllers call this".to_owned();
                return Err(Denied::Forbidden(text));
            }
            Self::Project(needed) => (caller.project_role, needed, "the project"),
            Self::Cell(needed) => (caller.cell_role, needed, "the cell"),
        };
        if has.is_some_and(|has| has >= needed) {
            return Ok(());
        }
        let (needed, has) = (needed.word(), has.map_or("none", AccessRole::word));
        let text = format!("this needs role `{needed}` in {place}; your role there: {has}");
        Err(Denied::Forbidden(text))
    }

    /// Of a path as `/nube.v1.ImageService/GetImage`.
    #[must_use]
    pub fn of(path: &str) -> Option<Self> {
        let row = RULES.binary_search_by(|(row, _)| (*row).cmp(path));
        row.ok().map(|row| RULES[row].1)
    }
}

const READ: Rule = Rule::Project(AccessRole::Viewer);
const WRITE: Rule = Rule::Project(AccessRole::Member);
const RUN: Rule = Rule::Cell(AccessRole::Operator);
const OWN: Rule = Rule::Cell(AccessRole::Admin);
const AGENT: Rule = Rule::Process(&[Role::Agent]);
const CONTROLLER: Rule = Rule::Process(&[Role::Controller]);
const RENEWS: Rule = Rule::Process(&[Role::Agent, Role::Controller]);

/// Every method, in order of its path.
pub const RULES: &[(&str, Rule)] = &[
    ("/grpc.health.v1.Health/Check", Rule::Anyone),
    ("/grpc.health.v1.Health/List", Rule::Anyone),
    ("/grpc.health.v1.Health/Watch", Rule::Anyone),
    (
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        RUN,
    ),
    ("/nube.agent.v1.AgentService/Attach", AGENT),
    ("/nube.agent.v1.AgentService/FetchBlob", AGENT),
    ("/nube.agent.v1.AgentService/Session", AGENT),
    ("/nube.peer.v1.PeerService/InstallSnapshot", CONTROLLER),
    ("/nube.peer.v1.PeerService/Messages", CONTROLLER),
    ("/nube.peer.v1.PeerService/Propose", CONTROLLER),
    ("/nube.peer.v1.PeerService/ReadClock", CONTROLLER),
    ("/nube.v1.AccessKeyService/CreateAccessKey", Rule::SignedIn),
    ("/nube.v1.AccessKeyService/DeleteAccessKey", Rule::SignedIn),
    ("/nube.v1.AccessKeyService/ListAccessKeys", Rule::SignedIn),
    ("/nube.v1.AccessKeyService/WhoAmI", Rule::SignedIn),
    ("/nube.v1.AddressService/AddAddressPool", RUN),
    ("/nube.v1.AddressService/AllocateAddress", WRITE),
    ("/nube.v1.AddressService/AssociateAddress", WRITE),
    ("/nube.v1.AddressService/DisassociateAddress", WRITE),
    ("/nube.v1.AddressService/GetAddress", READ),
    ("/nube.v1.AddressService/ListAddressPools", RUN),
    ("/nube.v1.AddressService/ListAddresses", READ),
    ("/nube.v1.AddressService/ReleaseAddress", WRITE),
    ("/nube.v1.AddressService/RemoveAddressPool", RUN),
    ("/nube.v1.BillingService/ExplainBillLine", READ),
    ("/nube.v1.BillingService/GetBill", READ),
    ("/nube.v1.BillingService/ListUsage", READ),
    ("/nube.v1.BillingService/VerifyBill", READ),
    ("/nube.v1.ClusterService/BackupCluster", OWN),
    ("/nube.v1.ClusterService/CreateJoinToken", OWN),
    ("/nube.v1.ClusterService/GetCluster", RUN),
    ("/nube.v1.ClusterService/PromoteMember", OWN),
    ("/nube.v1.ClusterService/RemoveMember", OWN),
    ("/nube.v1.ClusterService/TransferLeadership", RUN),
    ("/nube.v1.EventService/ListEvents", READ),
    ("/nube.v1.ImageService/DeleteImage", WRITE),
    ("/nube.v1.ImageService/GetImage", READ),
    ("/nube.v1.ImageService/ListImages", READ),
    ("/nube.v1.ImageService/RegisterImage", WRITE),
    ("/nube.v1.ImageService/UploadBlob", WRITE),
    ("/nube.v1.InstanceService/DeleteInstance", WRITE),
    ("/nube.v1.InstanceService/ExplainInstance", READ),
    ("/nube.v1.InstanceService/GetInstance", READ),
    ("/nube.v1.InstanceService/LaunchInstances", WRITE),
    ("/nube.v1.InstanceService/ListInstances", READ),
    ("/nube.v1.InstanceService/OpenConsole", WRITE),
    ("/nube.v1.InstanceService/OpenTunnel", WRITE),
    ("/nube.v1.InstanceService/PreviewLaunch", READ),
    ("/nube.v1.InstanceService/ReadSerialLog", READ),
    ("/nube.v1.InstanceService/RebootInstance", WRITE),
    ("/nube.v1.InstanceService/StartInstance", WRITE),
    ("/nube.v1.InstanceService/StopInstance", WRITE),
    ("/nube.v1.InstanceService/WatchInstance", READ),
    ("/nube.v1.InstanceTypeService/ListInstanceTypes", READ),
    ("/nube.v1.JoinService/Join", Rule::Anyone),
    ("/nube.v1.JoinService/RenewCertificate", RENEWS),
    ("/nube.v1.LoadBalancerService/CreateLoadBalancer", WRITE),
    ("/nube.v1.LoadBalancerService/DeleteLoadBalancer", WRITE),
    ("/nube.v1.LoadBalancerService/GetLoadBalancer", READ),
    ("/nube.v1.LoadBalancerService/ListLoadBalancers", READ),
    ("/nube.v1.LoadBalancerService/SetTargetDraining", WRITE),
    ("/nube.v1.NetworkService/CreateNetwork", WRITE),
    ("/nube.v1.NetworkService/DeleteNetwork", WRITE),
    ("/nube.v1.NetworkService/ExplainPath", READ),
    ("/nube.v1.NetworkService/GetNetwork", READ),
    ("/nube.v1.NetworkService/GetNetworkMap", READ),
    ("/nube.v1.NetworkService/ListNetworks", READ),
    ("/nube.v1.NetworkService/SetInternetGateway", WRITE),
    ("/nube.v1.NodeService/DrainNode", RUN),
    ("/nube.v1.NodeService/GetNode", RUN),
    ("/nube.v1.NodeService/ListNodes", RUN),
    ("/nube.v1.NodeService/SetNodeLabels", RUN),
    ("/nube.v1.NodeService/UncordonNode", RUN),
    ("/nube.v1.PrincipalService/CreatePrincipal", OWN),
    ("/nube.v1.PrincipalService/DeletePrincipal", OWN),
    ("/nube.v1.PrincipalService/GetPrincipal", Rule::SignedIn),
    ("/nube.v1.PrincipalService/ListPrincipals", Rule::SignedIn),
    (
        "/nube.v1.PrincipalService/SetRole",
        Rule::Project(AccessRole::Admin),
    ),
    ("/nube.v1.ProjectService/CreateProject", OWN),
    ("/nube.v1.ProjectService/DeleteProject", OWN),
    ("/nube.v1.ProjectService/GetProject", READ),
    ("/nube.v1.ProjectService/ListProjects", READ),
    ("/nube.v1.ProjectService/SetProjectQuota", OWN),
    ("/nube.v1.SecurityGroupService/AddSecurityRule", WRITE),
    ("/nube.v1.SecurityGroupService/CreateSecurityGroup", WRITE),
    ("/nube.v1.SecurityGroupService/DeleteSecurityGroup", WRITE),
    ("/nube.v1.SecurityGroupService/GetSecurityGroup", READ),
    ("/nube.v1.SecurityGroupService/ListSecurityGroups", READ),
    ("/nube.v1.SecurityGroupService/RemoveSecurityRule", WRITE),
    (
        "/nube.v1.SecurityGroupService/SetInstanceSecurityGroups",
        WRITE,
    ),
    ("/nube.v1.SshKeyService/DeleteSshKey", WRITE),
    ("/nube.v1.SshKeyService/GenerateSshKey", WRITE),
    ("/nube.v1.SshKeyService/GetSshKey", READ),
    ("/nube.v1.SshKeyService/ImportSshKey", WRITE),
    ("/nube.v1.SshKeyService/ListSshKeys", READ),
    ("/nube.v1.SubnetService/CreateSubnet", WRITE),
    ("/nube.v1.SubnetService/DeleteSubnet", WRITE),
    ("/nube.v1.SubnetService/GetSubnet", READ),
    ("/nube.v1.SubnetService/ListSubnets", READ),
    ("/nube.v1.WatchService/Watch", READ),
];
