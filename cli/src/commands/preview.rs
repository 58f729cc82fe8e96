//! `launch --dry-run`: price, what is left of the quota, the hosts and why not
//! the others, and the command that launches exactly so.

use nube_proto::v1::instance_service_client::InstanceServiceClient;
use nube_proto::v1::{HostFailurePolicy, LaunchPreview, QuotaLeft};

use super::{App, explain, launch};
use crate::args::instance::Launch;
use crate::args::project::UNLIMITED;
use crate::error::{Exit, Result};
use crate::output::table::{Fields, Look, Table, Tone, Value};
use crate::output::text::{amount_mib, escape, money, plural, time};

/// More explanations than this say nothing new on a screen.
const PLACEMENTS_SHOWN_MAX: usize = 3;

/// `launch --dry-run`; the exit code is the refusal's.
pub async fn run(app: &App, args: Launch) -> Result<u8> {
    app.output.refuse_csv()?;
    let client = app.client()?;
    let request = launch::request(&client, args)?;
    let policy = request.on_host_failure();
    let preview = call!(
        client,
        "preview",
        InstanceServiceClient.preview_launch(request)
    )?;
    let again = again(std::env::args(), preview.revision);
    app.output
        .message(&preview, |look| view(look, &preview, policy, &again))?;
    Ok(match preview.refusal.is_empty() {
        true => 0,
        false => Exit::NoCapacity.code(),
    })
}

/// The command that was typed, as the launch itself.
fn again(typed: impl Iterator<Item = String>, revision: u64) -> String {
    let mut words = Vec::new();
    let mut skip = false;
    let mut rest = None;
    for word in typed {
        if word == "--" && rest.is_none() {
            rest = Some(words.len());
        }
        let condition = word == "--if-revision";
        if std::mem::take(&mut skip) {
            continue;
        }
        if rest.is_none()
            && (condition || word == "--dry-run" || word.starts_with("--if-revision="))
        {
            skip = condition;
            continue;
        }
        words.push(quoted(&word));
    }
    // Behind `--` no flag is one any more.
    let end = rest.unwrap_or(words.len());
    words.insert(end, format!("--if-revision {revision}"));
    words.join(" ")
}

/// One word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,@%+".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

fn view(look: Look, preview: &LaunchPreview, policy: HostFailurePolicy, again: &str) -> String {
    let mut fields = Fields::default();
    let hour = money(preview.price_nanos_per_hour, 4);
    let month = money(preview.price_nanos_per_month, 2);
    let currency = &preview.currency;
    fields.add(
        "price",
        format!("{hour} {currency} per hour, while running"),
    );
    fields.add("", format!("{month} {currency} per month of 730 hours"));
    let at = format!("{}, {}", preview.revision, time(preview.time_ms));
    fields.add("revision", at);
    if policy == HostFailurePolicy::Replace {
        let what = "replaced on another host, with a new disk from the image";
        fields.add("if lost", what);
    }
    let mut text = fields.render();
    if !preview.quota.is_empty() {
        text.push_str(&format!("\n{}", quota(look, &preview.quota)));
    }
    for placement in preview.placements.iter().take(PLACEMENTS_SHOWN_MAX) {
        text.push_str(&format!("\n{}", explain::view(look, placement)));
    }
    let rest = preview
        .placements
        .get(PLACEMENTS_SHOWN_MAX..)
        .unwrap_or(&[]);
    if !rest.is_empty() {
        text.push_str(&format!("\nand {} more:\n", plural(rest.len(), "instance")));
        for placement in rest {
            let host = explain::chosen(placement).map_or("no host", explain::host_name);
            let line = format!("{} on {host}", placement.instance_name);
            text.push_str(&format!("  {}\n", escape(&line)));
        }
    }
    if preview.refusal.is_empty() {
        let line = "Nothing was launched. Exactly this, or nothing:";
        text.push_str(&format!("\n{line}\n  {}\n", escape(again)));
    } else {
        let mut lines = preview.refusal.trim_end().lines().map(escape);
        let first = lines.next().unwrap_or_default();
        text.push_str(&format!("\nThis would be refused: {first}\n"));
        text.extend(lines.map(|line| format!("  {line}\n")));
    }
    text
}

fn quota(look: Look, quota: &[QuotaLeft]) -> String {
    let mut table = Table::new(look, &["QUOTA", ">USED", ">ASKED", ">LEFT", ">LIMIT"]);
    for part in quota {
        let (name, size) = match part.resource.strip_suffix("_mib") {
            Some(name) => (name, true),
            None => (part.resource.as_str(), false),
        };
        let text = |amount: u64| match (amount, size) {
            (UNLIMITED, _) => "unlimited".to_owned(),
            (amount, true) => amount_mib(amount),
            (amount, false) => amount.to_string(),
        };
        let fits = part.used.saturating_add(part.asked) <= part.limit;
        let left = match part.limit {
            UNLIMITED => UNLIMITED,
            _ => part.left,
        };
        let tone = if fits { Tone::Plain } else { Tone::Bad };
        table.row([
            name.into(),
            text(part.used).into(),
            Value::new(text(part.asked), tone),
            text(left).into(),
            text(part.limit).into(),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod test {
    use super::super::explain::test::{redacted, sample};
    use super::*;

    fn preview() -> LaunchPreview {
        let part = |resource: &str, limit: u64, used: u64, asked: u64| QuotaLeft {
            resource: resource.into(),
            limit,
            used,
            asked,
            left: limit.saturating_sub(used + asked),
        };
        LaunchPreview {
            revision: 1042,
            price_nanos_per_hour: 2_000_000,
            price_nanos_per_month: 1_460_000_000,
            currency: "EUR".into(),
            quota: vec![
                part("instances", 10, 3, 1),
                part("vcpus", 20, 3, 1),
                part("memory_mib", 16_384, 384, 128),
                part("disk_mib", UNLIMITED, 3_072, 1_024),
            ],
            placements: vec![sample("web")],
            refusal: String::new(),
            time_ms: 1_790_000_000_000,
        }
    }

    #[test]
    fn previews_are_golden() {
        let again = "cloudctl launch micro --name web --if-revision 1042";
        let replace = HostFailurePolicy::Replace;
        let text = view(Look::default(), &preview(), replace, again);
        crate::golden::check_narrow("preview", &text);
        let mut many = preview();
        many.placements = (1..=5).map(|n| redacted(&format!("web-{n}"))).collect();
        many.placements[4].hosts.remove(0);
        (many.quota[0].asked, many.quota[0].left) = (8, 0);
        many.refusal = "quota: instances: 8 asked, 7 left of 10\nask less".into();
        let text = view(Look::default(), &many, HostFailurePolicy::Keep, again);
        assert!(!text.contains("--if-revision"), "{text}");
        crate::golden::check_narrow("preview_refused", &text);
    }

    #[test]
    fn the_command_is_the_one_that_was_typed() {
        let again = |line: &[&str]| again(line.iter().map(|word| (*word).to_owned()), 7);
        assert_eq!(
            again(&[
                "cloudctl",
                "launch",
                "--dry-run",
                "micro",
                "--label",
                "a=b c"
            ]),
            "cloudctl launch micro --label 'a=b c' --if-revision 7"
        );
        assert_eq!(
            again(&[
                "cloudctl",
                "launch",
                "micro",
                "--if-revision",
                "5",
                "--dry-run"
            ]),
            "cloudctl launch micro --if-revision 7"
        );
        assert_eq!(
            again(&[
                "cloudctl",
                "launch",
                "--if-revision=5",
                "--name",
                "it's",
                "x"
            ]),
            "cloudctl launch --name 'it'\\''s' x --if-revision 7"
        );
        assert_eq!(
            again(&["cloudctl", "launch", "--dry-run", "--", "--dry-run"]),
            "cloudctl launch --if-revision 7 -- --dry-run"
        );
    }
}
