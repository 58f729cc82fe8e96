//! Rating of traffic to the internet: bytes of a day under one price version,
//! times the price of a GiB, rounded once. The ledger's rows are made when a
//! report is committed, so nothing is cut here.

use std::ops::Range;

use nube_types::{InstanceId, Nanos, ProjectId, TimestampMs};

use crate::day::UtcDay;
use crate::line::{LineId, UNPRICED};
use crate::price::PriceBook;
use crate::round::{BYTES_PER_GIB, Rounded, price_of_bytes};
use crate::subject::INTERNET_OUT;

/// What one instance sent and received on one day under one price version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficRow {
    /// Whose.
    pub instance: InstanceId,
    /// Who pays.
    pub project: ProjectId,
    /// The day that the reports were committed on.
    pub day: UtcDay,
    /// The price version in force then, or `UNPRICED`.
    pub price_version: u32,
    /// To the internet: what is priced.
    pub bytes_out: u64,
    /// From the internet: free of charge, shown.
    pub bytes_in: u64,
    /// Log index of the first report in it.
    pub first_index: u64,
    /// Log index of the last report in it.
    pub last_index: u64,
}

/// A row of a bill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficLine {
    /// What was rated.
    pub row: TrafficRow,
    /// Nano-units per GiB.
    pub price_nanos_per_gib: u64,
    /// `bytes_out × price ÷ 2^30`, rounded once.
    pub rounded: Rounded,
}

impl TrafficLine {
    /// The stable name of this line.
    #[must_use]
    pub fn id(&self) -> LineId {
        LineId {
            subject: self.row.instance.into(),
            day: self.row.day,
            resource: INTERNET_OUT.to_owned(),
            price_version: self.row.price_version,
        }
    }

    /// The rounded amount.
    #[must_use]
    pub fn amount(&self) -> Nanos {
        self.rounded.amount
    }

    /// The walk from bytes to the amount, for people.
    #[must_use]
    pub fn steps(&self) -> Vec<String> {
        let row = &self.row;
        let mut steps = vec![format!(
            "{} bytes to the internet and {} from it, as reported by log entries {} to {}",
            row.bytes_out, row.bytes_in, row.first_index, row.last_index
        )];
        if row.price_version == UNPRICED {
            steps.push("the price book has no price for it: nothing is charged".to_owned());
        } else {
            let price = i64::try_from(self.price_nanos_per_gib).unwrap_or(i64::MAX);
            let version = row.price_version;
            steps.push(format!(
                "price version {version}: {} per GiB out",
                Nanos(price)
            ));
        }
        steps.push(self.rounded.to_string());
        steps
    }
}

/// Rates the rows of the days that begin in `range`, in their own order.
#[must_use]
pub fn rate_traffic(
    rows: impl IntoIterator<Item = TrafficRow>,
    book: &PriceBook,
    range: Range<TimestampMs>,
) -> Vec<TrafficLine> {
    rows.into_iter()
        .filter(|row| range.contains(&row.day.start()))
        .map(|mut row| {
            let version = book.version(row.price_version);
            let price = version.and_then(|version| version.entries.get(INTERNET_OUT));
            if price.is_none() {
                row.price_version = UNPRICED;
            }
            let price_nanos_per_gib = price.copied().unwrap_or_default();
            TrafficLine {
                rounded: price_of_bytes(row.bytes_out, price_nanos_per_gib),
                price_nanos_per_gib,
                row,
            }
        })
        .collect()
}

/// The same amount by another way: whole GiB and the rest apart, half up with odd
/// ties taken back. For `bill verify`, which must not repeat a mistake of
/// [`rate_traffic`].
#[must_use]
pub fn amount_again(bytes: u64, nanos_per_gib: u64) -> Nanos {
    let (whole, rest) = (bytes / BYTES_PER_GIB, bytes % BYTES_PER_GIB);
    let part = u128::from(rest) * u128::from(nanos_per_gib);
    let half = u128::from(BYTES_PER_GIB / 2);
    let mut nanos = (part + half) / u128::from(BYTES_PER_GIB);
    let base = u128::from(whole) * u128::from(nanos_per_gib);
    let tie = (part + half).is_multiple_of(u128::from(BYTES_PER_GIB));
    if tie && (base + nanos) % 2 == 1 {
        nanos -= 1;
    }
    Nanos(i64::try_from(base + nanos).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn book() -> PriceBook {
        let mut book = PriceBook::default_book(TimestampMs(1_000));
        let entries = BTreeMap::from([(INTERNET_OUT.to_owned(), 20_000_000)]);
        book.versions[0].entries.extend(entries);
        book
    }

    fn row(day: u64, price_version: u32, bytes_out: u64) -> TrafficRow {
        TrafficRow {
            instance: InstanceId(7),
            project: ProjectId(2),
            day: UtcDay(day),
            price_version,
            bytes_out,
            bytes_in: 9,
            first_index: 3,
            last_index: 5,
        }
    }

    #[test]
    fn a_gib_costs_its_price_and_a_day_is_a_line() {
        let all = TimestampMs(0)..TimestampMs(u64::MAX);
        let rows = vec![row(1, 1, BYTES_PER_GIB), row(2, 1, BYTES_PER_GIB / 2)];
        let lines = rate_traffic(rows, &book(), all);
        assert_eq!(lines[0].amount(), Nanos(20_000_000));
        assert_eq!(lines[1].amount(), Nanos(10_000_000));
        let id = lines[0].id().to_string();
        assert_eq!(id, "i-0000000000000007/1970-01-02/internet-out/v1");
        assert_eq!(id.parse(), Ok(lines[0].id()));
        assert!(lines[0].steps().join("\n").contains("per GiB"));
    }

    #[test]
    fn what_the_book_does_not_price_is_free_and_says_so() {
        let all = TimestampMs(0)..TimestampMs(u64::MAX);
        let lines = rate_traffic(vec![row(1, 9, 1 << 40)], &book(), all);
        assert_eq!(
            (lines[0].amount(), lines[0].row.price_version),
            (Nanos(0), UNPRICED)
        );
        let day = UtcDay(1);
        let other = rate_traffic(vec![row(2, 1, 1)], &book(), day.start()..day.end());
        assert!(other.is_empty());
    }

    proptest! {
        #[test]
        fn both_ways_give_one_amount(bytes in any::<u64>(), price in 0..10_000_000_000_u64) {
            let rounded = price_of_bytes(bytes, price);
            prop_assert_eq!(rounded.amount, amount_again(bytes, price));
        }

        #[test]
        fn ties_go_to_even_in_both(whole in 0..1_000_u64, odd in 0..1_000_u64) {
            let bytes = whole * BYTES_PER_GIB + BYTES_PER_GIB / 2;
            let price = 2 * odd + 1;
            prop_assert_eq!(price_of_bytes(bytes, price).amount, amount_again(bytes, price));
        }
    }
}
