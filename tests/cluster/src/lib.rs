//! Real controllers without guests: what must hold of the control plane when
//! its processes die. Each file in `tests/` is one promise.
