//! One request id, at most one effect: counted in the log (or in whatever lists
//! what really happened), and compared with what clients were told.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Something that happened because of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// The request's id.
    pub request: String,
    /// The log index, or another place that no two effects share.
    pub at: u64,
    /// What it made, as its answer names it.
    pub made: String,
}

/// A client was told that its request was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The request's id.
    pub request: String,
    /// The log index it was told.
    pub at: u64,
    /// What it was told was made.
    pub made: String,
}

/// A request that had another number of effects than it was told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EffectError {
    /// Two effects.
    #[error("one request took effect twice: {first:?} and {second:?}")]
    Twice {
        /// One effect.
        first: Effect,
        /// Another one.
        second: Effect,
    },
    /// Acknowledged, and nothing happened (or it was lost again).
    #[error("acknowledged and not there: {0:?}")]
    Lost(Ack),
    /// Acknowledged as something else than what happened.
    #[error("acknowledged as {told:?}, but it was {was:?}")]
    Other {
        /// What the client was told.
        told: Ack,
        /// What happened.
        was: Effect,
    },
}

/// Judges what happened against what clients were told. Every repetition of an
/// answer may be in `acks`: all must say the same.
///
/// # Errors
/// The first request with two effects, else the first acknowledgement that is not
/// true.
pub fn check(effects: &[Effect], acks: &[Ack]) -> Result<(), EffectError> {
    let mut happened: BTreeMap<&str, &Effect> = BTreeMap::new();
    for effect in effects {
        if let Some(first) = happened.insert(&effect.request, effect) {
            return Err(EffectError::Twice {
                first: first.clone(),
                second: effect.clone(),
            });
        }
    }
    for told in acks {
        match happened.get(told.request.as_str()) {
            None => return Err(EffectError::Lost(told.clone())),
            Some(was) if was.at != told.at || was.made != told.made => {
                return Err(EffectError::Other {
                    told: told.clone(),
                    was: (*was).clone(),
                });
            }
            Some(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod test {
    use super::{Ack, Effect, EffectError, check};

    fn effect(request: &str, at: u64, made: &str) -> Effect {
        Effect {
            request: request.into(),
            at,
            made: made.into(),
        }
    }

    fn ack(request: &str, at: u64, made: &str) -> Ack {
        Ack {
            request: request.into(),
            at,
            made: made.into(),
        }
    }

    #[test]
    fn one_effect_told_many_times_is_good() {
        let effects = [effect("r1", 4, "i-1"), effect("r2", 5, "i-2")];
        // r2's client never heard of it.
        assert_eq!(
            check(&effects, &[ack("r1", 4, "i-1"), ack("r1", 4, "i-1")]),
            Ok(())
        );
    }

    #[test]
    fn two_effects_are_found_even_if_nobody_was_told() {
        let effects = [
            effect("r1", 4, "i-1"),
            effect("r2", 5, "i-2"),
            effect("r1", 9, "i-3"),
        ];
        assert!(matches!(
            check(&effects, &[]),
            Err(EffectError::Twice {
                second: Effect { at: 9, .. },
                ..
            })
        ));
    }

    #[test]
    fn a_lost_acknowledged_request_is_found() {
        let lost = ack("r7", 4, "i-1");
        assert_eq!(
            check(&[effect("r1", 4, "i-1")], std::slice::from_ref(&lost)),
            Err(EffectError::Lost(lost))
        );
    }

    #[test]
    fn a_retry_that_is_told_something_else_is_found() {
        let effects = [effect("r1", 4, "i-1")];
        for told in [ack("r1", 5, "i-1"), ack("r1", 4, "i-2")] {
            assert!(matches!(
                check(&effects, &[ack("r1", 4, "i-1"), told.clone()]),
                Err(EffectError::Other { told: found, .. }) if found == told
            ));
        }
    }
}
