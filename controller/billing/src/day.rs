//! UTC days: the column of a bill. Calendar arithmetic only; no time zones and
//! no leap seconds, since replicated time has neither. Called by `line` and
//! `rate`.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};
use nube_types::TimestampMs;

/// Seconds in a UTC day (no leap seconds: see `TimestampMs`).
pub const SECONDS_PER_DAY: u64 = 86_400;
/// A later day could not be turned back into a `TimestampMs`.
const DAY_MAX: u64 = u64::MAX / (SECONDS_PER_DAY * 1000) - 1;
/// Days in 400 Gregorian years: the calendar repeats after them.
const DAYS_PER_ERA: u64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH_SHIFT: u64 = 719_468;

/// A day in UTC, counted from 1970-01-01. Prints as `2026-11-22`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub struct UtcDay(#[n(0)] pub u64);

/// Why a text is not a day.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not a day of the form 2026-11-22")]
pub struct ParseDayError {
    /// The refused text, escaped and cut to a printable length.
    pub value: String,
}

impl UtcDay {
    /// The day that holds a whole second since the epoch.
    #[must_use]
    pub fn of_second(second: u64) -> Self {
        Self(second / SECONDS_PER_DAY)
    }

    /// The first second of the day, since the epoch.
    #[must_use]
    pub fn first_second(self) -> u64 {
        self.0.saturating_mul(SECONDS_PER_DAY)
    }

    /// The first second after the day, since the epoch.
    #[must_use]
    pub fn end_second(self) -> u64 {
        self.first_second().saturating_add(SECONDS_PER_DAY)
    }

    /// Midnight at which the day begins.
    #[must_use]
    pub fn start(self) -> TimestampMs {
        TimestampMs(self.first_second().saturating_mul(1000))
    }

    /// Midnight at which the day ends (not part of it).
    #[must_use]
    pub fn end(self) -> TimestampMs {
        TimestampMs(self.end_second().saturating_mul(1000))
    }

    /// The day of a calendar date; `None` for a date that does not exist or
    /// lies before 1970.
    #[must_use]
    pub fn from_date(year: u64, month: u64, day: u64) -> Option<Self> {
        if !(1970..=400_000_000).contains(&year) || !(1..=12).contains(&month) || day == 0 {
            return None;
        }
        // Years begin in March here, so that the leap day is a year's last day.
        let shifted = if month <= 2 { year - 1 } else { year };
        let (era, year_of_era) = (shifted / 400, shifted % 400);
        let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = (era * DAYS_PER_ERA + day_of_era).checked_sub(EPOCH_SHIFT)?;
        // The way back refuses 31 April and 29 February of common years.
        let found = Self(days);
        (days <= DAY_MAX && found.date() == (year, month, day)).then_some(found)
    }

    /// Year, month (1-12) and day of the month (1-31).
    #[must_use]
    pub fn date(self) -> (u64, u64, u64) {
        let shifted = self.0.min(DAY_MAX) + EPOCH_SHIFT;
        let (era, day_of_era) = (shifted / DAYS_PER_ERA, shifted % DAYS_PER_ERA);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = (month_from_march + 2) % 12 + 1;
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        (year, month, day)
    }
}

impl From<TimestampMs> for UtcDay {
    fn from(instant: TimestampMs) -> Self {
        Self(instant.day())
    }
}

impl fmt::Display for UtcDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.date();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

impl FromStr for UtcDay {
    type Err = ParseDayError;

    /// Accepts exactly what `Display` prints.
    fn from_str(text: &str) -> Result<Self, ParseDayError> {
        let refuse = || ParseDayError {
            value: text
                .chars()
                .take(40)
                .collect::<String>()
                .escape_debug()
                .to_string(),
        };
        let mut numbers = text.splitn(3, '-').map(str::parse::<u64>);
        let mut next = || numbers.next().and_then(Result::ok).ok_or_else(refuse);
        let (year, month, day) = (next()?, next()?, next()?);
        let found = Self::from_date(year, month, day).ok_or_else(refuse)?;
        if found.to_string() == text {
            Ok(found)
        } else {
            Err(refuse())
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn known_days_print_and_parse_back() {
        let table = [
            (0, "1970-01-01"),
            (58, "1970-02-28"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (20_454, "2026-01-01"),
            (20_779, "2026-11-22"),
            (47_540, "2100-02-28"),
            (47_541, "2100-03-01"),
        ];
        for (days, text) in table {
            assert_eq!(UtcDay(days).to_string(), text);
            assert_eq!(text.parse(), Ok(UtcDay(days)));
        }
    }

    #[test]
    fn every_day_of_four_hundred_years_comes_back_and_in_order() {
        let mut before = (1969, 12, 31);
        for days in 0..=DAYS_PER_ERA {
            let date = UtcDay(days).date();
            assert!(date > before, "{date:?} after {before:?}");
            assert_eq!(
                UtcDay::from_date(date.0, date.1, date.2),
                Some(UtcDay(days))
            );
            before = date;
        }
    }

    #[test]
    fn dates_that_do_not_exist_are_refused() {
        for bad in [
            "",
            "2026",
            "2026-11",
            "2026-11-31",
            "2026-02-29",
            "2026-13-01",
            "2026-00-01",
            "2026-1-1",
            "+2026-01-01",
            "2026-01-01 ",
            "1969-12-31",
            "99999999999999999999-01-01",
        ] {
            assert!(bad.parse::<UtcDay>().is_err(), "{bad}");
        }
    }
}
