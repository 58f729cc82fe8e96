//! Placements per second and packing density, as a table or, with `--json`, as
//! one JSON object: `cargo run --release -p nube-scheduler --example place_rate`.
//!
//! Rate. Every request carries every filter: zone, accelerator, isolation,
//! driver, vCPUs with overcommit, memory, disk, over hosts of three zones and two
//! sizes of which some are drained, unreachable or without kvm. One placement is
//! `start_group`, `place` and `reserve`. `fill` goes from empty hosts to 85 % of
//! the first request that is refused; `churn` replaces random instances there
//! (the `release` is timed too). `scan` fills with `choose` over the plain hosts.
//! Seconds are processor time of the one thread; median of the rounds.
//!
//! Density: see `density.rs`.

#![expect(clippy::print_stdout, reason = "a measurement writes a table")]

mod density;
mod load;
mod rate;

use density::Density;
use load::Mix;
use nube_scheduler::Strategy;
use rate::Rate;

const NODES: [u64; 3] = [100, 1_000, 10_000];

fn main() {
    let rates: Vec<Rate> = NODES
        .into_iter()
        .flat_map(|nodes| [Strategy::Spread, Strategy::Pack].map(|wish| rate::measure(nodes, wish)))
        .collect();
    let densities: Vec<Density> = Mix::all().iter().map(density::measure).collect();
    if std::env::args().any(|argument| argument == "--json") {
        println!("{}", json(&rates, &densities));
    } else {
        table(&rates, &densities);
    }
}

fn word(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::Spread => "spread",
        Strategy::Pack => "pack",
    }
}

fn table(rates: &[Rate], densities: &[Density]) {
    println!("placements/s   nodes        fill       churn        scan");
    for rate in rates {
        let (name, nodes) = (word(rate.strategy), rate.nodes);
        let (fill, churn, scan) = (rate.fill, rate.churn, rate.scan);
        println!("{name:12} {nodes:>7} {fill:>11} {churn:>11} {scan:>11}");
    }
    println!();
    println!("density (pack)   filled  after churn   hosts at 90 %   hosts after churn");
    for density in densities {
        println!(
            "{:14} {:>8.4} {:>12.4} {:>15.4} {:>19.4}",
            density.mix, density.fill, density.churn, density.fill_hosts, density.churn_hosts
        );
    }
}

/// Names and numbers only, so nothing needs escaping.
fn json(rates: &[Rate], densities: &[Density]) -> String {
    let rates: Vec<String> = rates
        .iter()
        .map(|rate| {
            format!(
                r#"{{"nodes":{},"strategy":"{}","fill_per_s":{},"churn_per_s":{},"scan_per_s":{}}}"#,
                rate.nodes,
                word(rate.strategy),
                rate.fill,
                rate.churn,
                rate.scan
            )
        })
        .collect();
    let densities: Vec<String> = densities
        .iter()
        .map(|density| {
            format!(
                r#"{{"mix":"{}","fill":{:.4},"churn":{:.4},"fill_hosts":{:.4},"churn_hosts":{:.4}}}"#,
                density.mix,
                density.fill,
                density.churn,
                density.fill_hosts,
                density.churn_hosts
            )
        })
        .collect();
    format!(
        r#"{{"rates":[{}],"densities":[{}]}}"#,
        rates.join(","),
        densities.join(",")
    )
}
