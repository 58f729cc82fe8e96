//! Compiles the contract with protox: a pure-Rust compiler, so that no machine
//! needs protoc for our own protocol. The descriptor set is kept for gRPC
//! reflection and for proto3 JSON.

use std::path::PathBuf;

use prost::Message;

const FILES: &[&str] = &[
    "nube/v1/access_key.proto",
    "nube/v1/address.proto",
    "nube/v1/cluster.proto",
    "nube/v1/event.proto",
    "nube/v1/image.proto",
    "nube/v1/instance.proto",
    "nube/v1/instance_type.proto",
    "nube/v1/join.proto",
    "nube/v1/load_balancer.proto",
    "nube/v1/network.proto",
    "nube/v1/node.proto",
    "nube/v1/principal.proto",
    "nube/v1/project.proto",
    "nube/v1/security_group.proto",
    "nube/v1/ssh_key.proto",
    "nube/v1/subnet.proto",
    "nube/v1/usage.proto",
    "nube/v1/watch.proto",
    "nube/agent/v1/agent.proto",
    "nube/peer/v1/peer.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}
