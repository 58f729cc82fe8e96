//! Names of what exists, asked for quickly and given up on silently: for
//! completions, and for "did you mean".

use std::time::Duration;

use nube_proto::v1;
use nube_proto::v1::access_key_service_client::AccessKeyServiceClient as AccessKeys;
use nube_proto::v1::address_service_client::AddressServiceClient as Addresses;
use nube_proto::v1::image_service_client::ImageServiceClient as Images;
use nube_proto::v1::instance_service_client::InstanceServiceClient as Instances;
use nube_proto::v1::instance_type_service_client::InstanceTypeServiceClient as Types;
use nube_proto::v1::load_balancer_service_client::LoadBalancerServiceClient as LoadBalancers;
use nube_proto::v1::network_service_client::NetworkServiceClient as Networks;
use nube_proto::v1::node_service_client::NodeServiceClient as Nodes;
use nube_proto::v1::principal_service_client::PrincipalServiceClient as Principals;
use nube_proto::v1::project_service_client::ProjectServiceClient as Projects;
use nube_proto::v1::security_group_service_client::SecurityGroupServiceClient as SecurityGroups;
use nube_proto::v1::ssh_key_service_client::SshKeyServiceClient as SshKeys;
use nube_proto::v1::subnet_service_client::SubnetServiceClient as Subnets;

use crate::args::Global;
use crate::client::Client;
use crate::error::Result;

/// Longer and the shell feels stuck; nobody waits for a suggestion.
const PATIENCE: Duration = Duration::from_secs(1);
/// One page: nobody reads a longer list of candidates.
const NAMES_MAX: u32 = nube_types::limits::PAGE_SIZE_MAX;

/// What has names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Instance,
    Image,
    Type,
    SshKey,
    Node,
    Project,
    Principal,
    AccessKey,
    Network,
    Subnet,
    SecurityGroup,
    Address,
    LoadBalancer,
}

impl Kind {
    /// From the controllers' word for it, as `ssh_key` or `ssh key`.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word.replace(['_', '-'], " ").as_str() {
            "instance" => Self::Instance,
            "image" => Self::Image,
            "instance type" | "type" => Self::Type,
            "ssh key" | "key" => Self::SshKey,
            "node" | "host" => Self::Node,
            "project" => Self::Project,
            "principal" => Self::Principal,
            "access key" => Self::AccessKey,
            "network" => Self::Network,
            "subnet" => Self::Subnet,
            "security group" | "group" => Self::SecurityGroup,
            "address" => Self::Address,
            "load balancer" => Self::LoadBalancer,
            _ => return None,
        })
    }
}

/// The names of one kind, or nothing.
pub async fn of(global: &Global, kind: Kind) -> Vec<String> {
    let global = Global {
        timeout: Some(PATIENCE),
        // A project that does not exist must not hide those that do.
        project: global.project.clone().filter(|_| kind != Kind::Project),
        ..global.clone()
    };
    let Ok(client) = Client::open(&global) else {
        return Vec::new();
    };
    let names = tokio::time::timeout(PATIENCE, fetch(&client, kind)).await;
    names.ok().and_then(Result::ok).unwrap_or_default()
}

/// One page of one list; `$name` is the field that a person types.
macro_rules! first_page {
    ($client:expr, $service:ident, $method:ident, $request:ident, $list:ident, $name:ident) => {{
        let list = |link| async move {
            let request = v1::$request {
                page_size: NAMES_MAX,
                ..Default::default()
            };
            $service::new(link).$method(request).await
        };
        let answer = $client.call("list", list).await?;
        answer.$list.into_iter().map(|one| one.$name).collect()
    }};
}

async fn fetch(c: &Client, kind: Kind) -> Result<Vec<String>> {
    Ok(match kind {
        Kind::Instance => {
            first_page!(
                c,
                Instances,
                list_instances,
                ListInstancesRequest,
                instances,
                name
            )
        }
        Kind::Image => first_page!(c, Images, list_images, ListImagesRequest, images, name),
        Kind::SshKey => first_page!(
            c,
            SshKeys,
            list_ssh_keys,
            ListSshKeysRequest,
            ssh_keys,
            name
        ),
        Kind::Node => first_page!(c, Nodes, list_nodes, ListNodesRequest, nodes, name),
        Kind::Project => {
            first_page!(
                c,
                Projects,
                list_projects,
                ListProjectsRequest,
                projects,
                name
            )
        }
        Kind::Principal => {
            first_page!(
                c,
                Principals,
                list_principals,
                ListPrincipalsRequest,
                principals,
                name
            )
        }
        Kind::AccessKey => {
            first_page!(
                c,
                AccessKeys,
                list_access_keys,
                ListAccessKeysRequest,
                access_keys,
                id
            )
        }
        Kind::Network | Kind::Subnet | Kind::SecurityGroup | Kind::Address | Kind::LoadBalancer => {
            fetch_networking(c, kind).await?
        }
        Kind::Type => {
            let list = |link| async move {
                let request = v1::ListInstanceTypesRequest {};
                Types::new(link).list_instance_types(request).await
            };
            let types = c.call("list", list).await?.instance_types;
            types.into_iter().map(|one| one.name).collect()
        }
    })
}

async fn fetch_networking(c: &Client, kind: Kind) -> Result<Vec<String>> {
    Ok(match kind {
        Kind::Network => first_page!(
            c,
            Networks,
            list_networks,
            ListNetworksRequest,
            networks,
            name
        ),
        Kind::SecurityGroup => first_page!(
            c,
            SecurityGroups,
            list_security_groups,
            ListSecurityGroupsRequest,
            security_groups,
            name
        ),
        Kind::Address => first_page!(
            c,
            Addresses,
            list_addresses,
            ListAddressesRequest,
            addresses,
            name
        ),
        Kind::LoadBalancer => first_page!(
            c,
            LoadBalancers,
            list_load_balancers,
            ListLoadBalancersRequest,
            load_balancers,
            name
        ),
        _ => {
            let list = |link| async move {
                let request = v1::ListSubnetsRequest::default();
                Subnets::new(link).list_subnets(request).await
            };
            let subnets = c.call("list", list).await?.subnets;
            subnets.into_iter().map(|one| one.name).collect()
        }
    })
}

/// The name most like the one that was typed, if any is like it.
#[must_use]
pub fn nearest<'a>(typed: &str, names: &'a [String]) -> Option<&'a str> {
    // A third of the letters may be wrong, but never most of a short name.
    let mistakes_max = (typed.chars().count() / 3).clamp(1, 4);
    let distance = |name: &'a String| (strsim::damerau_levenshtein(typed, name), name.as_str());
    let near = names.iter().map(distance).min()?;
    (near.0 <= mistakes_max && near.1 != typed).then_some(near.1)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_typing_error_is_near_and_another_word_is_not() {
        let names = ["web", "web-1", "database", "mail"].map(str::to_owned);
        assert_eq!(nearest("wbe", &names), Some("web"));
        assert_eq!(nearest("datbase", &names), Some("database"));
        assert_eq!(nearest("cache", &names), None);
        assert_eq!(nearest("x", &names), None);
        assert_eq!(nearest("web", &[]), None);
    }

    #[test]
    fn kinds_are_known_by_the_controllers_words() {
        assert_eq!(Kind::from_word("ssh key"), Some(Kind::SshKey));
        assert_eq!(Kind::from_word("access_key"), Some(Kind::AccessKey));
        assert_eq!(Kind::from_word("bill line"), None);
    }
}
