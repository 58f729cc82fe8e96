//! Resident bytes per idle instance: running, billed, and nothing happening to
//! it. Everything that a controller keeps of it in memory is counted (record,
//! indexes, ledger), by what the process grows by. What is bounded whatever the
//! cell's size, audit and remembered requests, is full before the count begins.
//! The floor is the same rows as bytes of the store.

use std::fs;

use anyhow::Context;

use crate::cell::Cell;
use crate::figure::{Aim, Figure};

const NODES: u64 = 1_000;
const BYTES_MAX: f64 = 264.0;

pub fn run(quick: bool) -> anyhow::Result<Vec<Figure>> {
    let sizes: &[u64] = if quick {
        &[100_000]
    } else {
        &[100_000, 1_000_000]
    };
    let mut cell = Cell::new(NODES)?;
    cell.fill_histories()?;
    let empty = resident_bytes()?;
    let mut figures = Vec::new();
    for &size in sizes {
        cell.launch_to(size)?;
        cell.run_all()?;
        let grown = resident_bytes()?.saturating_sub(empty) as f64 / size as f64;
        let stored = row_bytes(&cell) as f64 / size as f64;
        let name = format!("memory per idle instance, {size} of them");
        // The aim is in bytes; the ratio tells how far the floor is.
        let figure = Figure::alone(&name, "B", &[grown])?.aim(Aim::AtMost(BYTES_MAX));
        let floor = Figure::beside(&name, "B", &[grown], "stored rows", &[stored])?;
        figures.push(Figure {
            peer: floor.peer,
            ratio: floor.ratio,
            ..figure
        });
    }
    let inline = std::mem::size_of::<nube_state::Instance>();
    let note = format!("the record alone is {inline} B before what it points to");
    Ok(figures
        .into_iter()
        .map(|figure| figure.note(note.clone()))
        .collect())
}

fn row_bytes(cell: &Cell) -> u64 {
    let state = &cell.state;
    let rows = state.instances.rows().chain(state.usage.rows());
    rows.chain(state.transitions.rows())
        .map(|(key, value)| (key.len() + value.len()) as u64)
        .sum()
}

fn resident_bytes() -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(number.context("VmRSS")?.parse::<u64>()? << 10)
}
