//! The graph of packages, from `cargo metadata`. Offline and for this machine's
//! platform: other platforms' crates need not be downloaded. Reads only; the
//! rules over the graph are in `layering`, `lock` and `licence`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::tree::root;

/// One package of the graph.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Package {
    /// Its name in its manifest.
    pub name: String,
    /// `major.minor.patch`, perhaps with a suffix.
    pub version: String,
    /// SPDX expression; `None` when the manifest has none.
    pub licence: Option<String>,
    /// A member of this workspace.
    pub own: bool,
    /// Features that are on.
    pub features: Vec<String>,
    /// Ids of what it needs to build and run.
    pub needs: Vec<String>,
    /// Ids of what its tests need in addition.
    pub needs_in_tests: Vec<String>,
}

/// Packages by id. An id is cargo's, and opaque.
pub type Packages = BTreeMap<String, Package>;

/// Asks cargo for the graph.
pub fn load() -> Result<Packages> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--format-version",
            "1",
            "--offline",
            "--filter-platform",
        ])
        .arg(platform()?)
        .current_dir(root())
        .output()
        .context("cargo metadata does not start")?;
    let problem = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo metadata failed: {problem}");
    parse(&String::from_utf8(output.stdout).context("cargo metadata is not UTF-8")?)
}

/// Names and versions of what is compiled when a member is built alone, from
/// `cargo tree`. The graph of `load` turns on every feature that any member asks
/// for; a pure room must not be blamed for a feature that another room wants.
pub fn built(member: &str) -> Result<BTreeSet<(String, String)>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "tree",
            "--offline",
            "--edges",
            "normal,build",
            "--prefix",
            "none",
        ])
        .args(["--package", member])
        .current_dir(root())
        .output()
        .context("cargo tree does not start")?;
    let problem = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "cargo tree failed for {member}: {problem}"
    );
    let text = String::from_utf8(output.stdout).context("cargo tree is not UTF-8")?;
    let found = parse_tree(&text);
    ensure!(!found.is_empty(), "cargo tree says nothing about {member}");
    Ok(found)
}

/// Reads lines like `rand v0.9.5 (*)`.
fn parse_tree(text: &str) -> BTreeSet<(String, String)> {
    let package = |line: &str| {
        let (name, rest) = line.split_once(" v")?;
        let version = rest.split(' ').next()?;
        Some((name.to_owned(), version.to_owned()))
    };
    text.lines().filter_map(package).collect()
}

fn platform() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .arg("-vV")
        .output()
        .context("rustc does not start")?;
    let text = String::from_utf8(output.stdout).context("rustc -vV is not UTF-8")?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc -vV names no host")
}

/// Reads the answer of `cargo metadata --format-version 1`.
pub fn parse(json: &str) -> Result<Packages> {
    let metadata: Value = serde_json::from_str(json).context("cargo metadata is not JSON")?;
    let own: BTreeSet<&str> = list(&metadata["workspace_members"])
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let mut packages = Packages::new();
    for package in list(&metadata["packages"]) {
        let id = text(&package["id"]);
        let found = Package {
            name: text(&package["name"]),
            version: text(&package["version"]),
            licence: package["license"].as_str().map(str::to_owned),
            own: own.contains(id.as_str()),
            ..Package::default()
        };
        packages.insert(id, found);
    }
    for node in list(&metadata["resolve"]["nodes"]) {
        let Some(package) = packages.get_mut(&text(&node["id"])) else {
            continue;
        };
        package.features = list(&node["features"]).iter().map(text).collect();
        for needed in list(&node["deps"]) {
            let kinds = list(&needed["dep_kinds"]);
            let for_tests = kinds.iter().all(|kind| kind["kind"] == "dev");
            let target = if for_tests {
                &mut package.needs_in_tests
            } else {
                &mut package.needs
            };
            target.push(text(&needed["pkg"]));
        }
    }
    ensure!(
        packages.values().any(|package| package.own),
        "cargo metadata names no members"
    );
    Ok(packages)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Everything a package needs to build and run, with the shortest way there:
/// names from the package itself to the needed one.
#[must_use]
pub fn reachable<'a>(packages: &'a Packages, from: &str) -> Vec<(&'a Package, Vec<&'a str>)> {
    let mut seen = BTreeSet::from([from.to_owned()]);
    let mut queue: VecDeque<(&Package, Vec<&str>)> = packages
        .get(from)
        .map(|package| (package, vec![package.name.as_str()]))
        .into_iter()
        .collect();
    let mut found = Vec::new();
    while let Some((package, way)) = queue.pop_front() {
        for id in &package.needs {
            let Some(next) = packages.get(id).filter(|_| seen.insert(id.clone())) else {
                continue;
            };
            let mut longer = way.clone();
            longer.push(&next.name);
            queue.push_back((next, longer));
        }
        found.push((package, way));
    }
    found.drain(1.min(found.len())..).collect()
}

#[cfg(test)]
pub(crate) mod test {
    use super::*;

    /// A graph from `name@version -> name, name` lines; ids are names, and names
    /// that begin with `nube-` are members.
    pub(crate) fn graph(lines: &[(&str, &[&str])]) -> Packages {
        let package = |(package, needs): &(&str, &[&str])| {
            let (name, version) = package.split_once('@').unwrap_or((package, "1.0.0"));
            let package = Package {
                name: name.to_owned(),
                version: version.to_owned(),
                licence: Some("MIT".to_owned()),
                own: name.starts_with("nube-"),
                needs: needs.iter().map(|need| (*need).to_owned()).collect(),
                ..Package::default()
            };
            (name.to_owned(), package)
        };
        lines.iter().map(package).collect()
    }

    #[test]
    fn metadata_is_read() {
        let json = r#"{
            "packages": [
                {"id": "a 1", "name": "a", "version": "1.0.0", "license": "MIT"},
                {"id": "b 2", "name": "b", "version": "2.0.0", "license": null},
                {"id": "c 3", "name": "c", "version": "3.0.0", "license": "ISC"}
            ],
            "workspace_members": ["a 1"],
            "resolve": {"nodes": [{
                "id": "a 1", "features": ["default"],
                "deps": [
                    {"pkg": "b 2", "dep_kinds": [{"kind": "dev"}, {"kind": "build"}]},
                    {"pkg": "c 3", "dep_kinds": [{"kind": "dev"}]}
                ]
            }]}
        }"#;
        let packages = parse(json).expect("well-formed");
        let a = &packages["a 1"];
        assert!(a.own && !packages["b 2"].own && packages["b 2"].licence.is_none());
        assert_eq!(
            (a.needs.as_slice(), a.needs_in_tests.as_slice()),
            (&["b 2".to_owned()][..], &["c 3".to_owned()][..])
        );
        assert!(parse("{}").is_err() && parse("").is_err());
    }

    #[test]
    fn a_tree_is_read() {
        let found = parse_tree("a v1.0.0 (/x/y)\nb v2.1.0-rc.1 (proc-macro)\n\na v1.0.0 (*)\n");
        let package = |name: &str, version: &str| (name.to_owned(), version.to_owned());
        assert_eq!(
            found,
            BTreeSet::from([package("a", "1.0.0"), package("b", "2.1.0-rc.1")])
        );
    }

    #[test]
    fn the_shortest_way_is_told() {
        let packages = graph(&[
            ("a", &["b", "c"]),
            ("b", &["d"]),
            ("c", &["d", "a"]),
            ("d", &[]),
        ]);
        let ways: Vec<_> = reachable(&packages, "a")
            .into_iter()
            .map(|(_, way)| way.join(">"))
            .collect();
        assert_eq!(ways, ["a>b", "a>c", "a>b>d"]);
    }
}
