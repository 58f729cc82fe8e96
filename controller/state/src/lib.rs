//! The replicated state machine: what the cloud knows, and the only code that
//! changes it.
//!
//! Reading order: `command` (what may be asked), `outcome` (what is answered),
//! `state` (what is kept), `apply` (the one way in), then one file per noun.
//!
//! ```text
//!  Envelope{request, at, command} ──► apply ──► noun::… ──► Table::put/remove
//!                                       │                        │
//!                                    Outcome                 Change (for the store)
//! ```
//!
//! Laws: no clock, randomness, float, hash map, thread or I/O; ids, time and
//! entropy come in with the command. Anything a client can influence ends in a
//! [`Refusal`]; a broken invariant panics, because a diverged replica is worse
//! than a dead one. Called by `controller::machine` only.

#![forbid(unsafe_code)]

pub mod access_key;
pub mod address;
pub mod apply;
pub mod codec;
pub mod command;
pub mod event;
pub mod eviction;
pub mod hash_check;
pub mod image;
pub mod instance;
pub mod instance_type;
pub mod invariant;
pub mod join_token;
pub mod load_balancer;
pub mod member;
pub mod network;
pub mod node;
pub mod outcome;
pub mod placement;
pub mod principal;
pub mod project;
pub mod request;
pub mod security_group;
pub mod ssh_key;
pub mod state;
pub mod subnet;
pub mod table;
pub mod traffic;
pub mod usage;
pub mod watched;

pub use access_key::AccessKey;
pub use address::{Address, AddressPool, AddressTarget};
pub use apply::apply;
pub use codec::{CodecError, FORMAT};
pub use command::{Command, Envelope, Request};
pub use event::Event;
pub use eviction::Eviction;
pub use image::{Blob, Datasource, DiskFormat, Image};
pub use instance::{DesiredState, HostFailurePolicy, Instance, InstanceStage, InstanceState};
pub use instance_type::InstanceType;
pub use join_token::{JoinRole, JoinToken, Joined};
pub use load_balancer::{LoadBalancer, TargetHealth};
pub use member::Member;
pub use network::Network;
pub use node::{Accelerator, Isolation, Node, NodeFacts};
pub use outcome::{Kind, Outcome, Refusal};
pub use placement::{Explanation, HostNeeds, HostVerdict, Placement};
pub use principal::{AccessRole, Principal, PrincipalKind, RoleBinding};
pub use project::{Project, Quota};
pub use security_group::{SecurityGroup, SecurityRule};
pub use ssh_key::SshKey;
pub use state::{Cluster, State};
pub use subnet::Subnet;
pub use table::{Change, Table};
pub use traffic::{TrafficCounter, TrafficUsage};
pub use watched::Watched;
