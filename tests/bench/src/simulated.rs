//! A cloud whose hosts are large and whose guests exist in memory only: the
//! control plane does all its work, and agents all theirs but the machines.

use std::fs;
use std::path::Path;

use nube_harness::{Cloud, Size, eventually};

use crate::launch::LIMIT;

/// Room on each host: no launch of a measurement is refused for it.
const ROOM: [(&str, u64); 3] = [
    ("vcpus", 65_536),
    ("memory_mib", 1_000_000_000),
    ("disk_mib", 10_000_000_000),
];

/// Three controllers, `nodes` simulated hosts, the micro image, one key.
pub fn up(nodes: u32) -> anyhow::Result<Cloud> {
    let cloud = Cloud::up(Size {
        controllers: 3,
        nodes,
    })?;
    for node in (1..=nodes).map(|n| format!("node-{n}")) {
        cloud.process(&node)?.kill()?;
        simulate(&cloud.dir().join(&node).join("agent.toml"))?;
    }
    cloud.start()?;
    eventually("every host is a large one", LIMIT, || {
        let list = cloud.json(&["node", "list"])?;
        let large = |node: &serde_json::Value| {
            node["vcpus_total"].as_u64() == Some(ROOM[0].1) && node["state"] == "NODE_STATE_READY"
        };
        let all = list["nodes"].as_array().map_or(&[][..], Vec::as_slice);
        anyhow::ensure!(
            all.len() == nodes as usize && all.iter().all(large),
            "{list}"
        );
        Ok(())
    })?;
    Ok(cloud)
}

fn simulate(file: &Path) -> anyhow::Result<()> {
    let mut config: toml::Table = fs::read_to_string(file)?.parse()?;
    config.insert("driver".to_owned(), "simulated".into());
    for (key, value) in ROOM {
        config.insert(key.to_owned(), i64::try_from(value)?.into());
    }
    Ok(fs::write(file, toml::to_string(&config)?)?)
}
