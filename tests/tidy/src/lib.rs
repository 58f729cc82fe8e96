//! Tidy: the tree's own rules as tests. What a reviewer would have to remember
//! is checked here, and each finding says the file, the rule and what to do.
//!
//! | file | rule |
//! |---|---|
//! | `layering` | which room may know which, and which crates |
//! | `words` | clocks, randomness, hash maps, files and floats in pure rooms |
//! | `shape` | sizes, headers, file names |
//! | `text` | notes without an issue, shells, paths of a build machine |
//! | `lock` | crates and versions that must not be in the tree |
//! | `licence` | licences that may be shipped |
//!
//! The rules are tables at the top of each file: change them there, with a
//! reason. Scanners are pure functions over text and are themselves tested on
//! small bad samples. Only `tree` and `packages` read anything. Run by
//! `cargo test -p nube-tidy`; the tests are in `tests/`.

#![forbid(unsafe_code)]

pub mod finding;
pub mod layering;
pub mod licence;
pub mod lock;
pub mod packages;
pub mod rust_text;
pub mod shape;
pub mod text;
pub mod tree;
pub mod words;

pub use finding::{Finding, assert_clean};
