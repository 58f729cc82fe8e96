//! The price book: what an hour of a resource costs, from when on. Append-only
//! and effective-dated: a past price never changes, so a past bill never does.
//! Not here: usage, rounding. Called by `rate`, dry runs and price commands.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};
use nube_types::{Nanos, TimestampMs};

/// Hours in a billing month for price displays (365 × 24 ÷ 12). Bills use
/// seconds; only the "per month" column of price lists uses this.
pub const HOURS_PER_MONTH: u64 = 730;
/// Ten thousand currency units an hour. A hundred years at this price still fit
/// `Nanos`; a larger limit could overflow a total, a smaller one could refuse a
/// real machine.
pub const PRICE_NANOS_PER_HOUR_MAX: u64 = 10_000_000_000_000;
/// An hour, as the oldest clouds charged. A longer minimum would surprise.
pub const MINIMUM_SECONDS_MAX: u32 = 3_600;
/// What EC2 charges at least for a run.
pub const MINIMUM_SECONDS_DEFAULT: u32 = 60;
/// Resources of one version: a version rides in one log entry.
pub const ENTRIES_MAX: usize = 1_000;
/// Versions of a book: the book stays in memory and each rated second scans it.
pub const VERSIONS_MAX: usize = 1_000;
/// A resource name is a table column and part of a line id.
pub const RESOURCE_BYTES_MAX: usize = 63;

/// Prices that hold from one instant until the next version's.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct PriceVersion {
    /// Ordinal from 1; lines name it. 0 stands for "no price" in a line.
    #[n(0)]
    pub version: u32,
    /// The first instant at which this version holds.
    #[n(1)]
    pub effective_from: TimestampMs,
    /// A run shorter than this is charged as this long. Seconds.
    #[n(2)]
    pub minimum_seconds: u32,
    /// Resource (instance type name, `address`) → nano-units of the currency per
    /// hour; `internet-out` → per GiB.
    #[n(3)]
    pub entries: BTreeMap<String, u64>,
}

/// Why a new price version is refused. Deterministic, fit for a user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    /// It would change what is already rated.
    #[error("prices cannot start in the past: {effective_from} ms is not after {now} ms")]
    InThePast {
        /// Asked start, milliseconds since the epoch.
        effective_from: u64,
        /// Replicated time, milliseconds since the epoch.
        now: u64,
    },
    /// Versions are in order of time, and no two start together.
    #[error("prices must start after version {last}, which starts at {last_from} ms")]
    NotLater {
        /// The newest version in the book.
        last: u32,
        /// Its start, milliseconds since the epoch.
        last_from: u64,
    },
    /// A running instance would become free of charge by omission.
    #[error("resource `{resource}` has a price and the new version leaves it out")]
    ResourceDropped {
        /// The resource that the last version prices.
        resource: String,
    },
    /// Not 1 to 63 of a-z, 0-9, '.', '-'.
    #[error("`{resource}` is not a resource: 1 to {RESOURCE_BYTES_MAX} of a-z, 0-9, '.' and '-'")]
    BadResource {
        /// The refused name, escaped and cut to a printable length.
        resource: String,
    },
    /// Totals could overflow.
    #[error("price {price} of `{resource}` is above {PRICE_NANOS_PER_HOUR_MAX} nano-units an hour")]
    PriceTooHigh {
        /// The resource with that price.
        resource: String,
        /// The refused price, nano-units per hour.
        price: u64,
    },
    /// See `MINIMUM_SECONDS_MAX`.
    #[error("a minimum charge of {minimum_seconds} s is above {MINIMUM_SECONDS_MAX} s")]
    MinimumTooLong {
        /// The refused minimum.
        minimum_seconds: u32,
    },
    /// No entries, more than `ENTRIES_MAX`, or more than `VERSIONS_MAX` versions.
    #[error("a version has 1 to {ENTRIES_MAX} prices and a book at most {VERSIONS_MAX} versions")]
    Size,
}

/// All prices that ever held or are announced, in one currency.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct PriceBook {
    /// ISO 4217 code. A book never changes its currency.
    #[n(0)]
    pub currency: String,
    /// Rising in `version` and `effective_from`; changed by `add_version` only.
    #[n(1)]
    pub versions: Vec<PriceVersion>,
}

impl PriceBook {
    /// The book a new cluster starts with: EUR, four instance types.
    #[must_use]
    pub fn default_book(effective_from: TimestampMs) -> Self {
        let prices = [
            ("n1.micro", 2_000_000),
            ("n1.small", 5_000_000),
            ("n1.medium", 20_000_000),
            ("n1.large", 80_000_000),
        ];
        let entries = prices.map(|(name, price)| (name.to_owned(), price));
        Self {
            currency: "EUR".to_owned(),
            versions: vec![PriceVersion {
                version: 1,
                effective_from,
                minimum_seconds: MINIMUM_SECONDS_DEFAULT,
                entries: BTreeMap::from(entries),
            }],
        }
    }

    /// The book of a new cluster whose tenants rent networks as well. A price of
    /// `internet-out` is per GiB sent to the internet, not per hour.
    #[must_use]
    pub fn with_networks(effective_from: TimestampMs) -> Self {
        let mut book = Self::default_book(effective_from);
        for version in &mut book.versions {
            for (resource, price) in [("address", 5_000_000), ("internet-out", 20_000_000)] {
                version.entries.insert(resource.to_owned(), price);
            }
        }
        book
    }

    /// Appends prices that hold from `effective_from` and returns their version
    /// number. `now` is replicated time: nothing that is already rated changes.
    pub fn add_version(
        &mut self,
        now: TimestampMs,
        effective_from: TimestampMs,
        minimum_seconds: u32,
        entries: BTreeMap<String, u64>,
    ) -> Result<u32, PriceError> {
        if effective_from <= now {
            return Err(PriceError::InThePast {
                effective_from: effective_from.0,
                now: now.0,
            });
        }
        if minimum_seconds > MINIMUM_SECONDS_MAX {
            return Err(PriceError::MinimumTooLong { minimum_seconds });
        }
        check_entries(&entries)?;
        let version = self.check_successor(effective_from, &entries)?;
        self.versions.push(PriceVersion {
            version,
            effective_from,
            minimum_seconds,
            entries,
        });
        Ok(version)
    }

    fn check_successor(
        &self,
        effective_from: TimestampMs,
        entries: &BTreeMap<String, u64>,
    ) -> Result<u32, PriceError> {
        if self.versions.len() >= VERSIONS_MAX {
            return Err(PriceError::Size);
        }
        let Some(last) = self.versions.last() else {
            return Ok(1);
        };
        if effective_from <= last.effective_from {
            return Err(PriceError::NotLater {
                last: last.version,
                last_from: last.effective_from.0,
            });
        }
        if let Some(resource) = last
            .entries
            .keys()
            .find(|name| !entries.contains_key(*name))
        {
            return Err(PriceError::ResourceDropped {
                resource: resource.clone(),
            });
        }
        Ok(last.version.saturating_add(1))
    }

    /// The version in force at an instant; `None` before the first one.
    #[must_use]
    pub fn version_at(&self, instant: TimestampMs) -> Option<&PriceVersion> {
        let later = self
            .versions
            .partition_point(|version| version.effective_from <= instant);
        later
            .checked_sub(1)
            .and_then(|last| self.versions.get(last))
    }

    /// Version number and nano-units per hour of a resource at an instant.
    #[must_use]
    pub fn price_at(&self, resource: &str, instant: TimestampMs) -> Option<(u32, u64)> {
        let version = self.version_at(instant)?;
        let price = version.entries.get(resource)?;
        Some((version.version, *price))
    }

    /// The version with this number.
    #[must_use]
    pub fn version(&self, number: u32) -> Option<&PriceVersion> {
        self.versions
            .iter()
            .find(|version| version.version == number)
    }

    /// The first whole second after `second` whose price may differ from the
    /// price of `second`: a second is priced by the version at its start.
    #[must_use]
    pub(crate) fn next_change_second(&self, second: u64) -> Option<u64> {
        let starts = self
            .versions
            .iter()
            .map(|version| version.effective_from.0.div_ceil(1000));
        starts.filter(|start| *start > second).min()
    }
}

/// The price shown per month: `HOURS_PER_MONTH` hours, exact.
#[must_use]
pub fn month_price(nanos_per_hour: u64) -> Nanos {
    let nanos = u128::from(nanos_per_hour) * u128::from(HOURS_PER_MONTH);
    Nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
}

fn check_entries(entries: &BTreeMap<String, u64>) -> Result<(), PriceError> {
    if entries.is_empty() || entries.len() > ENTRIES_MAX {
        return Err(PriceError::Size);
    }
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-".contains(&b);
    for (resource, price) in entries {
        if !(1..=RESOURCE_BYTES_MAX).contains(&resource.len()) || !resource.bytes().all(allowed) {
            let shown: String = resource.chars().take(40).collect();
            return Err(PriceError::BadResource {
                resource: shown.escape_debug().to_string(),
            });
        }
        if *price > PRICE_NANOS_PER_HOUR_MAX {
            return Err(PriceError::PriceTooHigh {
                resource: resource.clone(),
                price: *price,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod test {
    use super::*;

    fn entries(prices: &[(&str, u64)]) -> BTreeMap<String, u64> {
        prices
            .iter()
            .map(|(name, price)| ((*name).to_owned(), *price))
            .collect()
    }

    fn book() -> PriceBook {
        PriceBook {
            currency: "EUR".to_owned(),
            versions: vec![PriceVersion {
                version: 1,
                effective_from: TimestampMs(10_000),
                minimum_seconds: 60,
                entries: entries(&[("a", 7)]),
            }],
        }
    }

    #[test]
    fn the_default_book_prices_its_four_types() {
        let book = PriceBook::default_book(TimestampMs(5));
        assert_eq!(
            book.price_at("n1.micro", TimestampMs(5)),
            Some((1, 2_000_000))
        );
        assert_eq!(book.price_at("n1.micro", TimestampMs(4)), None);
        assert_eq!(book.price_at("n9.none", TimestampMs(5)), None);
        assert_eq!(month_price(2_000_000).to_string(), "1.460000000");
    }

    #[test]
    fn networks_have_prices_beside_the_types() {
        let book = PriceBook::with_networks(TimestampMs(5));
        let price = |resource| book.price_at(resource, TimestampMs(5));
        assert_eq!(price("n1.micro"), Some((1, 2_000_000)));
        assert_eq!(price("address"), Some((1, 5_000_000)));
        assert_eq!(price("internet-out"), Some((1, 20_000_000)));
        assert!(check_entries(&book.versions[0].entries).is_ok());
    }

    #[test]
    fn a_new_version_leaves_every_past_price_alone() {
        let mut book = book();
        let added = book.add_version(
            TimestampMs(11_000),
            TimestampMs(20_500),
            0,
            entries(&[("a", 9)]),
        );
        assert_eq!(added, Ok(2));
        assert_eq!(book.price_at("a", TimestampMs(20_499)), Some((1, 7)));
        assert_eq!(book.price_at("a", TimestampMs(20_500)), Some((2, 9)));
        // The second 20 starts before the change, 21 is the first new one.
        assert_eq!(book.next_change_second(19), Some(21));
        assert_eq!(book.next_change_second(21), None);
    }

    #[test]
    fn each_bad_version_is_refused_with_its_reason() {
        let at = TimestampMs;
        let add = |now, from, minimum, prices: &[(&str, u64)]| {
            book()
                .add_version(at(now), at(from), minimum, entries(prices))
                .expect_err("refused")
        };
        assert!(matches!(
            add(30_000, 30_000, 60, &[("a", 1)]),
            PriceError::InThePast { .. }
        ));
        assert!(matches!(
            add(0, 10_000, 60, &[("a", 1)]),
            PriceError::NotLater { last: 1, .. }
        ));
        assert!(matches!(
            add(0, 20_000, 60, &[("b", 1)]),
            PriceError::ResourceDropped { .. }
        ));
        assert!(matches!(
            add(0, 20_000, 3_601, &[("a", 1)]),
            PriceError::MinimumTooLong { .. }
        ));
        assert!(matches!(add(0, 20_000, 60, &[]), PriceError::Size));
        assert!(matches!(
            add(0, 20_000, 60, &[("a/b", 1)]),
            PriceError::BadResource { .. }
        ));
        let high = PRICE_NANOS_PER_HOUR_MAX + 1;
        assert!(matches!(
            add(0, 20_000, 60, &[("a", high)]),
            PriceError::PriceTooHigh { .. }
        ));
    }

    #[test]
    fn the_book_reads_back_as_written() {
        let book = PriceBook::default_book(TimestampMs(1_800_000_000_000));
        let bytes = minicbor::to_vec(&book).expect("a Vec takes every write");
        assert_eq!(minicbor::decode::<PriceBook>(&bytes).ok(), Some(book));
    }
}
