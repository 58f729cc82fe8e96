//! Words that every room shares: ids, names, amounts, times and limits.
//!
//! Nothing here knows a wire format, a clock or a source of randomness: values
//! come in from outside, are checked once, and stay valid by construction.

#![forbid(unsafe_code)]

pub mod amount;
pub mod id;
pub mod label;
pub mod limits;
pub mod name;
pub mod net;
pub mod time;

pub use amount::{Mib, Nanos};
pub use id::{
    AccessKeyId, AddressId, ImageId, InstanceId, LoadBalancerId, NetworkId, NodeId, ParseIdError,
    PlacementEpoch, PrincipalId, ProjectId, RequestId, SecurityGroupId, SecurityRuleId, SshKeyId,
    SubnetId,
};
pub use label::Labels;
pub use name::{InvalidName, Name};
pub use time::TimestampMs;
