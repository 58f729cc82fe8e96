//! Whole clouds for tests: real processes, started and removed as a user would,
//! through `cloudctl`. What a test may know about the inside (pids, files) is
//! asked here and nowhere else.

mod cloud;
mod host;
mod internet;
pub mod lab;
mod run;

pub use cloud::{Cloud, Size, image, micro_image};
pub use host::{Leftovers, Process, guest_of, machines};
pub use internet::Internet;
pub use run::{Finished, eventually, run};
