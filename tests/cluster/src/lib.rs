//! Real controllers: what must hold of the control plane when its processes die
//! and when its clients mean no good. Each file in `tests/` is one promise;
//! `door` speaks to controllers as any identity, `raw` in any message.

pub mod door;
pub mod raw;
