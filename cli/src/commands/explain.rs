//! `explain`: the hosts that were judged at an instance's launch. The same
//! table stands in `launch --dry-run`.

use nube_proto::v1::instance_service_client::InstanceServiceClient;
use nube_proto::v1::{GetInstanceRequest, HostVerdict, PlacementExplanation, PlacementStrategy};

use super::App;
use crate::args::event::Explain;
use crate::client::Client;
use crate::error::Result;
use crate::output::table::{Look, Table, Tone, Value};
use crate::output::text::{escape, or_dash, plural};

/// `explain`.
pub async fn run(app: &App, args: Explain) -> Result<()> {
    app.output.refuse_csv()?;
    let placement = get(&app.client()?, args.instance).await?;
    app.output
        .message(&placement, |look| view(look, &placement))
}

/// The answer kept from the launch.
pub async fn get(client: &Client, instance: String) -> Result<PlacementExplanation> {
    let request = GetInstanceRequest { instance };
    call!(
        client,
        "explain",
        InstanceServiceClient.explain_instance(request)
    )
}

/// Heading and table.
pub fn view(look: Look, placement: &PlacementExplanation) -> String {
    let name = match placement.instance_name.as_str() {
        "" => placement.instance_id.as_str(),
        name => name,
    };
    let place = match chosen(placement) {
        Some(host) => format!("{name} on {}", host_name(host)),
        None => format!("{name} on no host"),
    };
    let heading = format!(
        "{place}: {}, as of revision {}",
        fitting(placement),
        placement.revision
    );
    format!("{}\n{}", escape(&heading), hosts(look, placement))
}

/// As `2 of 3 hosts fit, the emptiest wins`.
pub fn fitting(placement: &PlacementExplanation) -> String {
    let (fit, total) = (placement.hosts_fitting, placement.hosts_total);
    if fit == 0 {
        return format!("none of {} fits", plural(total as usize, "host"));
    }
    let verb = if fit == 1 { "fits" } else { "fit" };
    let wins = match placement.strategy() {
        PlacementStrategy::Pack => "the fullest wins",
        PlacementStrategy::Spread | PlacementStrategy::Unspecified => "the emptiest wins",
    };
    let hosts = plural(total as usize, "host");
    format!("{fit} of {hosts} {verb}, {wins}")
}

/// The host that won, if one did.
pub fn chosen(placement: &PlacementExplanation) -> Option<&HostVerdict> {
    placement.hosts.iter().find(|host| host.chosen)
}

/// Its name; tenants see one that says nothing about the cell.
pub fn host_name(host: &HostVerdict) -> &str {
    match host.node_name.as_str() {
        "" => &host.node_id,
        name => name,
    }
}

fn hosts(look: Look, placement: &PlacementExplanation) -> String {
    let mut table = Table::new(look, &["HOST", "ZONE", ">SCORE", "WHY", "+ID"]);
    for host in &placement.hosts {
        let refused = !host.refused_for.is_empty();
        let score = match refused {
            true => "-".to_owned(),
            false => host.score.to_string(),
        };
        let why = match (host.chosen, refused, host.reason.as_str()) {
            (true, _, "") => Value::new("chosen", Tone::Good),
            (true, _, reason) => Value::new(format!("chosen: {reason}"), Tone::Good),
            (false, true, "") => Value::new(host.refused_for.as_str(), Tone::Bad),
            (false, true, reason) => {
                Value::new(format!("{}: {reason}", host.refused_for), Tone::Bad)
            }
            (false, false, "") => "fits".into(),
            (false, false, reason) => format!("fits: {reason}").into(),
        };
        table.row([
            host_name(host).into(),
            or_dash(&host.zone).into(),
            score.into(),
            why,
            or_dash(&host.node_id).into(),
        ]);
    }
    let mut text = table.render_or("no hosts; an agent joins with its first session");
    let hidden = (placement.hosts_total as usize).saturating_sub(placement.hosts.len());
    if hidden > 0 && !placement.hosts.is_empty() {
        text.push_str(&format!("and {hidden} more\n"));
    }
    text
}

#[cfg(test)]
pub mod test {
    use super::*;

    fn host(number: u8, chosen: bool, score: i64, refused: (&str, &str)) -> HostVerdict {
        HostVerdict {
            node_id: format!("n-000000000000000{number}"),
            node_name: format!("node-{number}"),
            zone: "local".into(),
            chosen,
            score,
            refused_for: refused.0.into(),
            reason: refused.1.into(),
        }
    }

    /// A winner, a loser, a full and a drained host.
    pub fn sample(name: &str) -> PlacementExplanation {
        PlacementExplanation {
            instance_id: "i-00c0ffee00c0ffee".into(),
            instance_name: name.into(),
            revision: 1042,
            strategy: PlacementStrategy::Spread as i32,
            hosts: vec![
                host(2, true, 812, ("", "")),
                host(1, false, 640, ("", "")),
                host(3, false, 0, ("memory", "128 MiB asked, 64 MiB free")),
                host(4, false, 0, ("drained", "")),
            ],
            hosts_total: 40,
            hosts_fitting: 37,
        }
    }

    /// As a tenant sees it.
    pub fn redacted(name: &str) -> PlacementExplanation {
        let mut all = sample(name);
        for (number, host) in all.hosts.iter_mut().enumerate() {
            host.node_id = String::new();
            host.node_name = format!("host-{}", number + 1);
            host.zone = String::new();
            host.reason = String::new();
        }
        (all.hosts_total, all.hosts_fitting) = (4, 2);
        all
    }

    #[test]
    fn explanations_are_golden() {
        let mut nowhere = redacted("db");
        nowhere.hosts.drain(..2);
        (nowhere.hosts_total, nowhere.hosts_fitting) = (2, 0);
        let look = Look::default();
        let text = view(look, &sample("web"))
            + "\n"
            + &view(look, &redacted("web"))
            + "\n"
            + &view(look, &nowhere);
        crate::golden::check_narrow("explain", &text);
    }
}
