//! The one rounding of a line: seconds × price per hour ÷ 3600, or bytes × price
//! per GiB ÷ 2^30; half to even.
//! Nothing else in this crate divides money. Called by `rate` and `explain`.
//!
//! Why to the nearest, and ties to even: the error of a line is at most half a
//! nano-unit, and over many lines ties go up as often as down, so a large bill
//! does not drift away from the exact sum. Why once per line: a total is then
//! the plain sum of what is printed, and anybody can add it up.

use nube_types::Nanos;

/// Prices are per hour, usage is in seconds.
pub const SECONDS_PER_HOUR: u64 = 3_600;
/// Prices of traffic are per GiB, traffic is in bytes.
pub const BYTES_PER_GIB: u64 = 1 << 30;

/// Which way a quotient went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// No remainder.
    Exact,
    /// The remainder is below one half.
    Down,
    /// The remainder is above one half.
    Up,
    /// Exactly one half, and the quotient is even: it stays.
    TieDownToEven,
    /// Exactly one half, and the quotient is odd: one up.
    TieUpToEven,
    /// Above the largest amount that `Nanos` holds: pinned there. Limits on
    /// prices make this unreachable for real usage.
    Pinned,
}

/// A rounding with everything needed to check it by hand:
/// `numerator = quotient × denominator + remainder`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rounded {
    /// Quantity × price: seconds × nano-units per hour, or bytes × nano-units per
    /// GiB.
    pub numerator: u128,
    /// Seconds per hour, or bytes per GiB.
    pub denominator: u64,
    /// Whole nano-units, before rounding.
    pub quotient: u128,
    /// What is left, in 1/denominator of a nano-unit.
    pub remainder: u64,
    /// Which way it went.
    pub rounding: Rounding,
    /// The rounded amount.
    pub amount: Nanos,
}

impl std::fmt::Display for Rounded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "amount: {} / {} nano-units, remainder {}, rounded once, half to even: {}",
            self.numerator, self.denominator, self.remainder, self.amount
        )
    }
}

/// The price of some seconds. Monotone in both arguments; never overflows.
#[must_use]
pub fn price_of(seconds: u64, nanos_per_hour: u64) -> Rounded {
    divide(seconds, nanos_per_hour, SECONDS_PER_HOUR)
}

/// The price of some bytes. As [`price_of`].
#[must_use]
pub fn price_of_bytes(bytes: u64, nanos_per_gib: u64) -> Rounded {
    divide(bytes, nanos_per_gib, BYTES_PER_GIB)
}

fn divide(quantity: u64, price: u64, per: u64) -> Rounded {
    let numerator = u128::from(quantity) * u128::from(price);
    let denominator = u128::from(per);
    let (quotient, remainder) = (numerator / denominator, numerator % denominator);
    let rounding = match (remainder * 2).cmp(&denominator) {
        _ if remainder == 0 => Rounding::Exact,
        std::cmp::Ordering::Less => Rounding::Down,
        std::cmp::Ordering::Greater => Rounding::Up,
        std::cmp::Ordering::Equal if quotient % 2 == 0 => Rounding::TieDownToEven,
        std::cmp::Ordering::Equal => Rounding::TieUpToEven,
    };
    let up = matches!(rounding, Rounding::Up | Rounding::TieUpToEven);
    let (amount, rounding) = match i64::try_from(quotient + u128::from(up)) {
        Ok(nanos) => (Nanos(nanos), rounding),
        Err(_) => (Nanos(i64::MAX), Rounding::Pinned),
    };
    Rounded {
        numerator,
        denominator: per,
        quotient,
        // A remainder is below the denominator, so nothing is cut here.
        remainder: remainder as u64,
        rounding,
        amount,
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn each_way_of_rounding() {
        let table = [
            (3_600, 7, 7, Rounding::Exact),
            (0, 7, 0, Rounding::Exact),
            (1, 1_799, 0, Rounding::Down),
            (1, 1_801, 1, Rounding::Up),
            (1, 1_800, 0, Rounding::TieDownToEven),
            (3, 1_800, 2, Rounding::TieUpToEven),
            (5, 1_800, 2, Rounding::TieDownToEven),
            (u64::MAX, u64::MAX, i64::MAX, Rounding::Pinned),
        ];
        for (seconds, price, amount, rounding) in table {
            let rounded = price_of(seconds, price);
            assert_eq!(
                (rounded.amount, rounded.rounding),
                (Nanos(amount), rounding)
            );
            let back = rounded.quotient * u128::from(rounded.denominator);
            assert_eq!(back + u128::from(rounded.remainder), rounded.numerator);
        }
    }

    #[test]
    fn a_hundred_years_at_the_highest_price_fit() {
        let seconds = 100 * 366 * 86_400;
        let rounded = price_of(seconds, crate::price::PRICE_NANOS_PER_HOUR_MAX);
        assert_eq!(rounded.rounding, Rounding::Exact);
    }
}
