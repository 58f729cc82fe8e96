//! The corpus, replayed without a fuzzer: each file, and seeded mutations of it for
//! a bounded number of rounds. `UPDATE_CORPUS=1` writes the seeds anew; files with
//! other names are what fuzzers found, and stay.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use nube_fuzz::mutate::{Luck, mutated};
use nube_fuzz::{TARGETS, Target, cbor, grpc, seeds};
use nube_proto::DESCRIPTORS;
use prost::Message;

/// Per target: some seconds for all of them, unoptimised.
const MUTATIONS: u64 = 4_000;
/// `apply` walks over whole states after each entry.
const MUTATIONS_OF_APPLY: u64 = 1_500;

fn dir(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target)
}

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    if std::env::var_os("UPDATE_CORPUS").is_some() {
        std::fs::create_dir_all(dir(target)).expect("the corpus");
        for (number, seed) in seeds::of(target).iter().enumerate() {
            let path = dir(target).join(format!("seed-{number:02}"));
            std::fs::write(path, seed).expect("the source can be written");
        }
    }
    let files = std::fs::read_dir(dir(target)).expect("a corpus for each target");
    let mut paths: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let bytes = std::fs::read(&path).expect("readable");
        (path.display().to_string(), bytes)
    };
    paths.into_iter().map(read).collect()
}

/// Runs a target; a panic is told with the bytes that caused it.
fn survives(name: &str, target: Target, what: &str, bytes: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| target(bytes))).is_err() {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        panic!("{name} does not bear {what}: {hex}");
    }
}

fn replay(name: &str) {
    let target = nube_fuzz::target(name).expect("a target");
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "{name} has no corpus");
    for (path, bytes) in &corpus {
        survives(name, target, path, bytes);
    }
    let rounds = match name {
        "apply" => MUTATIONS_OF_APPLY,
        _ => MUTATIONS,
    };
    let structured = matches!(name, "apply" | "envelope" | "outcome" | "snapshot");
    for round in 0..rounds {
        let mut luck = Luck::new(round + 1);
        let mut draw = || &corpus[luck.below(corpus.len() as u64) as usize].1;
        let (seed, other) = (draw(), draw());
        let whole = structured && round % 4 != 0;
        let cbor = whole.then(|| cbor::mutated(seed, &mut luck)).flatten();
        let bytes = cbor.unwrap_or_else(|| mutated(seed, other, &mut luck));
        survives(name, target, &format!("mutation {round}"), &bytes);
    }
}

macro_rules! replays {
    ($($target:ident),+) => {
        $(#[test]
        fn $target() {
            replay(stringify!($target));
        })+

        #[test]
        fn every_target_is_replayed() {
            let replayed = [$(stringify!($target)),+];
            let known: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
            assert_eq!(replayed.as_slice(), known);
        }
    };
}

replays!(
    log_record, snapshot, envelope, apply, outcome, peer, grpc, backup, config, join_token,
    ssh_key, seed, qmp, metadata, addresses, names
);

#[test]
fn every_message_of_the_contract_is_decoded() {
    let files = prost_types::FileDescriptorSet::decode(DESCRIPTORS).expect("descriptors");
    let mut contract = Vec::new();
    for file in files.file {
        let package = file.package().to_owned();
        for message in file.message_type {
            contract.push(format!("{package}.{}", message.name()));
            let maps = |nested: &prost_types::DescriptorProto| {
                nested
                    .options
                    .as_ref()
                    .is_some_and(|options| options.map_entry())
            };
            assert!(
                message.nested_type.iter().all(maps),
                "nested messages have no row yet"
            );
        }
    }
    contract.retain(|name| name.starts_with("nube."));
    contract.sort();
    let mut known: Vec<String> = grpc::MESSAGES.iter().map(|(name, _)| name()).collect();
    known.sort();
    assert_eq!(known, contract);
}

#[test]
fn mutations_of_entries_reach_apply() {
    let corpus = corpus("apply");
    let mut decoded = 0;
    for round in 0..400 {
        let mut luck = Luck::new(round + 1);
        let seed = &corpus[luck.below(corpus.len() as u64) as usize].1;
        let bytes = cbor::mutated(seed, &mut luck).expect("CBOR");
        decoded += u32::from(nube_state::codec::decode_envelope(&bytes).is_ok());
    }
    assert!(decoded > 100, "{decoded} of 400 are entries");
}
