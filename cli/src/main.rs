//! `cloudctl`: parse, run, say what went wrong, exit with the documented code.
//! Everything else lives in the library beside this file.

fn main() {
    // `exit` instead of a return: a thread that still waits for standard input
    // (see `tunnel`) must not keep a finished command alive.
    std::process::exit(nube_cli::run());
}
