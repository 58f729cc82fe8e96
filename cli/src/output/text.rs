//! Small texts for people: money, durations, times, sizes, and the escaping
//! that keeps other people's texts from driving a terminal.

use nube_types::{Mib, Nanos};

/// Escapes control characters and the marks that turn the reading direction.
#[must_use]
pub fn escape(text: &str) -> String {
    let hostile = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if hostile(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Money with at least `decimals_min` decimals and no more than it needs.
#[must_use]
pub fn money(nanos: i64, decimals_min: usize) -> String {
    let all = Nanos(nanos).to_string();
    let point = all.find('.').unwrap_or(all.len());
    let shortest = (point + 1 + decimals_min).min(all.len());
    let mut end = all.len();
    while end > shortest && all.as_bytes()[end - 1] == b'0' {
        end -= 1;
    }
    all[..end].to_owned()
}

/// Memory or disk, as `512 MiB` or `2 GiB`.
#[must_use]
pub fn mib(amount: u64) -> String {
    Mib(amount).to_string()
}

/// An amount that is counted, not chosen: MiB, or GiB with a decimal if it
/// needs one, as `15.5 GiB`.
#[must_use]
pub fn amount_mib(amount: u64) -> String {
    let tenths = (u128::from(amount) * 10 + 512) / 1024;
    match (amount, tenths % 10) {
        (0..1024, _) => mib(amount),
        (_, 0) => format!("{} GiB", tenths / 10),
        (_, tenth) => format!("{}.{tenth} GiB", tenths / 10),
    }
}

/// Used of total in GiB with one decimal, as `1.5/16.0`.
#[must_use]
pub fn gib_of(used_mib: u64, total_mib: u64) -> String {
    let gib = |mib: u64| {
        let tenths = (u128::from(mib) * 10 + 512) / 1024;
        format!("{}.{}", tenths / 10, tenths % 10)
    };
    format!("{}/{}", gib(used_mib), gib(total_mib))
}

/// A bill's time: `h:mm:ss`, exact to the second.
#[must_use]
pub fn hms(seconds: u64) -> String {
    format!(
        "{}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// A moment in UTC to the second, as `2026-11-22 23:28:01Z`; `-` for none.
#[must_use]
pub fn time(ms: u64) -> String {
    let timestamp = i64::try_from(ms)
        .ok()
        .filter(|ms| *ms != 0)
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    match timestamp {
        Some(timestamp) => timestamp.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        None => "-".to_owned(),
    }
}

/// How long ago, in its largest unit: `5s`, `3m`, `2h`, `4d`.
#[must_use]
pub fn age(since_ms: u64, now_ms: u64) -> String {
    let seconds = now_ms.saturating_sub(since_ms) / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A role as a word; `-` for none.
#[must_use]
pub fn role(role: nube_proto::v1::AccessRole) -> String {
    match role {
        nube_proto::v1::AccessRole::Unspecified => "-".to_owned(),
        role => enum_word(role.as_str_name(), "ACCESS_ROLE"),
    }
}

/// The local clock, for ages only.
#[must_use]
pub fn now_ms() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)
}

/// `-` instead of nothing, so that columns stay countable.
#[must_use]
pub fn or_dash(text: &str) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        text.to_owned()
    }
}

/// `1 node`, `2 nodes`.
#[must_use]
pub fn plural(count: usize, noun: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{s}")
}

/// The name of an enum value without its prefix, in lower case:
/// `INSTANCE_STATE_RUNNING` → `running`.
#[must_use]
pub fn enum_word(full: &str, prefix: &str) -> String {
    let word = full.strip_prefix(prefix).unwrap_or(full);
    word.trim_start_matches('_').to_lowercase()
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn money_keeps_what_it_needs() {
        assert_eq!(money(2_000_000, 4), "0.0020");
        assert_eq!(money(1_460_000_000, 2), "1.46");
        assert_eq!(money(556, 4), "0.000000556");
        assert_eq!(money(0, 2), "0.00");
        assert_eq!(money(-1_500_000_000, 2), "-1.50");
        assert_eq!(money(5_000_000_000, 9), "5.000000000");
    }

    #[test]
    fn durations_and_times_print() {
        assert_eq!(hms(0), "0:00:00");
        assert_eq!(hms(3723), "1:02:03");
        assert_eq!(hms(360_000), "100:00:00");
        assert_eq!(time(0), "-");
        assert_eq!(time(1_790_000_000_000), "2026-09-21 14:13:20Z");
        assert_eq!(time(u64::MAX), "-");
        assert_eq!(age(0, 59_000), "59s");
        assert_eq!(age(5_000, 1_000), "0s");
        assert_eq!(age(0, 7_300_000), "2h");
    }

    #[test]
    fn hostile_text_is_escaped_and_plain_text_is_not() {
        assert_eq!(escape("naïve – ok"), "naïve – ok");
        assert_eq!(escape("a\u{1b}[2J\nb"), "a\\u{1b}[2J\\nb");
        assert_eq!(escape("\u{202e}txt"), "\\u{202e}txt");
    }

    #[test]
    fn capacities_print() {
        assert_eq!(gib_of(512, 4096), "0.5/4.0");
        assert_eq!(gib_of(0, 0), "0.0/0.0");
        assert_eq!(amount_mib(384), "384 MiB");
        assert_eq!(amount_mib(15_872), "15.5 GiB");
        assert_eq!(amount_mib(16_384), "16 GiB");
        assert_eq!(enum_word("NODE_STATE_READY", "NODE_STATE"), "ready");
    }
}
