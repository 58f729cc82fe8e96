//! The command line of Nube. One way through it:
//!
//! ```text
//! args (what was typed) ─► commands/<noun> ─► client (one request id, retries) ─► controllers
//!                               └─► output (table | wide | json | yaml | csv) ─► terminal
//! ```
//!
//! No business rule lives here: prices, placements and refusals come from the
//! controllers; this crate asks, waits and shows.

mod args;
mod client;
mod commands;
mod complete;
mod config;
mod confirm;
mod error;
mod files;
mod names;
mod output;
#[doc(hidden)]
pub mod probe;

#[cfg(test)]
mod golden;

use clap::{CommandFactory, Parser};

use crate::args::Cli;

/// Runs the command line of this process and returns its exit code.
#[must_use]
pub fn run() -> u8 {
    if let Some(code) = complete_line() {
        return code;
    }
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return error::Exit::Failed.code();
        }
    };
    let code = match runtime.block_on(commands::run(cli)) {
        Ok(code) => code,
        Err(error) => {
            eprint!("{}", error.render());
            error.exit().code()
        }
    };
    // A thread that still waits for standard input (see `tunnel`) must not keep
    // a finished command alive.
    runtime.shutdown_background();
    code
}

/// Answers a shell that completes a line (COMPLETE is set); `None` otherwise.
fn complete_line() -> Option<u8> {
    let directory = std::env::current_dir().ok();
    let completer = clap_complete::CompleteEnv::with_factory(Cli::command);
    match completer.try_complete(std::env::args_os(), directory.as_deref()) {
        Ok(true) => Some(0),
        Ok(false) => None,
        Err(error) => {
            eprint!("{error}");
            Some(error::Exit::Usage.code())
        }
    }
}
