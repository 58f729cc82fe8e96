//! The user's terminal, raw while a console is open: every key goes to the
//! guest, also Ctrl-C. It is as before again on every way out.

use std::io;

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr};

/// The settings to come back to; restored when dropped, also by a panic.
#[derive(Debug)]
pub struct Raw(Termios);

impl Raw {
    /// Makes standard input raw.
    pub fn enter() -> io::Result<Self> {
        let stdin = io::stdin();
        let before = tcgetattr(&stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        let guard = Self(before);
        tcsetattr(&stdin, OptionalActions::Drain, &raw)?;
        Ok(guard)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let stdin = io::stdin();
        // A terminal that is gone needs no settings.
        if isatty(&stdin) {
            let _ = tcsetattr(&stdin, OptionalActions::Flush, &self.0);
        }
    }
}
