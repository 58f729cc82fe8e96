//! Small protocols, explored in every order that can be. Where the simulator
//! plays the whole cloud a few thousand times, a model plays one protocol in all
//! ways, within bounds that are named.
//!
//! `explore` walks; `lease` is the protocol by which an instance may begin anew on
//! another host. The deciding pieces in it are the product's own.

pub mod explore;
pub mod lease;
