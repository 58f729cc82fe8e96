//! What one seed plays: how large the cell is, how long the trouble lasts, and which kinds of
//! fault there are. Kinds are drawn per seed (swarm testing): a run with few kinds goes deeper
//! into each than one with all of them.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// What is promised at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Faults stop, everything converges: safety and liveness are judged.
    Repairable,
    /// Faults go on to the end: safety only.
    Unlimited,
}

/// Which faults may happen, and how badly.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Peer messages that are lost, per thousand.
    pub loss_permille: u32,
    /// Peer messages that come twice, per thousand.
    pub twice_permille: u32,
    /// Peer messages that come late and so overtake, per thousand.
    pub late_permille: u32,
    /// Groups that do not hear each other.
    pub partitions: bool,
    /// A hears B, B does not hear A.
    pub one_way: bool,
    /// Controllers die and come back.
    pub crashes: bool,
    /// Controllers stand still, then go on as if nothing was.
    pub pauses: bool,
    /// Wall clocks jump.
    pub clock_jumps: bool,
    /// Clocks run at different rates.
    pub clock_drift: bool,
    /// Leadership is handed over.
    pub transfers: bool,
    /// Members are removed and new ones join.
    pub membership: bool,
    /// Disks take their time.
    pub slow_disks: bool,
    /// A sync fails: the process ends.
    pub failing_disks: bool,
    /// Disks fill up for a while.
    pub full_disks: bool,
    /// Bits of a minority's disks change.
    pub rot: bool,
    /// Agents die and come back.
    pub agent_crashes: bool,
    /// Agents lose their journal.
    pub agent_amnesia: bool,
    /// Hosts lose power: their guests are gone.
    pub host_crashes: bool,
    /// Hosts stand still, guests included.
    pub host_pauses: bool,
    /// Hosts are cut off.
    pub host_cuts: bool,
    /// Steps on hosts fail.
    pub failing_verbs: bool,
    /// Guests end by themselves.
    pub guest_ends: bool,
    /// Agents report what is not so, about what is and is not theirs.
    pub lying_agents: bool,
}

/// One seed's play.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Where everything comes from.
    pub seed: u64,
    /// What is promised at the end.
    pub mode: Mode,
    /// First members of the cell.
    pub controllers: usize,
    /// Hosts.
    pub agents: usize,
    /// Clients that call the API.
    pub clients: usize,
    /// Watchers.
    pub watchers: usize,
    /// How long faults happen.
    pub trouble_ms: u64,
    /// Applied entries between two snapshots.
    pub snapshot_every: u64,
    /// Entries kept behind one.
    pub keep_entries: u64,
    /// What may happen.
    pub faults: Faults,
}

impl Scenario {
    /// Draws a play.
    #[must_use]
    pub fn draw(seed: u64, mode: Option<Mode>) -> Self {
        // Another stream than the run's, so that a new kind of fault changes plays only by itself.
        let mut random = StdRng::seed_from_u64(seed ^ 0x5ce9_a210);
        let drawn = match random.random_range(0..3) {
            0 => Mode::Unlimited,
            _ => Mode::Repairable,
        };
        let agents = match random.random_range(0..20) {
            0 => random.random_range(50..=200),
            1..=4 => random.random_range(10..=30),
            _ => random.random_range(2..=8),
        };
        Self {
            seed,
            mode: mode.unwrap_or(drawn),
            controllers: if random.random_bool(0.7) { 3 } else { 5 },
            agents,
            clients: random.random_range(1..=6),
            watchers: random.random_range(1..=3),
            trouble_ms: random.random_range(20_000..=60_000),
            snapshot_every: random.random_range(40..=400),
            keep_entries: random.random_range(5..=60),
            faults: Faults::draw(&mut random),
        }
    }
}

impl Faults {
    fn draw(random: &mut StdRng) -> Self {
        // Some seeds are gentle, some are wild.
        let share = [0.15, 0.35, 0.6][random.random_range(0..3)];
        let mut kind = || random.random_bool(share);
        let mut faults = Self {
            partitions: kind(),
            one_way: kind(),
            crashes: kind(),
            pauses: kind(),
            clock_jumps: kind(),
            clock_drift: kind(),
            transfers: kind(),
            membership: kind(),
            slow_disks: kind(),
            failing_disks: kind(),
            full_disks: kind(),
            rot: kind(),
            agent_crashes: kind(),
            agent_amnesia: kind(),
            host_crashes: kind(),
            host_pauses: kind(),
            host_cuts: kind(),
            failing_verbs: kind(),
            guest_ends: kind(),
            lying_agents: kind(),
            ..Self::default()
        };
        let (loss, twice, late) = (kind(), kind(), kind());
        // A rotten member may be lost: whoever removes sound ones as well has no majority left.
        faults.membership &= !faults.rot;
        let mut up_to = |on: bool, most: u32| if on { random.random_range(1..=most) } else { 0 };
        faults.loss_permille = up_to(loss, 200);
        faults.twice_permille = up_to(twice, 100);
        faults.late_permille = up_to(late, 200);
        faults
    }
}
