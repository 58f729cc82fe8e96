//! Amounts: memory and disk in MiB, money in nano-units of the currency.
//! Integers only; arithmetic that could overflow is checked.

use std::fmt;
use std::iter::Sum;

use minicbor::{Decode, Encode};

/// Mebibytes (1,048,576 bytes).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub struct Mib(#[n(0)] pub u64);

impl fmt::Display for Mib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 >= 1024 && self.0.is_multiple_of(1024) {
            write!(f, "{} GiB", self.0 / 1024)
        } else {
            write!(f, "{} MiB", self.0)
        }
    }
}

/// Money in nano-units (10⁻⁹) of the price book's currency. `i64` holds nine
/// thousand million units: intermediate products use `i128`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub struct Nanos(#[n(0)] pub i64);

impl Nanos {
    /// Nano-units in one unit of the currency.
    pub const PER_UNIT: i64 = 1_000_000_000;

    /// The sum, pinned at the largest amount instead of wrapping.
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sum for Nanos {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self(0), Self::saturating_add)
    }
}

impl fmt::Display for Nanos {
    /// All nine decimals: `0.002000000`. Shorter forms are the reader's choice.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let value = self.0.unsigned_abs();
        let unit = Self::PER_UNIT.unsigned_abs();
        write!(f, "{sign}{}.{:09}", value / unit, value % unit)
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn money_prints_every_decimal() {
        assert_eq!(Nanos(2_000_000).to_string(), "0.002000000");
        assert_eq!(Nanos(-1_500_000_000).to_string(), "-1.500000000");
        assert_eq!(Nanos(i64::MIN).to_string(), "-9223372036.854775808");
    }

    #[test]
    fn memory_prints_in_the_larger_whole_unit() {
        assert_eq!(Mib(512).to_string(), "512 MiB");
        assert_eq!(Mib(2048).to_string(), "2 GiB");
        assert_eq!(Mib(1025).to_string(), "1025 MiB");
    }
}
