//! The physical floor of a durable write: 512 bytes appended, and an fdatasync,
//! one after the other, in a file on the disk that the clouds are on.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::figure::Figure;

/// The disk's own speed.
pub struct Floor(File);

impl Floor {
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        Ok(Self(File::create(dir.join("floor"))?))
    }

    /// Milliseconds of each append with its sync.
    pub fn run(&mut self, length: Duration) -> anyhow::Result<Vec<f64>> {
        let (begun, mut times) = (Instant::now(), Vec::new());
        while begun.elapsed() < length {
            let one = Instant::now();
            self.0.write_all(&[7; 512])?;
            self.0.sync_data()?;
            times.push(one.elapsed().as_secs_f64() * 1e3);
        }
        Ok(times)
    }
}

/// The floor as a part of its own, before and after the others.
pub fn run(quick: bool) -> anyhow::Result<Vec<Figure>> {
    let dir = tempfile::tempdir()?;
    let length = Duration::from_millis(if quick { 500 } else { 2_000 });
    let times = Floor::open(dir.path())?.run(length)?;
    Ok(vec![Figure::alone(
        "512 B append + fdatasync",
        "ms",
        &times,
    )?])
}
