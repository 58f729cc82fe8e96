//! Every message of the contract, and the functions that take them from outside.

use std::fmt::Debug;

use nube_proto::agent::v1 as agent;
use nube_proto::peer::v1 as peer;
use nube_proto::v1;
use prost::{Message, Name};

/// Decodes as one message type; what was read is written and read again.
fn round_trip<M: Message + Name + Default + PartialEq + Debug>(bytes: &[u8]) {
    if let Ok(message) = M::decode(bytes) {
        let again = M::decode(message.encode_to_vec().as_slice());
        assert_eq!(again.as_ref(), Ok(&message), "{}", M::full_name());
    }
}

macro_rules! messages {
    ($($message:ty),+ $(,)?) => {
        /// Every message type by full name. A test compares this with the contract.
        pub const MESSAGES: &[(fn() -> String, crate::Target)] =
            &[$((<$message as Name>::full_name, round_trip::<$message>)),+];
    };
}

messages! {
    v1::AccessKey, v1::CreateAccessKeyRequest, v1::CreateAccessKeyResponse,
    v1::ListAccessKeysRequest, v1::ListAccessKeysResponse, v1::DeleteAccessKeyRequest,
    v1::DeleteAccessKeyResponse, v1::WhoAmIRequest, v1::WhoAmIResponse, v1::Member,
    v1::Cluster, v1::GetClusterRequest, v1::TransferLeadershipRequest,
    v1::TransferLeadershipResponse, v1::CreateJoinTokenRequest, v1::CreateJoinTokenResponse,
    v1::ChangeMemberRequest, v1::RemoveMemberResponse, v1::BackupClusterRequest,
    v1::BackupChunk, v1::BackupHeader, v1::Event, v1::ListEventsRequest,
    v1::ListEventsResponse, v1::Blob, v1::Image, v1::UploadBlobRequest,
    v1::UploadBlobResponse, v1::RegisterImageRequest, v1::GetImageRequest,
    v1::ListImagesRequest, v1::ListImagesResponse, v1::DeleteImageRequest,
    v1::DeleteImageResponse, v1::Instance, v1::LaunchInstancesRequest, v1::LaunchPreview,
    v1::QuotaLeft, v1::PlacementExplanation, v1::HostVerdict, v1::LaunchInstancesResponse,
    v1::GetInstanceRequest, v1::ListInstancesRequest, v1::ListInstancesResponse,
    v1::ChangeInstanceRequest, v1::ReadSerialLogRequest, v1::ConsoleRequest,
    v1::ConsoleOpen, v1::ConsoleResponse, v1::ConsoleOpened, v1::SerialLogChunk,
    v1::TunnelRequest, v1::TunnelOpen, v1::TunnelResponse, v1::TunnelOpened,
    v1::InstanceType, v1::ListInstanceTypesRequest, v1::ListInstanceTypesResponse,
    v1::JoinRequest, v1::JoinResponse, v1::JoinedMember, v1::RenewCertificateRequest,
    v1::RenewCertificateResponse, v1::Node, v1::GetNodeRequest, v1::ListNodesRequest,
    v1::ListNodesResponse, v1::ChangeNodeRequest, v1::SetNodeLabelsRequest, v1::RoleBinding,
    v1::Principal, v1::CreatePrincipalRequest, v1::GetPrincipalRequest,
    v1::ListPrincipalsRequest, v1::ListPrincipalsResponse, v1::SetRoleRequest,
    v1::DeletePrincipalRequest, v1::DeletePrincipalResponse, v1::Quota, v1::Project,
    v1::CreateProjectRequest, v1::GetProjectRequest, v1::ListProjectsRequest,
    v1::ListProjectsResponse, v1::SetProjectQuotaRequest, v1::DeleteProjectRequest,
    v1::DeleteProjectResponse, v1::SshKey, v1::ImportSshKeyRequest,
    v1::GenerateSshKeyRequest, v1::GenerateSshKeyResponse, v1::GetSshKeyRequest,
    v1::ListSshKeysRequest, v1::ListSshKeysResponse, v1::DeleteSshKeyRequest,
    v1::DeleteSshKeyResponse, v1::UsageInterval, v1::BillLine, v1::Bill, v1::GetBillRequest,
    v1::ExplainBillLineRequest, v1::BillLinePart, v1::BillLineExplanation,
    v1::VerifyBillRequest, v1::BillVerification, v1::ListUsageRequest,
    v1::ListUsageResponse, v1::WatchRequest, v1::WatchResponse, v1::Change,
    v1::AddAddressPoolRequest, v1::AddSecurityRuleRequest, v1::Address, v1::AddressPool,
    v1::AllocateAddressRequest, v1::AssociateAddressRequest, v1::CreateLoadBalancerRequest,
    v1::CreateNetworkRequest, v1::CreateSecurityGroupRequest, v1::CreateSubnetRequest,
    v1::DeleteLoadBalancerRequest, v1::DeleteLoadBalancerResponse, v1::DeleteNetworkRequest,
    v1::DeleteNetworkResponse, v1::DeleteSecurityGroupRequest,
    v1::DeleteSecurityGroupResponse, v1::DeleteSubnetRequest, v1::DeleteSubnetResponse,
    v1::DisassociateAddressRequest, v1::ExplainPathRequest, v1::GetAddressRequest,
    v1::GetLoadBalancerRequest, v1::GetNetworkMapRequest, v1::GetNetworkRequest,
    v1::GetSecurityGroupRequest, v1::GetSubnetRequest, v1::HealthCheck,
    v1::ListAddressPoolsRequest, v1::ListAddressPoolsResponse, v1::ListAddressesRequest,
    v1::ListAddressesResponse, v1::ListLoadBalancersRequest, v1::ListLoadBalancersResponse,
    v1::ListNetworksRequest, v1::ListNetworksResponse, v1::ListSecurityGroupsRequest,
    v1::ListSecurityGroupsResponse, v1::ListSubnetsRequest, v1::ListSubnetsResponse,
    v1::Listener, v1::LoadBalancer, v1::MappedLoadBalancer, v1::MappedNetwork,
    v1::MappedPort, v1::Network, v1::NetworkMap, v1::PathExplanation, v1::PathStep,
    v1::ReleaseAddressRequest, v1::ReleaseAddressResponse, v1::RemoveAddressPoolRequest,
    v1::RemoveAddressPoolResponse, v1::RemoveSecurityRuleRequest, v1::SecurityGroup,
    v1::SecurityRule, v1::SetInstanceSecurityGroupsRequest, v1::SetInternetGatewayRequest,
    v1::SetTargetDrainingRequest, v1::Subnet, v1::Target,
    agent::AgentMessage, agent::ControllerMessage, agent::Hello, agent::Heartbeat,
    agent::HeartbeatAck, agent::DesiredListener, agent::DesiredLoadBalancer,
    agent::DesiredNetwork, agent::DesiredNetworks, agent::DesiredSecurityGroup,
    agent::DesiredSecurityRule, agent::DesiredSubnet, agent::DesiredTarget,
    agent::ElasticAddress, agent::HealthReport, agent::InstanceTraffic, agent::NetworkPort,
    agent::TargetHealth, agent::TrafficReport, agent::LeaseGrant, agent::Leadership,
    agent::Desired,
    agent::DesiredInstance, agent::InstanceSpec, agent::Port, agent::Report,
    agent::ReportAck, agent::ObservedInstance, agent::OpenStream, agent::TunnelTarget,
    agent::SerialLogTarget, agent::ConsoleTarget, agent::StreamUp, agent::StreamOpened,
    agent::StreamClosed, agent::StreamDown, agent::FetchBlobRequest, agent::BlobChunk,
    peer::PeerMessages, peer::PeerMessagesEnd, peer::SnapshotChunk,
    peer::InstallSnapshotResponse, peer::ProposeRequest, peer::ProposeResponse,
    peer::ReadClockRequest, peer::ReadClockResponse,
}

/// The first byte says which type, and the rest is the message; then the functions
/// that take what agents and peers say.
pub fn message(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else {
        return;
    };
    let chosen = usize::from(*first) % MESSAGES.len();
    MESSAGES[chosen].1(rest);
    convert(rest);
}

fn convert(bytes: &[u8]) {
    use nube_controller::agents::facts;
    use nube_types::NodeId;
    if let Ok(hello) = agent::Hello::decode(bytes) {
        let node = hello.node_id.parse().unwrap_or(NodeId(1));
        if let Ok(facts) = facts::node(node, &hello) {
            assert_eq!(facts.id, node);
            let said = [
                &facts.boot_id,
                &facts.kernel_version,
                &facts.accelerator_reason,
            ];
            assert!(!said.iter().any(|text| text.chars().any(char::is_control)));
        }
    }
    if let Ok(report) = agent::Report::decode(bytes)
        && let Ok(command) = facts::report(NodeId(1), &report)
    {
        assert!(command.observed.len() <= report.instances.len());
    }
    if let Ok(desired) = agent::Desired::decode(bytes) {
        for wish in desired.instances {
            let _ = nube_agent::convert::wish(wish);
        }
    }
    if let Ok(labels) = v1::SetNodeLabelsRequest::decode(bytes) {
        let _ = nube_controller::api::field::labels("labels", &labels.labels);
    }
    if let Ok(frame) = peer::PeerMessages::decode(bytes) {
        nube_consensus::probe::peer_bytes(&frame.hello);
        for message in frame.messages {
            nube_consensus::probe::peer_bytes(&message);
        }
    }
}

/// A backup's container.
pub fn backup(bytes: &[u8]) {
    if let Ok((header, data)) = nube_proto::backup::read(bytes) {
        assert_eq!(header.size_bytes, data.len() as u64);
        crate::log::snapshot(&data);
    }
}
