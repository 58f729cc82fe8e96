//! The bill: rated lines, how each came about, and the proof that they follow
//! from the committed history.

use std::sync::Arc;

use nube_billing::explain::Step;
use nube_billing::{INTERNET_OUT, LineId, RatedLine, Subject, UsageInterval, UtcDay};
use nube_proto::v1;
use nube_proto::v1::billing_service_server::BillingService;
use nube_state::{State, codec};
use nube_types::{InstanceId, Nanos, ProjectId, TimestampMs};
use tonic::{Request, Response, Status};

use super::{mutation, page, resolve, status};
use crate::authorise;
use crate::cell::Cell;

mod traffic;

/// Handlers.
pub struct Service(pub Arc<Cell>);

/// Findings listed in one answer; one is as bad as a thousand.
const FINDINGS_MAX: usize = 100;
const VERIFY_ATTEMPTS: usize = 20;

fn nanos(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

/// Id and name of what a line is about; gone things have no name.
fn named(state: &State, subject: Subject, resource: &str) -> (String, String) {
    let instance = subject.instance(resource);
    let instance = instance.and_then(|id| state.instances.get(&id));
    let address = subject.address(resource);
    let address = address.and_then(|id| state.addresses.get(&id));
    let name = instance
        .map(|instance| instance.name.to_string())
        .or_else(|| address.map(|address| address.name.to_string()));
    (subject.id(resource), name.unwrap_or_default())
}

fn line(state: &State, line: &RatedLine) -> v1::BillLine {
    let (resource_id, resource_name) = named(state, line.subject, &line.resource);
    let is_instance = line.subject.instance(&line.resource).is_some();
    let of_instance = |text: &str| {
        if is_instance {
            text.to_owned()
        } else {
            String::new()
        }
    };
    v1::BillLine {
        id: line.id().to_string(),
        instance_id: of_instance(&resource_id),
        instance_name: of_instance(&resource_name),
        resource: line.resource.clone(),
        day: line.day.to_string(),
        price_version: line.price_version,
        price_nanos_per_hour: nanos(line.price_nanos_per_hour),
        seconds: line.seconds,
        minimum_seconds: line.minimum_seconds_added,
        amount_nanos: line.amount.0,
        open: line.parts.iter().any(|part| part.end_index.is_none()),
        resource_id,
        resource_name,
        ..v1::BillLine::default()
    }
}

fn end_word(interval: &UsageInterval) -> String {
    use nube_billing::EndReason;
    let word = interval.end_reason.map_or("", |reason| match reason {
        EndReason::Stopped => "stop",
        EndReason::DeleteRequested => "delete",
        EndReason::HostLost => "host-lost",
        EndReason::Failed => "guest",
    });
    word.to_owned()
}

fn interval(state: &State, interval: &UsageInterval) -> v1::UsageInterval {
    v1::UsageInterval {
        instance_id: interval
            .subject
            .instance(&interval.resource)
            .map(|id| id.to_string())
            .unwrap_or_default(),
        resource_id: interval.subject.id(&interval.resource),
        project_id: interval.project.to_string(),
        run: interval.run,
        resource: interval.resource.clone(),
        started_at_ms: interval.start.0,
        start_index: interval.start_index,
        ended_at_ms: interval.end.map_or(0, |end| end.0),
        end_index: interval.end_index.unwrap_or_default(),
        end_reason: end_word(interval),
        seconds: interval.seconds(state.time),
    }
}

/// From the first to the last wanted day; the month so far by default.
fn range(
    state: &State,
    request: &v1::GetBillRequest,
) -> Result<std::ops::Range<TimestampMs>, Status> {
    let today = UtcDay(state.time.day());
    let day = |field: &str, text: &str| {
        text.parse::<UtcDay>()
            .map_err(|error| status::invalid(field, error.to_string()))
    };
    let first = if request.from_day.is_empty() {
        let (year, month, _) = today.date();
        UtcDay::from_date(year, month, 1).unwrap_or(today)
    } else {
        day("from_day", &request.from_day)?
    };
    let last = if request.to_day.is_empty() {
        today
    } else {
        day("to_day", &request.to_day)?
    };
    if last.0 < first.0 {
        return Err(status::invalid("to_day", "not before from_day"));
    }
    Ok(first.start()..last.end())
}

fn sentence(step: &Step) -> String {
    match step {
        Step::Run {
            run,
            seconds,
            start_index,
            end_index,
            ..
        } => {
            let end = end_index.map_or("still open".to_owned(), |i| format!("closed by {i}"));
            format!("run {run}: {seconds} s of use; opened by log entry {start_index}, {end}")
        }
        Step::Minimum {
            run,
            minimum_seconds,
            added,
        } => {
            format!("run {run}: shorter than the minimum of {minimum_seconds} s, so {added} s more")
        }
        Step::Charged {
            seconds,
            minimum_seconds_added,
            charged_seconds,
        } => {
            format!("charged: {seconds} s + {minimum_seconds_added} s = {charged_seconds} s")
        }
        Step::Price {
            version,
            nanos_per_hour,
            ..
        } => {
            let price = Nanos(nanos(*nanos_per_hour));
            format!("price version {version}: {price} per hour")
        }
        Step::Unpriced => "the price book has no price for it: nothing is charged".to_owned(),
        Step::Round(rounded) => rounded.to_string(),
    }
}

#[tonic::async_trait]
impl BillingService for Service {
    async fn get_bill(
        &self,
        request: Request<v1::GetBillRequest>,
    ) -> Result<Response<v1::Bill>, Status> {
        let (caller, message) = mutation::take(request)?;
        let state = self.0.read().await?;
        let project = caller.project;
        let range = range(&state, &message)?;
        let only = wanted_instance(&state, project, &message.instance)?;
        let intervals = state.usage.iter().filter(|interval| {
            interval.project == project && only.is_none_or(|only| only == interval.subject)
        });
        let rated = nube_billing::rate(intervals, &state.prices, state.time, range.clone());
        let sent = traffic::rated(&state, project, only, range);
        let mut lines: Vec<_> = rated.iter().map(|rated| line(&state, rated)).collect();
        lines.extend(sent.iter().map(|sent| traffic::line(&state, sent)));
        lines.sort_by(|a, b| a.id.cmp(&b.id));
        let total = nube_billing::total(&rated).saturating_add(traffic::total(&sent));
        Ok(Response::new(v1::Bill {
            currency: state.prices.currency.clone(),
            as_of_ms: state.time.0,
            lines,
            total_nanos: total.0,
            revision: state.index,
        }))
    }

    async fn explain_bill_line(
        &self,
        request: Request<v1::ExplainBillLineRequest>,
    ) -> Result<Response<v1::BillLineExplanation>, Status> {
        let (caller, message) = mutation::take(request)?;
        let text = message.line_id;
        let rule = "a line id as `cloudctl bill -o wide` shows it";
        let id: LineId = text.parse().map_err(|_| status::invalid("line_id", rule))?;
        let state = self.0.read().await?;
        let project = caller.project;
        if id.resource == INTERNET_OUT {
            let explained = traffic::explanation(&state, project, &id);
            let absent = || status::not_found("bill line", &text);
            return explained.map(Response::new).ok_or_else(absent);
        }
        let intervals = state
            .usage
            .iter()
            .filter(|interval| interval.project == project);
        let rated = nube_billing::find_line(&id, intervals, &state.prices, state.time)
            .ok_or_else(|| status::not_found("bill line", &text))?;
        explanation(&state, &rated).map(Response::new)
    }

    async fn verify_bill(
        &self,
        request: Request<v1::VerifyBillRequest>,
    ) -> Result<Response<v1::BillVerification>, Status> {
        let caller = authorise::caller(&request)?;
        // The proof is about the whole ledger; its numbers are the caller's.
        let only = (!caller.sees_hosts()).then_some(caller.project);
        // A snapshot may overtake the view that it is compared with, and a
        // commit may not be on this disk yet: then both are read again.
        for _ in 0..VERIFY_ATTEMPTS {
            let state = self.0.read().await?;
            let dir = self.0.raft.dir().to_owned();
            let verified = tokio::task::spawn_blocking(move || verify(&state, &dir, only)).await;
            let verified = verified.map_err(|e| status::fault("verifying the bill", &e))??;
            if let Some(verified) = verified {
                return Ok(Response::new(verified));
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        Err(status::fault(
            "verifying the bill",
            &"the log on disk never reached the view",
        ))
    }

    async fn list_usage(
        &self,
        request: Request<v1::ListUsageRequest>,
    ) -> Result<Response<v1::ListUsageResponse>, Status> {
        let (caller, message) = mutation::take(request)?;
        let state = self.0.read().await?;
        let project = caller.project;
        let intervals = state
            .usage
            .iter()
            .filter(|interval| interval.project == project);
        let key = |interval: &UsageInterval| RunKey(interval.subject, interval.run);
        let (page, next_page_token) =
            page::cut(intervals, key, message.page_size, &message.page_token)?;
        Ok(Response::new(v1::ListUsageResponse {
            intervals: page.into_iter().map(|row| interval(&state, row)).collect(),
            next_page_token,
            as_of_ms: state.time.0,
            revision: state.index,
        }))
    }
}

/// Deleted instances keep their bill: an id is enough, known or not.
fn wanted_instance(
    state: &State,
    project: ProjectId,
    reference: &str,
) -> Result<Option<Subject>, Status> {
    if reference.is_empty() {
        return Ok(None);
    }
    if let Ok(InstanceId(number)) = reference.parse() {
        return Ok(Some(Subject(number)));
    }
    resolve::instance(state, project, reference).map(|instance| Some(instance.id.into()))
}

fn explanation(state: &State, rated: &RatedLine) -> Result<v1::BillLineExplanation, Status> {
    let explained = nube_billing::explain(rated, &state.prices)
        .map_err(|error| status::fault("explaining a bill line", &error))?;
    let parts = rated.parts.iter().map(|part| v1::BillLinePart {
        run: part.run,
        from_ms: part.from.0,
        to_ms: part.to.0,
        seconds: part.seconds(),
        minimum_seconds: part.minimum_seconds_added,
        start_index: part.start_index,
        end_index: part.end_index.unwrap_or_default(),
    });
    let rounded =
        nube_billing::round::price_of(rated.charged_seconds(), rated.price_nanos_per_hour);
    let version = state.prices.version(rated.price_version);
    Ok(v1::BillLineExplanation {
        line: Some(line(state, rated)),
        parts: parts.collect(),
        price_effective_from_ms: version.map_or(0, |version| version.effective_from.0),
        numerator: rounded.numerator.to_string(),
        denominator: rounded.denominator.to_string(),
        steps: explained.steps.iter().map(sentence).collect(),
    })
}

/// Three answers to one question: the live ledger, the ledger rebuilt from disk
/// (snapshot and log), and the integral of the committed transitions.
/// `None`: the disk does not show this index (yet, or any more).
fn verify(
    state: &State,
    dir: &std::path::Path,
    only: Option<ProjectId>,
) -> Result<Option<v1::BillVerification>, Status> {
    let (rebuilt, snapshot_index, entries_replayed) =
        rebuild(state.index, dir).map_err(|error| status::fault("replaying the log", &error))?;
    if rebuilt.index != state.index {
        return Ok(None);
    }
    // A tenant's proof is about its own lines; the hash is about everything.
    let mine = |project: ProjectId| only.is_none_or(|only| only == project);
    let transitions: Vec<_> = state
        .transitions
        .iter()
        .filter(|transition| mine(transition.project))
        .cloned()
        .collect();
    let ledger: Vec<_> = state
        .usage
        .iter()
        .filter(|interval| mine(interval.project))
        .cloned()
        .collect();
    let report = nube_billing::verify(&transitions, &ledger, &state.prices, state.time);
    let (live, replayed) = (codec::state_hash(state), codec::state_hash(&rebuilt));
    let mut findings: Vec<String> = report
        .findings
        .iter()
        .take(FINDINGS_MAX)
        .map(|finding| format!("{finding:?}"))
        .collect();
    if live != replayed {
        findings.push("the replayed state has another hash".to_owned());
    }
    if !same_ledger(state, &rebuilt) {
        findings.push("the replayed ledger differs".to_owned());
    }
    let traffic = traffic::verify(state, only);
    findings.extend(traffic.findings);
    let seconds_ledger = ledger
        .iter()
        .map(|interval| interval.seconds(state.time))
        .sum();
    Ok(Some(v1::BillVerification {
        exact: findings.is_empty(),
        index: state.index,
        snapshot_index,
        entries_replayed,
        intervals: ledger.len() as u64,
        transitions: transitions.len() as u64,
        seconds_ledger,
        seconds_recomputed: report.seconds,
        state_hash: hex::encode(live),
        replayed_state_hash: hex::encode(replayed),
        findings,
        bytes_ledger: traffic.bytes_ledger,
        bytes_recomputed: traffic.bytes_recomputed,
    }))
}

fn same_ledger(a: &State, b: &State) -> bool {
    let usage = a.usage.len() == b.usage.len() && a.usage.iter().eq(b.usage.iter());
    usage && a.traffic_usage.iter().eq(b.traffic_usage.iter())
}

fn rebuild(index: u64, dir: &std::path::Path) -> anyhow::Result<(State, u64, u64)> {
    let replay = nube_consensus::replay(dir)?;
    let mut state = if replay.body.is_empty() {
        State::default()
    } else {
        codec::decode_snapshot(&replay.body)?
    };
    state.index = state.index.max(replay.meta.index);
    let mut entries = 0;
    for (at, _term, data) in replay.entries() {
        if at <= index && at > state.index {
            nube_state::apply(&mut state, at, &codec::decode_envelope(data)?);
            entries += 1;
        }
    }
    Ok((state, replay.meta.index, entries))
}

/// A ledger row as a page token.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct RunKey(Subject, u32);

impl std::fmt::Display for RunKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.0, self.1)
    }
}

impl std::str::FromStr for RunKey {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (subject, run) = text.split_once('/').ok_or(())?;
        Ok(Self(
            Subject(u64::from_str_radix(subject, 16).map_err(|_| ())?),
            run.parse().map_err(|_| ())?,
        ))
    }
}
