//! Stories with real guests: each file in `tests/` is one thing a user must be
//! able to rely on. They need root and the micro image; `tests/run` brings both.
