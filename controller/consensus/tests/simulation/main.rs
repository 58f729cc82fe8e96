//! Whole clusters of cores on one thread, in virtual time, from one seed.
//!
//! Lives here: the laws, as tests. The world they run in is `world.rs`, the judges are
//! `checks.rs`. A failing seed prints itself; replay it with
//! `NUBE_SEED=<n> cargo test -p nube-consensus --test simulation`.

mod checks;
mod store;
mod world;

use world::{Faults, World};

/// Virtual milliseconds of faults, then of quiet.
const TROUBLE_MS: u64 = 15_000;
const QUIET_MS: u64 = 5_000;

fn seeds(default: u64) -> Vec<u64> {
    match std::env::var("NUBE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
    {
        Some(seed) => vec![seed],
        None => {
            let count = std::env::var("NUBE_SEEDS")
                .ok()
                .and_then(|n| n.parse().ok());
            (1..=count.unwrap_or(default)).collect()
        }
    }
}

/// Names the seed when a run panics.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "replay: NUBE_SEED={} cargo test -p nube-consensus --test simulation",
                self.0
            );
        }
    }
}

fn run(seed: u64, faults: Faults) -> World {
    let _named = Named(seed);
    let mut world = World::new(seed, faults);
    world.run_for(TROUBLE_MS);
    world.heal();
    world.run_for(QUIET_MS);
    world.check_end();
    world
}

#[test]
fn a1_a2_a6_hold_under_loss_reordering_duplication_partitions_crashes_and_pauses() {
    let (mut acked, mut reads, mut crashes, mut snapshots) = (0, 0, 0, 0);
    let (mut failed, mut full) = (0, 0);
    for seed in seeds(40) {
        let world = run(seed, Faults::all());
        failed += world.failed_syncs;
        full += world.waits_for_space;
        acked += world.checks.acknowledged();
        reads += world.checks.reads();
        crashes += world.crashes;
        snapshots += world.snapshots_installed;
    }
    eprintln!("{acked} writes, {reads} reads, {crashes} crashes, {snapshots} snapshots installed");
    eprintln!("{failed} lives ended by a failed sync, {full} waits for space");
    assert!(acked > 0 && reads > 0);
}

/// One voter of three has a disk that rots, loses writes and puts them elsewhere. Its recovery
/// says so or nothing was harmed; the other two hold every promise.
#[test]
fn b1_b4_a_voter_with_a_lying_disk_harms_nobody() {
    let (mut acked, mut lost, mut struck) = (0, 0, 0);
    for seed in seeds(40) {
        let faults = Faults {
            damage: true,
            ..Faults::all()
        };
        let world = run(seed, faults);
        acked += world.checks.acknowledged();
        lost += u64::from(world.lost_members() > 0);
        struck += u64::from(world.damaged_disks() > 0);
    }
    eprintln!("{acked} writes; {struck} disks damaged, {lost} members stayed out");
    assert!(acked > 0);
}

/// The whole directory of a follower is an older one: whole in itself, so only the leader can tell.
#[test]
fn b4_b5_a_member_that_went_back_in_time_is_told_so_and_never_takes_part_again() {
    for seed in seeds(20) {
        let _named = Named(seed);
        let mut world = World::new(seed, Faults::none());
        world.run_for(3_000);
        let (leader, _) = world.leader().expect("a leader in a quiet cluster");
        let follower = leader % 3 + 1;
        let copy = world.copy_of_disk(follower);
        world.run_for(2_000);
        world.turn_back(follower, copy);
        world.run_for(3_000);
        assert_eq!(world.lost_members(), 1);
        world.heal();
        world.run_for(QUIET_MS);
        world.check_end();
        assert_eq!(world.lost_members(), 1, "no later start takes part either");
    }
}

#[test]
fn a7_membership_changes_under_faults_keep_every_promise() {
    let mut changes = 0;
    for seed in seeds(25) {
        changes += run(
            seed,
            Faults {
                membership: true,
                ..Faults::all()
            },
        )
        .changes_done;
    }
    eprintln!("{changes} membership changes");
    assert!(changes > 0);
}

#[test]
fn a4_the_same_seed_gives_the_same_trace() {
    for seed in seeds(6) {
        let faults = Faults {
            membership: true,
            ..Faults::all()
        };
        let (first, second) = (run(seed, faults).trace(), run(seed, faults).trace());
        assert_eq!(first, second, "seed {seed}");
    }
}

/// Virtual ms from the crash of the leader to the next leader that has committed. The limits are
/// what 3000 seeds showed (median 560, p99 860, 0.4 % above 1 s, worst 1870) and some room: votes
/// may split twice in a row, and only then does it take longer than a second.
#[test]
fn a10_a_killed_leader_is_replaced_mostly_within_a_second_and_always_within_three() {
    let seeds = seeds(300);
    let mut slow = Vec::new();
    for seed in &seeds {
        let _named = Named(*seed);
        let mut world = World::new(*seed, Faults::none());
        world.run_for(3_000 + seed % 200);
        let (old, _) = world.leader().expect("a leader in a quiet cluster");
        world.crash(old);
        let mut waited_ms = 0;
        while world.leader().is_none() {
            world.run_for(10);
            waited_ms += 10;
            assert!(waited_ms <= 3_000, "no new leader within 3 s");
        }
        if waited_ms > 1_000 {
            slow.push((*seed, waited_ms));
        }
        world.check_end();
    }
    assert!(
        seeds.len() < 100 || slow.len() * 50 <= seeds.len(),
        "above 1 s: {slow:?}"
    );
}

#[test]
fn a10_a_quiet_cluster_keeps_its_leader() {
    for seed in seeds(30) {
        let _named = Named(seed);
        let mut world = World::new(seed, Faults::none());
        world.run_for(3_000);
        let first = world.leader().expect("a leader in a quiet cluster");
        world.run_for(20_000);
        assert_eq!(world.leader(), Some(first), "no change without a cause");
    }
}

#[test]
fn a2_a_cut_off_leader_answers_no_read() {
    for seed in seeds(20) {
        let _named = Named(seed);
        let mut world = World::new(seed, Faults::none());
        world.run_for(3_000);
        let (old, _) = world.leader().expect("a leader");
        world.isolate(old);
        // Writes go on in the majority, reads on the old leader must not see the past.
        world.run_for(6_000);
        world.heal();
        world.run_for(QUIET_MS);
        world.check_end();
    }
}
