//! The oracles: they see everything, take part in nothing, and end the run at the first broken
//! law, named by its number in ARCHITECTURE.md.
//!
//! `reference` is the one history that all replicas must agree on; the others hold what
//! clients, watchers and hosts saw against it.

pub mod calls;
pub mod reference;
pub mod registers;
pub mod terms;
pub mod watch;

use crate::marks::Marks;

/// A broken law.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its number, as `A1`.
    pub law: &'static str,
    /// What was seen.
    pub text: String,
}

/// Ends the run: a law is broken. The runner catches this and names the seed.
pub fn fail(law: &'static str, text: impl Into<String>) -> ! {
    let text = text.into();
    std::panic::panic_any(Violation { law, text })
}

/// Ends the run unless a law holds.
pub fn hold(law: &'static str, holds: bool, text: impl FnOnce() -> String) {
    if !holds {
        fail(law, text());
    }
}

/// All oracles.
#[derive(Default)]
pub struct Judge {
    /// Elections (A6).
    pub terms: terms::Terms,
    /// The one history (A4, A5, A6, C2, C3, D2, D4, H).
    pub reference: reference::Reference,
    /// What clients saw (A1, A2, A3).
    pub calls: calls::Calls,
    /// What clients saw of limits (A2).
    pub registers: registers::Registers,
    /// What watchers saw (A9).
    pub watch: watch::Watchers,
    /// What a good run sometimes does.
    pub marks: Marks,
}
