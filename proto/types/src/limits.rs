//! Every limit in one place. Each line says what breaks when it is larger.

/// Names are host names (RFC 1123): resolvers refuse longer labels.
pub const NAME_BYTES_MAX: usize = 63;
/// Labels ride in every list answer.
pub const LABELS_MAX: usize = 32;
/// Longer keys do not fit a table column.
pub const LABEL_KEY_BYTES_MAX: usize = 63;
/// Labels are notes, not storage.
pub const LABEL_VALUE_BYTES_MAX: usize = 255;
/// EC2's limit; user-data rides in the log entry that creates the instance.
pub const USER_DATA_BYTES_MAX: usize = 16 * 1024;
/// Above RSA-16384 in OpenSSH form; a larger text is no public key.
pub const SSH_PUBLIC_KEY_BYTES_MAX: usize = 16 * 1024;
/// RFC 8270, NIST SP 800-57: shorter RSA keys are broken.
pub const SSH_RSA_BITS_MIN: u32 = 2048;
/// Longer comments do not help people; they ride in every list.
pub const SSH_KEY_COMMENT_BYTES_MAX: usize = 255;
/// Keys per project: uniqueness of fingerprints is checked by a scan.
pub const SSH_KEYS_PER_PROJECT_MAX: usize = 1_000;
/// authorized_keys must fit the firmware's configuration blob.
pub const SSH_KEYS_PER_INSTANCE_MAX: usize = 16;
/// One log entry creates them all or none.
pub const INSTANCES_PER_LAUNCH_MAX: u32 = 100;
/// The memory that records take bounds one cell.
pub const INSTANCES_MAX: usize = 1_000_000;
/// One cell's agents: sessions and placement scans stay small.
pub const NODES_MAX: usize = 10_000;
/// Projects per cell; names are looked up on every call.
pub const PROJECTS_MAX: usize = 10_000;
/// People and programs per cell; names are found by a scan.
pub const PRINCIPALS_MAX: usize = 10_000;
/// Roles ride in every answer about a principal.
pub const ROLES_PER_PRINCIPAL_MAX: usize = 64;
/// Keys are counted by a scan.
pub const ACCESS_KEYS_PER_PRINCIPAL_MAX: usize = 100;
/// EC2 has no end for keys; a year is where people forget them.
pub const ACCESS_KEY_TTL_SECONDS_MAX: u64 = 365 * 24 * 3600;
/// Shorter keys end before anybody used them.
pub const ACCESS_KEY_TTL_SECONDS_MIN: u64 = 60;
/// Events stay in memory; the oldest make room.
pub const EVENTS_MAX: usize = 100_000;
/// Hosts kept in the explanation of each instance; each costs some hundred bytes.
pub const VERDICTS_KEPT_MAX: usize = 8;
/// Hosts in the answer to a preview: what fits a terminal.
pub const VERDICTS_SHOWN_MAX: usize = 20;
/// Image records per cell.
pub const IMAGES_MAX: usize = 10_000;
/// One page of a list answer stays below the 4 MiB message limit.
pub const PAGE_SIZE_MAX: u32 = 1_000;
/// The page when a client names none.
pub const PAGE_SIZE_DEFAULT: u32 = 200;
/// tonic's default; larger messages are refused before they are read.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Chunks of images, snapshots and tunnels.
pub const CHUNK_BYTES: usize = 256 * 1024;
/// An image file as a whole.
pub const IMAGE_FILE_BYTES_MAX: u64 = 64 * 1024 * 1024 * 1024;
/// A kernel command line beyond this is cut by the kernel itself.
pub const CMDLINE_BYTES_MAX: usize = 1024;
/// Answers remembered for repeated request ids; older ones are forgotten.
pub const REQUESTS_REMEMBERED_MAX: usize = 200_000;
/// A client that repeats after a day has given up long ago.
pub const REQUEST_REMEMBERED_MS: u64 = 24 * 3600 * 1000;
/// Deleted instances stay visible this long.
pub const DELETED_KEPT_MS: u64 = 3600 * 1000;
/// An address is not handed out again before caches and leases forget it.
pub const ADDRESS_QUARANTINE_MS: u64 = 60 * 1000;
/// Networks of one project: each is a namespace, a device and rules on its hosts.
pub const NETWORKS_PER_PROJECT_MAX: usize = 100;
/// Ranges of one network: each adds a gateway and routes on every host.
pub const SUBNETS_PER_NETWORK_MAX: usize = 16;
/// Shorter prefixes would make a search for a free address long.
pub const SUBNET_PREFIX_LENGTH_MIN: u8 = 16;
/// Longer ones have no room beside the addresses that the cloud keeps (AWS).
pub const SUBNET_PREFIX_LENGTH_MAX: u8 = 28;
/// Ports of one network: every host of the network is told all of them.
pub const PORTS_PER_NETWORK_MAX: usize = 16_384;
/// Groups of one project.
pub const SECURITY_GROUPS_PER_PROJECT_MAX: usize = 500;
/// Rules of one group, both directions: each packet of a new flow passes them.
pub const RULES_PER_SECURITY_GROUP_MAX: usize = 120;
/// Groups of one instance (AWS: 5).
pub const SECURITY_GROUPS_PER_INSTANCE_MAX: usize = 5;
/// Ranges of public addresses of one cell.
pub const ADDRESS_POOLS_MAX: usize = 100;
/// Load balancers of one project.
pub const LOAD_BALANCERS_PER_PROJECT_MAX: usize = 100;
/// Listeners of one load balancer.
pub const LISTENERS_PER_LOAD_BALANCER_MAX: usize = 10;
/// Targets of one load balancer: all of them stand in one map of the packet filter.
pub const TARGETS_PER_LOAD_BALANCER_MAX: usize = 256;
/// How often a host reports what its guests sent and received.
pub const TRAFFIC_REPORT_MS: u64 = 60 * 1000;
/// How often the leader proposes a tick: the bill is exact to this.
pub const TICK_MS: u64 = 1_000;
/// How often proven node liveness is committed.
pub const NODE_SEEN_COMMIT_MS: u64 = 30 * 1000;
/// An agent proves itself this often on its session.
pub const HEARTBEAT_MS: u64 = 1_000;
/// Silence after which the leader calls a node unreachable.
pub const NODE_UNREACHABLE_MS: u64 = 10 * 1000;
/// Serial output kept per guest.
pub const SERIAL_RING_BYTES: u64 = 1024 * 1024;
/// Error texts in records are for people: one paragraph.
pub const REASON_BYTES_MAX: usize = 500;
/// Watch streams open at once on one controller: each is woken at each commit.
pub const WATCHERS_MAX: u32 = 10_000;
/// Voters and learners of one cell: each more makes commits slower.
pub const MEMBERS_MAX: usize = 9;
/// Tombstones of removed controllers that are kept by name.
pub const MEMBERS_REMOVED_KEPT: usize = 100;
/// A DNS name, a colon and a port.
pub const ADDRESS_BYTES_MAX: usize = 261;
/// A join token is a key to the cell: it is void soon, used or not.
pub const JOIN_TOKEN_LIFE_MS: u64 = 10 * 60 * 1000;
/// Unexpired join tokens: they are scanned at each tick.
pub const JOIN_TOKENS_MAX: usize = 1_000;
/// Tunnels open at once through one controller.
pub const TUNNELS_MAX: usize = 1_000;

/// Replicas compare their state hashes once in so many entries: a replica that went
/// astray serves its mistakes for no longer. More often: more entries that say nothing.
pub const STATE_HASH_EVERY_ENTRIES: u64 = 1_000;

/// How long an instance may stay in a transitional state before the control
/// plane says what is wrong (replicated time). Each has an exit: `failed`.
pub const STARTING_DEADLINE_MS: u64 = 10 * 60 * 1000;
/// A guest that ignores the power button is cut off after this.
pub const STOP_GRACE_MS: u64 = 30 * 1000;
/// Stopping includes the grace period above.
pub const STOPPING_DEADLINE_MS: u64 = 2 * 60 * 1000;

/// Permission to run a guest that may be replaced, from the sending of the
/// heartbeat that asked. Larger: a lost host's guests come back later. Smaller: a
/// change of leader takes guests down.
pub const LEASE_MS: u64 = 15_000;
/// The host kills its guests this long before the lease ends. Smaller: a slow
/// kill outlives the lease.
pub const LEASE_STOP_MARGIN_MS: u64 = 3_000;
/// How far two monotonic clocks may drift apart. Larger: failover takes longer.
pub const LEASE_DRIFT_PERCENT: u64 = 1;
/// Rounding and scheduling of both sides. Larger: failover takes longer.
pub const LEASE_SLACK_MS: u64 = 1_000;
/// From the last grant on until the leader may take the lease for over.
pub const LEASE_WAIT_MS: u64 = LEASE_MS * (100 + LEASE_DRIFT_PERCENT) / 100 + LEASE_SLACK_MS;
