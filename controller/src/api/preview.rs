//! Preview and explanation: what a launch would do, and why one did what it did.

use nube_proto::v1;
use nube_state::{Kind, State, project};
use nube_types::limits::INSTANCES_PER_LAUNCH_MAX;
use tonic::Status;

use super::{convert, launch, placement, resolve, status};
use crate::authorise::Caller;
use crate::cell::Cell;

const HOURS_PER_MONTH: i64 = 730;

/// Everything a launch would decide, on one view, without deciding it.
pub async fn preview(
    cell: &Cell,
    caller: &Caller,
    request: &v1::LaunchInstancesRequest,
) -> Result<v1::LaunchPreview, Status> {
    let state = cell.read().await?;
    let wish = launch::check(cell, &state, caller, request)?;
    let count = wish.names.len().min(INSTANCES_PER_LAUNCH_MAX as usize);
    let rows = project::quota_rows(&state, wish.project, &wish.size, count as u64);
    let exceeded = rows.iter().find(|row| !row.fits()).map(project::exceeded);
    let placed = launch::place(cell, &state, &wish);
    let refusal = exceeded
        .map(|refusal| status::from_refusal(&refusal))
        .or(placed.refusal);
    let each = convert::instance_type(&state, &wish.size).price_nanos_per_hour;
    let hourly = each.saturating_mul(i64::try_from(count).unwrap_or(i64::MAX));
    let named = wish.names.iter().zip(&placed.chosen);
    let placements = named.map(|(name, (_, why))| {
        let whose = (String::new(), name.to_string());
        placement::shown(&state, why, caller.sees_hosts(), whose)
    });
    Ok(v1::LaunchPreview {
        revision: state.placement_revision,
        price_nanos_per_hour: hourly,
        price_nanos_per_month: hourly.saturating_mul(HOURS_PER_MONTH),
        currency: state.prices.currency.clone(),
        quota: rows.iter().map(quota_left).collect(),
        placements: placements.collect(),
        refusal: refusal
            .map(|status| status.message().to_owned())
            .unwrap_or_default(),
        time_ms: state.time.0,
    })
}

fn quota_left(row: &project::QuotaRow) -> v1::QuotaLeft {
    v1::QuotaLeft {
        resource: row.resource.to_owned(),
        limit: row.limit,
        used: row.used,
        asked: row.asked,
        left: row.limit.saturating_sub(row.used).saturating_sub(row.asked),
    }
}

/// The answer kept from an instance's launch.
pub fn explain(
    state: &State,
    caller: &Caller,
    reference: &str,
) -> Result<v1::PlacementExplanation, Status> {
    let instance = resolve::instance(state, caller.project, reference)?;
    let kept = state.placements.get(&instance.id);
    let kept = kept.ok_or_else(|| status::not_found(Kind::Instance, reference))?;
    let whose = (instance.id.to_string(), instance.name.to_string());
    Ok(placement::shown(
        state,
        &kept.explanation,
        caller.sees_hosts(),
        whose,
    ))
}
