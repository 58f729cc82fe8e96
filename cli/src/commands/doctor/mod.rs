//! `doctor`: what is wrong with this host and this cloud, and what to do.
//!
//! ```text
//! look (controllers), machine (this host) ─► facts ─► cell, load, host (pure) ─► checks
//! ```

mod cell;
mod check;
mod credentials;
mod host;
mod load;
mod look;
mod machine;

#[cfg(test)]
mod test;

use self::check::{Check, Verdict};
use super::App;
use super::up::layout::Cell;
use crate::args::doctor::Doctor;
use crate::client::Client;
use crate::config::{Locations, cloud_dir};
use crate::error::Result;
use crate::output::text::now_ms;

/// `doctor`; the number is the exit code.
pub async fn run(app: &App, args: &Doctor) -> Result<u8> {
    app.output.refuse_csv()?;
    let locations = Locations::of(&app.global)?;
    let mut checks = credentials::check(&locations, now_ms() / 1_000);
    match Client::open(&app.global) {
        Ok(client) => checks.extend(of_cloud(&client).await),
        Err(error) => checks.push(no_client(&error.render())),
    }
    let dir = cloud_dir(&app.global)?;
    let local = Cell::read(&dir).ok().flatten();
    if args.host || local.is_some() {
        let facts = tokio::task::spawn_blocking(move || machine::look(&dir, local.as_ref()));
        match facts.await {
            Ok(facts) => checks.extend(host::check(&facts)),
            Err(error) => checks.push(Check::fail(
                "host",
                "look",
                error.to_string(),
                "report this",
            )),
        }
    }
    let worst = check::worst(&checks);
    app.output
        .value(&check::json(&checks), |look| check::view(look, &checks))?;
    Ok(u8::from(worst == Verdict::Fail))
}

fn no_client(text: &str) -> Check {
    let found = text.trim_start_matches("error: ").lines().next();
    let todo = "`cloudctl up` makes a cloud on this machine; --config or --dir names another";
    Check::fail("client", "configuration", found.unwrap_or_default(), todo)
}

async fn of_cloud(client: &Client) -> Vec<Check> {
    let answers = look::controllers(client).await;
    let mut checks = cell::check(&answers);
    if !cell::can_read(&answers) {
        let todo = "bring the controllers back first";
        checks.push(Check::warn(
            "load",
            "nodes, instances",
            "not looked at: no leader",
            todo,
        ));
        return checks;
    }
    match look::load(client).await {
        Ok(load) => checks.extend(load::check(&load)),
        Err(error) => {
            let text = error.render();
            let found = text.lines().next().unwrap_or_default();
            checks.push(Check::fail(
                "load",
                "nodes, instances",
                found,
                "run this again",
            ));
        }
    }
    checks
}
