//! `cloudctl`: parse, run, say what went wrong, exit with the documented code.
//! Everything else lives in the library beside this file.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(nube_cli::run())
}
