//! Plays seeds and says what was seen. `cargo xtask sim` runs this.

use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use nube_sim::judge::Violation;
use nube_sim::marks::{Marks, SOMETIMES};
use nube_sim::run::{Summary, run};
use nube_sim::scenario::{Mode, Scenario};

/// Plays the whole control plane under faults, one seed after the other, and judges every step.
#[derive(Parser)]
#[command(name = "sim")]
struct Args {
    /// Plays this seed alone and tells its fingerprint; with --count, begins there
    #[arg(long)]
    seed: Option<u64>,
    /// How many seeds
    #[arg(long)]
    count: Option<u64>,
    /// Goes on with further seeds for so long
    #[arg(long)]
    minutes: Option<u64>,
    /// Seeds that are played at once
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Only plays of this mode; drawn per seed otherwise
    #[arg(long)]
    mode: Option<Mode>,
    /// Goes on after a failure, up to the end
    #[arg(long)]
    keep_going: bool,
    /// Plays each hundredth seed (and a single one) again in another process and compares
    /// the fingerprints (A4)
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    twice: bool,
    /// Prints the fingerprint of --seed and nothing else
    #[arg(long, hide = true)]
    fingerprint: bool,
    /// Prints every event
    #[arg(long)]
    tell: bool,
}

struct Failure {
    seed: u64,
    law: String,
    text: String,
}

#[derive(Default)]
struct Total {
    seeds: u64,
    twice: u64,
    simulated_ms: u64,
    events: u64,
    entries: u64,
    writes: u64,
    reads: u64,
    unknown: u64,
    converged_ms: Vec<u64>,
    marks: Marks,
    failures: Vec<Failure>,
}

fn main() -> std::process::ExitCode {
    let args = Args::parse();
    std::panic::set_hook(Box::new(|_| {}));
    if args.fingerprint {
        let scenario = Scenario::draw(args.seed.unwrap_or(1), args.mode);
        println!("{}", run(scenario, false).trace);
        return std::process::ExitCode::SUCCESS;
    }
    let begun = Instant::now();
    let total = play(&args, begun);
    report(&args, &total, begun.elapsed());
    match total.failures.is_empty() {
        true => std::process::ExitCode::SUCCESS,
        false => std::process::ExitCode::FAILURE,
    }
}

fn play(args: &Args, begun: Instant) -> Total {
    let first = args.seed.unwrap_or(1);
    let count = match (args.count, args.minutes, args.seed) {
        (Some(count), _, _) => count,
        (None, Some(_), _) => u64::MAX - first,
        (None, None, Some(_)) => 1,
        (None, None, None) => 20,
    };
    let until = args.minutes.map(|m| begun + Duration::from_secs(60 * m));
    let (next, stop) = (AtomicU64::new(first), AtomicBool::new(false));
    let total = Mutex::new(Total::default());
    std::thread::scope(|scope| {
        for _ in 0..args.threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let late = until.is_some_and(|until| Instant::now() >= until);
                    if seed - first >= count || late || stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let twice = args.twice && (seed.is_multiple_of(100) || args.seed.is_some());
                    let played = one(args, seed, twice);
                    let failed = note(&total, seed, twice, played);
                    if failed && !args.keep_going {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    total.into_inner().unwrap_or_else(|e| e.into_inner())
}

fn one(args: &Args, seed: u64, twice: bool) -> Result<Summary, Failure> {
    let play = |tell| {
        let scenario = Scenario::draw(seed, args.mode);
        std::panic::catch_unwind(AssertUnwindSafe(|| run(scenario, tell)))
            .map_err(|payload| failure(seed, payload.as_ref()))
    };
    let first = play(args.tell)?;
    if twice && elsewhere(args, seed) != Some(first.trace.clone()) {
        let (law, text) = ("A4".to_owned(), "the same seed gave another run".to_owned());
        return Err(Failure { seed, law, text });
    }
    Ok(first)
}

/// The fingerprint of a seed, as another process sees it.
fn elsewhere(args: &Args, seed: u64) -> Option<String> {
    let mut again = std::process::Command::new(std::env::current_exe().ok()?);
    again.args(["--fingerprint", "--seed", &seed.to_string()]);
    if let Some(mode) = mode_word(args) {
        again.args(["--mode", mode]);
    }
    let said = String::from_utf8(again.output().ok()?.stdout).ok()?;
    Some(said.trim().to_owned())
}

fn mode_word(args: &Args) -> Option<&'static str> {
    args.mode.map(|mode| match mode {
        Mode::Repairable => "repairable",
        Mode::Unlimited => "unlimited",
    })
}

fn failure(seed: u64, payload: &(dyn std::any::Any + Send)) -> Failure {
    let (law, text) = if let Some(broken) = payload.downcast_ref::<Violation>() {
        (broken.law.to_owned(), broken.text.clone())
    } else if let Some(text) = payload.downcast_ref::<String>() {
        ("panic".to_owned(), text.clone())
    } else if let Some(text) = payload.downcast_ref::<&str>() {
        ("panic".to_owned(), (*text).to_owned())
    } else {
        ("panic".to_owned(), "without a text".to_owned())
    };
    Failure { seed, law, text }
}

/// True when it failed.
fn note(total: &Mutex<Total>, seed: u64, twice: bool, played: Result<Summary, Failure>) -> bool {
    let mut total = total.lock().unwrap_or_else(|e| e.into_inner());
    total.seeds += 1;
    match played {
        Ok(summary) => {
            total.twice += u64::from(twice);
            total.simulated_ms += summary.simulated_ms;
            total.events += summary.events;
            total.entries += summary.entries;
            total.writes += summary.writes;
            total.reads += summary.reads;
            total.unknown += summary.unknown;
            total.converged_ms.extend(summary.converged_ms);
            total.marks.add(&summary.marks);
            if total.seeds.is_multiple_of(20) {
                println!("{} seeds", total.seeds);
            }
            if twice {
                println!("seed {seed}: fingerprint {}", summary.trace);
            }
            false
        }
        Err(failure) => {
            println!("seed {seed}: {} broken: {}", failure.law, failure.text);
            total.failures.push(failure);
            true
        }
    }
}

fn report(args: &Args, total: &Total, took: Duration) {
    let hours = total.simulated_ms as f64 / 3_600_000.0;
    println!(
        "\n{} seeds in {:.0} s: {hours:.2} simulated cluster-hours, {} events, {} log entries, \
         {} writes and {} reads answered, {} writes with unknown outcome",
        total.seeds,
        took.as_secs_f64(),
        total.events,
        total.entries,
        total.writes,
        total.reads,
        total.unknown
    );
    println!(
        "{} seeds played again in another process, fingerprints equal",
        total.twice
    );
    let mut converged = total.converged_ms.clone();
    converged.sort_unstable();
    if let Some(worst) = converged.last() {
        let median = converged[converged.len() / 2];
        println!("converged after faults: median {median} ms, worst {worst} ms (limit 60000)");
    }
    println!("\nfaults:");
    for (name, count) in total
        .marks
        .iter()
        .filter(|(name, _)| name.starts_with("fault: "))
    {
        println!("  {count:>8}  {}", &name["fault: ".len()..]);
    }
    println!("\nsometimes:");
    for name in SOMETIMES {
        let count = total.marks.count(name);
        let never = if count == 0 { "   <- never" } else { "" };
        println!("  {count:>8}  {name}{never}");
    }
    for failure in &total.failures {
        let mode = mode_word(args).map_or(String::new(), |mode| format!(" --mode {mode}"));
        println!(
            "\n{} broken by seed {}: {}\nreplay: cargo xtask sim --seed {}{mode}   (at commit {})",
            failure.law,
            failure.seed,
            failure.text,
            failure.seed,
            commit()
        );
    }
}

/// The commit that a failing seed belongs to: other code plays another game.
fn commit() -> String {
    let asked = std::process::Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .output();
    let said = asked.ok().filter(|out| out.status.success());
    said.and_then(|out| String::from_utf8(out.stdout).ok())
        .map_or_else(|| "unknown".to_owned(), |text| text.trim().to_owned())
}
