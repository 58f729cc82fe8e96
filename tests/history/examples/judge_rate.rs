//! How long the judge of linearizability takes: histories of one register, drawn
//! from a seed and run by a correct register, with and without lost answers, and
//! the same with one wrong answer near the end.
//!
//! `cargo run --release -p nube-history --example judge_rate`

use std::time::Instant;

use nube_history::model::register::{Op, Outcome, Register};
use nube_history::{Event, check};

type Asked = Event<Op<u8, u64>, Outcome<u64>>;
type History = Vec<Asked>;

/// Numbers that look random, the same each time (splitmix64).
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// `len` operations of `clients` on one key; of a hundred answers `lost` are lost.
fn history(len: u64, clients: usize, lost: u64) -> History {
    let mut draw = Draw(7);
    let mut free_at = vec![0; clients];
    let mut planned: Vec<(u64, Asked)> = Vec::new();
    for (number, client) in (0..len).zip((0..clients).cycle()) {
        let called_at = free_at[client] + draw.below(10);
        let returned_at = called_at + 1 + draw.below(50);
        free_at[client] = returned_at + 1;
        let effect_at = called_at + draw.below(returned_at - called_at + 1);
        let op = match draw.below(2) {
            0 => Op::Read(0),
            _ => Op::Write(0, Some(number)),
        };
        let event = Event::done(client as u64, op, called_at, returned_at, Outcome::Done);
        planned.push((effect_at, event));
    }
    planned.sort_by_key(|(effect_at, _)| *effect_at);
    let mut value = None;
    let mut run = |mut event: Asked| {
        let answered = draw.below(100) >= lost;
        match (&event.op, &mut event.returned) {
            (Op::Read(_), Some((_, outcome))) => *outcome = Outcome::Value(value),
            // Half of the lost ones never happen.
            (Op::Write(_, new), _) if answered || draw.below(2) == 0 => value = *new,
            _ => {}
        }
        event.returned = event.returned.filter(|_| answered);
        event
    };
    planned.into_iter().map(|(_, event)| run(event)).collect()
}

/// A read near the end that saw what was written long before.
fn spoil(events: &mut History) {
    let early = events
        .iter()
        .find_map(|event| match (&event.op, &event.returned) {
            (Op::Write(_, value), Some(_)) => Some(*value),
            _ => None,
        })
        .expect("somebody wrote");
    let late = events.len() - events.len() / 20;
    for event in &mut events[late..] {
        if let (Op::Read(_), Some((_, outcome))) = (&event.op, &mut event.returned) {
            *outcome = Outcome::Value(early);
            return;
        }
    }
}

fn main() {
    for (len, clients, lost) in [
        (1_000, 5, 0),
        (10_000, 5, 0),
        (10_000, 5, 5),
        (10_000, 5, 20),
        (20_000, 10, 0),
        (20_000, 10, 5),
    ] {
        let mut events = history(len, clients, lost);
        let start = Instant::now();
        check::linear(&Register::new(), &events).expect("a correct register ran it");
        let accepted = start.elapsed();
        spoil(&mut events);
        let start = Instant::now();
        let bad = check::linear(&Register::new(), &events).expect_err("one answer is wrong");
        println!(
            "{len} operations, {clients} clients, {lost} % lost answers, one key: accepted in {} ms; rejected and shrunk to {} lines in {} ms",
            accepted.as_millis(),
            bad.operations.len(),
            start.elapsed().as_millis()
        );
    }
}
