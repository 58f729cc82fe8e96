//! D4: the cell's clock under clocks that lie. Truth is the monotonic clock here.

use super::*;

const EPOCH_MS: u64 = 1_800_000_000_000;
const HOUR_MS: i64 = 3_600_000;
const YEAR_MS: i64 = 365 * 24 * HOUR_MS;
const VOTERS: [u64; 3] = [1, 2, 3];

fn truth(mono_ms: u64) -> u64 {
    EPOCH_MS + mono_ms
}

/// The cell's clock, told the three wall clocks each second: the leader's own is 1.
struct Run {
    clock: ClusterClock,
    mono_ms: u64,
    last: u64,
}

impl Run {
    /// Leads from the beginning, in time.
    fn new() -> Self {
        let mono_ms = 7_000;
        let clock = ClusterClock::new(mono_ms, TimestampMs(truth(mono_ms)));
        let mut run = Self {
            clock,
            mono_ms,
            last: truth(mono_ms),
        };
        run.second([0, 0, 0]);
        run
    }

    /// A second with these errors of the walls. Checks that time goes on, and no
    /// faster or slower than the pull allows.
    fn second(&mut self, errors: [i64; 3]) -> Steered {
        for (id, error) in VOTERS.into_iter().zip(errors) {
            let wall = TimestampMs(truth(self.mono_ms).saturating_add_signed(error));
            let sample = Sample::new(wall, self.mono_ms, self.mono_ms);
            self.clock.sample(id, sample);
        }
        let steered = self.clock.steer(self.mono_ms, &VOTERS, true);
        for step_ms in [1, 2, 7, 90, 400, 500] {
            self.mono_ms += step_ms;
            let now = self.clock.now(self.mono_ms).0;
            assert!(now >= self.last, "time went back at {}", self.mono_ms);
            let off = (now - self.last).abs_diff(step_ms);
            assert!(off <= step_ms / 2 + 1, "{off} ms off in {step_ms} ms");
            self.last = now;
        }
        steered
    }

    fn error_ms(&self) -> i64 {
        signed(self.clock.now(self.mono_ms).0) - signed(truth(self.mono_ms))
    }
}

#[test]
fn one_clock_of_three_moves_nothing_whatever_it_does() {
    type Fault = fn(i64) -> i64;
    let faults: [(&str, Fault); 8] = [
        ("an hour ahead", |_| HOUR_MS),
        ("an hour behind", |_| -HOUR_MS),
        ("a year ahead", |_| YEAR_MS),
        ("a year behind", |_| -YEAR_MS),
        ("runs twice as fast", |second| second * 1_000),
        ("stands still", |second| -second * 1_000),
        ("jumps to and fro", |second| {
            if second % 2 == 0 { HOUR_MS } else { -YEAR_MS }
        }),
        (
            "a leap second",
            |second| if second > 10 { -1_000 } else { 0 },
        ),
    ];
    for bad in 0..3 {
        for (what, fault) in faults {
            let mut run = Run::new();
            for second in 0..120 {
                let mut errors = [0; 3];
                // It comes back after a minute and a half.
                errors[bad] = if second < 90 { fault(second) } else { 0 };
                run.second(errors);
                let error = run.error_ms();
                assert!(error.abs() <= AGREE_MS, "{what} at {bad}: {error} ms off");
            }
            assert!(run.error_ms().abs() <= 1, "{what}: in time again");
        }
    }
}

#[test]
fn a_majority_is_followed_by_at_most_half_a_second_per_second() {
    for error in [HOUR_MS, -HOUR_MS] {
        let mut run = Run::new();
        for second in 1..=60 {
            run.second([error, error + 20, 0]);
            let moved = run.error_ms() * error.signum();
            assert!((second * 499..=second * 500).contains(&moved), "{moved}");
        }
        // The clocks are put right: back at the same pace, and never backwards.
        for _ in 0..60 {
            run.second([0, 0, 0]);
        }
        assert!(run.error_ms().abs() <= 70, "{}", run.error_ms());
    }
}

#[test]
fn without_a_majority_that_agrees_the_monotonic_clock_goes_on_alone() {
    let mut run = Run::new();
    for _ in 0..60 {
        assert_eq!(run.second([0, HOUR_MS, -HOUR_MS]), Steered::Free);
        assert_eq!(run.error_ms(), 0);
    }
    // Two that are heard and disagree are no majority of three either.
    let mut clock = ClusterClock::new(0, TimestampMs(EPOCH_MS));
    clock.sample(1, Sample::new(TimestampMs(EPOCH_MS), 0, 0));
    clock.sample(2, Sample::new(TimestampMs(EPOCH_MS + 60_000), 0, 0));
    assert_eq!(clock.steer(0, &VOTERS, true), Steered::Free);
    assert_eq!(clock.now(5_000), TimestampMs(EPOCH_MS + 5_000));
}

#[test]
fn a_new_leader_without_readings_goes_on_from_replicated_time() {
    let mut clock = ClusterClock::new(100, TimestampMs(EPOCH_MS));
    clock.observe(1_100, TimestampMs(EPOCH_MS + 900));
    assert_eq!(clock.steer(1_500, &VOTERS, true), Steered::Free);
    assert_eq!(clock.now(2_100), TimestampMs(EPOCH_MS + 2_000));
    // An entry of the old leader that was ahead is not undercut.
    clock.observe(2_100, TimestampMs(EPOCH_MS + 2_700));
    assert_eq!(clock.now(2_100), TimestampMs(EPOCH_MS + 2_700));
    assert_eq!(clock.now(2_101), TimestampMs(EPOCH_MS + 2_701));
}

#[test]
fn a_follower_keeps_close_to_what_is_committed_for_ever() {
    let mut clock = ClusterClock::new(0, TimestampMs(EPOCH_MS));
    for second in 0..100_000_u64 {
        // Its monotonic clock runs 200 ppm fast.
        let mono_ms = second * 1_000 + second / 5;
        clock.observe(mono_ms, TimestampMs(EPOCH_MS + second * 1_000));
        let ahead = clock.now(mono_ms).0 - (EPOCH_MS + second * 1_000);
        assert!(ahead <= FOLLOWER_AHEAD_MS_MAX, "{ahead} ms");
    }
}

#[test]
fn after_an_outage_of_all_time_is_caught_up_in_one_step_and_never_again() {
    let (day_ms, voters) = (86_400_000, VOTERS);
    let mut clock = ClusterClock::new(50, TimestampMs(EPOCH_MS));
    let tell = |clock: &mut ClusterClock, mono_ms: u64, ahead_ms: u64| {
        for id in [1, 3] {
            let wall = TimestampMs(EPOCH_MS + mono_ms + ahead_ms);
            clock.sample(id, Sample::new(wall, mono_ms, mono_ms));
        }
    };
    // A follower does not step; one voter's word is not enough for a leader.
    assert_eq!(clock.steer(60, &voters, true), Steered::Free);
    tell(&mut clock, 100, day_ms);
    assert!(matches!(
        clock.steer(100, &voters, false),
        Steered::Pulled(_)
    ));
    assert!(matches!(
        clock.steer(100, &voters, true),
        Steered::Stepped(_)
    ));
    let stepped = clock.now(100);
    assert_eq!(stepped, TimestampMs(EPOCH_MS + 100 + day_ms));
    tell(&mut clock, 200, 2 * day_ms);
    assert!(matches!(
        clock.steer(200, &voters, true),
        Steered::Pulled(_)
    ));
    assert!(clock.now(1_200).0 <= stepped.0 + 1_100 + 500);
}

#[test]
fn a_new_cell_waits_for_a_majority_before_its_first_entry() {
    let mut clock = ClusterClock::new(0, TimestampMs(0));
    let wall = |ahead: u64| TimestampMs(EPOCH_MS + ahead);
    clock.sample(1, Sample::new(wall(0), 0, 0));
    clock.sample(2, Sample::new(wall(90_000), 0, 0));
    clock.steer(0, &VOTERS, true);
    assert!(!clock.is_set());
    clock.sample(3, Sample::new(wall(110), 0, 20));
    assert!(matches!(
        clock.steer(20, &VOTERS, true),
        Steered::Stepped(_)
    ));
    assert!(clock.is_set());
    assert_eq!(clock.now(20), wall(20 + 50));
    // A cell of one has nobody else to ask.
    let mut alone = ClusterClock::new(0, TimestampMs(0));
    alone.sample(1, Sample::new(wall(5), 0, 0));
    alone.steer(0, &[1], true);
    assert_eq!((alone.is_set(), alone.now(0)), (true, wall(5)));
}

#[test]
fn slow_and_old_readings_say_nothing() {
    let mut clock = ClusterClock::new(0, TimestampMs(EPOCH_MS));
    let read =
        |mono_ms, took| Sample::new(TimestampMs(EPOCH_MS + mono_ms), mono_ms, mono_ms + took);
    clock.sample(1, read(0, 0));
    clock.sample(2, read(0, ROUND_TRIP_MS_MAX + 1));
    assert_eq!(clock.steer(0, &VOTERS, true), Steered::Free);
    clock.sample(2, read(0, ROUND_TRIP_MS_MAX));
    assert!(matches!(
        clock.steer(600, &VOTERS, true),
        Steered::Pulled(_)
    ));
    assert_eq!(clock.error_ms(2, 600), Some(-125));
    assert!(clock.agreement(SAMPLE_LIFE_MS - 1).is_some());
    assert!(
        clock.agreement(SAMPLE_LIFE_MS).is_none(),
        "the first expired"
    );
    assert_eq!(
        clock.steer(SAMPLE_LIFE_MS + 1, &VOTERS, true),
        Steered::Free
    );
    // What is out of any range does not move time out of its own.
    for wall in [0, u64::MAX] {
        clock.sample(1, Sample::new(TimestampMs(wall), 0, 20_000));
        clock.sample(3, Sample::new(TimestampMs(wall), 20_000, 20_000));
        clock.steer(20_000, &[1, 3], true);
        assert!(clock.now(21_000).0 >= clock.now(20_000).0);
    }
}

/// Seeded: any history of errors, entries and changes of leadership.
#[test]
fn time_never_goes_back_and_never_runs_away() {
    for seed in 1..=300_u64 {
        let mut luck = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut draw = |below: u64| {
            luck ^= luck << 13;
            luck ^= luck >> 7;
            luck ^= luck << 17;
            luck % below
        };
        let mut clock = ClusterClock::new(0, TimestampMs(EPOCH_MS));
        let (mut mono_ms, mut errors) = (0, [0_i64; 3]);
        clock.steer(0, &VOTERS, true);
        clock.may_step = false;
        let mut last = clock.now(0).0;
        for _ in 0..400 {
            let id = draw(3);
            if draw(20) == 0 {
                errors[id as usize] = signed(draw(2 * 3_600_000)) - HOUR_MS;
            }
            let wall = truth(mono_ms).saturating_add_signed(errors[id as usize]);
            let asked = mono_ms.saturating_sub(draw(700));
            clock.sample(id + 1, Sample::new(TimestampMs(wall), asked, mono_ms));
            if draw(3) == 0 {
                clock.steer(mono_ms, &VOTERS, true);
            }
            if draw(5) == 0 {
                clock.observe(mono_ms, TimestampMs(last.saturating_sub(draw(3_000))));
            }
            let passed_ms = draw(2_500);
            mono_ms += passed_ms;
            let now = clock.now(mono_ms).0;
            assert!(now >= last, "seed {seed}: back by {} ms", last - now);
            // Half of the way, and what rounding may leave at a look in between.
            let (moved, slack) = (now - last, passed_ms / 2 + 2);
            let off = moved.abs_diff(passed_ms);
            assert!(off <= slack, "seed {seed}: {moved} ms in {passed_ms} ms");
            last = now;
        }
    }
}
