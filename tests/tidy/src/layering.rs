//! Layering: which room may know which, and which crates must not reach it, not
//! even through others. The table is the design's (design.md, Rooms); a new
//! member of the workspace needs a row.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::finding::Finding;
use crate::packages::{Package, Packages, reachable};

/// One room's rules.
pub struct Room {
    /// Package name.
    pub package: &'static str,
    /// Members of the workspace it may depend on, tests included.
    pub may_know: &'static [&'static str],
    /// Crates that must not be reachable when it is built; `name@1` = only
    /// versions that begin so.
    pub must_not_reach: &'static [&'static str],
}

/// Everything that would let a pure room wait, listen, store, or draw lots.
const IMPURE: &[&str] = &[
    "tokio",
    "mio",
    "hyper",
    "tonic",
    "tower",
    "prost",
    "sled",
    "raft",
    "rand",
    "getrandom",
    "fastrand",
    "uuid",
    "chrono",
    "time",
    "jiff",
    "rustix",
    "nix",
    "libc",
    "ring",
    "rustls",
    "tracing",
    "async-std",
    "futures",
];
/// The store and the log belong to the controller alone.
const NO_REPLICA: &[&str] = &["raft", "sled", "nube-state", "nube-consensus"];

/// The rooms.
pub const ROOMS: &[Room] = &[
    Room {
        package: "nube-types",
        may_know: &[],
        must_not_reach: IMPURE,
    },
    Room {
        package: "nube-scheduler",
        may_know: &["nube-types"],
        must_not_reach: IMPURE,
    },
    Room {
        package: "nube-billing",
        may_know: &["nube-types"],
        must_not_reach: IMPURE,
    },
    Room {
        package: "nube-state",
        may_know: &["nube-types", "nube-billing"],
        must_not_reach: IMPURE,
    },
    Room {
        package: "nube-consensus",
        may_know: &["nube-failpoint"],
        // raft brings prost 0.11 and rand; ours must stay out.
        must_not_reach: &["tonic", "hyper", "sled", "prost@0.14", "rustls"],
    },
    Room {
        package: "nube-failpoint",
        may_know: &[],
        must_not_reach: IMPURE,
    },
    Room {
        package: "nube-telemetry",
        may_know: &[],
        must_not_reach: NO_REPLICA,
    },
    Room {
        package: "nube-proto",
        may_know: &["nube-types"],
        must_not_reach: NO_REPLICA,
    },
    Room {
        package: "nube-tls",
        may_know: &[],
        must_not_reach: NO_REPLICA,
    },
    Room {
        package: "nube-controller",
        may_know: &[
            "nube-types",
            "nube-proto",
            "nube-tls",
            "nube-scheduler",
            "nube-billing",
            "nube-state",
            "nube-consensus",
            "nube-telemetry",
            "nube-failpoint",
        ],
        must_not_reach: &[],
    },
    Room {
        package: "nube-agent",
        may_know: &[
            "nube-types",
            "nube-proto",
            "nube-telemetry",
            "nube-tls",
            "nube-failpoint",
        ],
        must_not_reach: NO_REPLICA,
    },
    Room {
        package: "nube-cli",
        may_know: &["nube-types", "nube-proto", "nube-tls"],
        must_not_reach: NO_REPLICA,
    },
    Room {
        package: "xtask",
        may_know: &[],
        must_not_reach: NO_REPLICA,
    },
    Room {
        package: "nube-harness",
        may_know: &["nube-types", "nube-proto"],
        must_not_reach: NO_REPLICA,
    },
    Room {
        // Measures clouds from outside, and the pure rooms in its own process.
        package: "nube-bench",
        may_know: &[
            "nube-types",
            "nube-proto",
            "nube-scheduler",
            "nube-state",
            "nube-harness",
        ],
        must_not_reach: &["raft", "sled", "nube-consensus"],
    },
    Room {
        package: "nube-cluster-tests",
        may_know: &[
            "nube-types",
            "nube-proto",
            "nube-tls",
            "nube-harness",
            "nube-history",
        ],
        must_not_reach: NO_REPLICA,
    },
    Room {
        package: "nube-e2e",
        may_know: &["nube-types", "nube-proto", "nube-harness"],
        must_not_reach: NO_REPLICA,
    },
    Room {
        // Drives the cores of every room directly, without their shells.
        package: "nube-sim",
        may_know: &[
            "nube-types",
            "nube-proto",
            "nube-scheduler",
            "nube-billing",
            "nube-state",
            "nube-consensus",
            "nube-agent",
            "nube-controller",
            "nube-history",
        ],
        must_not_reach: &[],
    },
    Room {
        // The judges: no I/O, and nothing of what they judge.
        package: "nube-history",
        may_know: &[],
        must_not_reach: IMPURE,
    },
    Room {
        // Feeds hostile bytes to every room that reads any.
        package: "nube-fuzz",
        may_know: &[
            "nube-types",
            "nube-proto",
            "nube-state",
            "nube-consensus",
            "nube-controller",
            "nube-agent",
            "nube-cli",
        ],
        must_not_reach: &[],
    },
    Room {
        // Explores protocols, with the pure pieces of both sides in them.
        package: "nube-model",
        may_know: &["nube-types", "nube-agent", "nube-controller"],
        must_not_reach: &[],
    },
    Room {
        package: "nube-tidy",
        may_know: &[],
        must_not_reach: IMPURE,
    },
];

/// Features that change what a crate is, each with its reason.
const FEATURES_BANNED: &[(&str, &str, &str)] = &[
    (
        "ssh-key",
        "rsa",
        "private RSA operations leak by timing (RUSTSEC-2023-0071)",
    ),
    (
        "raft",
        "protobuf-codec",
        "protobuf 2 would parse network input (RUSTSEC-2024-0437)",
    ),
    (
        "object_store",
        "aws",
        "object storage by network is a decision of its own",
    ),
];

/// Checks the whole graph. `built` tells what is compiled when a member is built
/// alone (`packages::built`); it is asked only about members under suspicion.
pub fn check(
    packages: &Packages,
    built: impl Fn(&str) -> Result<BTreeSet<(String, String)>>,
) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (id, package) in packages.iter().filter(|(_, package)| package.own) {
        match ROOMS.iter().find(|room| room.package == package.name) {
            Some(room) => {
                findings.extend(knows(packages, package, room));
                findings.extend(reaches(packages, id, room, &built)?);
            }
            None => {
                let advice = "give it a row in `ROOMS` of tests/tidy/src/layering.rs";
                findings.push(Finding::new(
                    &package.name,
                    0,
                    "layering",
                    "unknown room",
                    advice,
                ));
            }
        }
    }
    findings.extend(packages.values().flat_map(features));
    Ok(findings)
}

fn knows(packages: &Packages, package: &Package, room: &Room) -> Vec<Finding> {
    let needs = package.needs.iter().chain(&package.needs_in_tests);
    let own = needs
        .filter_map(|id| packages.get(id))
        .filter(|needed| needed.own);
    own.filter(|needed| !room.may_know.contains(&needed.name.as_str()))
        .map(|needed| {
            let what = format!("knows `{}`", needed.name);
            let advice = format!("it may know {:?}; pass plain values instead", room.may_know);
            Finding::new(&package.name, 0, "layering", what, advice)
        })
        .collect()
}

fn reaches(
    packages: &Packages,
    id: &str,
    room: &Room,
    built: impl Fn(&str) -> Result<BTreeSet<(String, String)>>,
) -> Result<Vec<Finding>> {
    let mut suspects = reachable(packages, id);
    suspects.retain(|(found, _)| room.must_not_reach.iter().any(|rule| matches(rule, found)));
    if suspects.is_empty() {
        return Ok(Vec::new());
    }
    let built = built(room.package)?;
    suspects.retain(|(found, _)| built.contains(&(found.name.clone(), found.version.clone())));
    let finding = |(found, way): (&Package, Vec<&str>)| {
        let what = format!("reaches `{} {}`", found.name, found.version);
        let advice = format!(
            "drop it, or the dependency that brings it: {}",
            way.join(" > ")
        );
        Finding::new(room.package, 0, "layering", what, advice)
    };
    Ok(suspects.into_iter().map(finding).collect())
}

/// `name`, or `name@0.14` for the versions that begin so.
fn matches(rule: &str, package: &Package) -> bool {
    let (name, version) = rule.split_once('@').unwrap_or((rule, ""));
    let series = format!("{version}.");
    name == package.name && (version.is_empty() || package.version.starts_with(&series))
}

fn features(package: &Package) -> Vec<Finding> {
    let banned = FEATURES_BANNED.iter().filter(|(name, feature, _)| {
        *name == package.name && package.features.iter().any(|on| on == feature)
    });
    banned
        .map(|(name, feature, reason)| {
            Finding::new(
                name,
                0,
                "feature",
                format!("feature `{feature}` is on"),
                *reason,
            )
        })
        .collect()
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::packages::test::graph;

    /// Everything in the graph is built.
    fn all_of(packages: &Packages) -> BTreeSet<(String, String)> {
        let names = packages
            .values()
            .map(|found| (found.name.clone(), found.version.clone()));
        names.collect()
    }

    fn findings(packages: &Packages) -> Vec<Finding> {
        check(packages, |_| Ok(all_of(packages))).expect("nothing fails here")
    }

    fn whats(packages: &Packages) -> Vec<String> {
        let what = |finding: Finding| format!("{}: {}", finding.file, finding.what);
        findings(packages).into_iter().map(what).collect()
    }

    #[test]
    fn a_room_that_knows_too_much_is_found() {
        let mut packages = graph(&[
            ("nube-agent", &["nube-types", "nube-proto"]),
            ("nube-proto", &["nube-types"]),
            ("nube-types", &[]),
            ("nube-scheduler", &["nube-types", "nube-state"]),
            ("nube-state", &["nube-types"]),
        ]);
        assert_eq!(whats(&packages), ["nube-scheduler: knows `nube-state`"]);
        // In tests as well.
        let scheduler = packages.get_mut("nube-scheduler").expect("a member");
        scheduler.needs_in_tests = std::mem::take(&mut scheduler.needs);
        assert_eq!(whats(&packages), ["nube-scheduler: knows `nube-state`"]);
    }

    #[test]
    fn a_banned_crate_is_found_behind_others() {
        let packages = graph(&[("nube-state", &["map"]), ("map", &["rand"]), ("rand", &[])]);
        let findings = findings(&packages);
        assert_eq!(findings.len(), 1);
        assert!(
            findings[0].advice.ends_with("nube-state > map > rand"),
            "{}",
            findings[0].advice
        );
    }

    #[test]
    fn what_only_another_member_turns_on_is_not_blamed() {
        let packages = graph(&[("nube-state", &["map"]), ("map", &["rand"]), ("rand", &[])]);
        let alone = check(&packages, |_| Ok(BTreeSet::new())).expect("nothing fails here");
        assert!(alone.is_empty());
    }

    #[test]
    fn a_version_can_be_banned_alone() {
        let with = |prost| graph(&[("nube-consensus", &["prost"]), (prost, &[])]);
        assert!(whats(&with("prost@0.11.9")).is_empty());
        assert!(whats(&with("prost@0.140.0")).is_empty());
        assert_eq!(
            whats(&with("prost@0.14.6")),
            ["nube-consensus: reaches `prost 0.14.6`"]
        );
    }

    #[test]
    fn a_member_without_a_row_and_a_banned_feature_are_found() {
        assert_eq!(
            whats(&graph(&[("nube-new", &[])])),
            ["nube-new: unknown room"]
        );
        let mut packages = graph(&[("ssh-key", &[])]);
        assert!(whats(&packages).is_empty());
        packages
            .get_mut("ssh-key")
            .expect("a package")
            .features
            .push("rsa".to_owned());
        assert_eq!(whats(&packages), ["ssh-key: feature `rsa` is on"]);
    }
}
