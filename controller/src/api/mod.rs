//! What tenants and operators call: one file per noun. A handler checks fields,
//! resolves names on a linearizable view, proposes one command and shows the
//! result. It decides nothing that `apply` would not check again.

pub mod access_key;
pub mod address;
pub mod backup;
pub mod billing;
pub mod cluster;
pub mod convert;
pub mod event;
pub mod field;
pub mod image;
pub mod instance;
pub mod instance_type;
pub mod join;
pub mod launch;
pub mod load_balancer;
pub mod mutation;
pub mod network;
pub mod node;
pub mod page;
pub mod path;
pub mod placement;
pub mod preview;
pub mod principal;
pub mod project;
pub mod resolve;
pub mod security_group;
pub mod serial;
pub mod ssh_key;
pub mod status;
pub mod stream;
pub mod subnet;
pub mod watch;
