//! `bill`, `bill explain`, `bill verify`, `bill usage`.

mod view;

use nube_proto::v1::billing_service_client::BillingServiceClient;
use nube_proto::v1::{
    Bill, ExplainBillLineRequest, GetBillRequest, ListUsageRequest, ListUsageResponse,
    VerifyBillRequest,
};

use super::App;
use crate::args::bill::{Bill as Args, BillVerb};
use crate::client::Client;
use crate::error::{Exit, Result};
use crate::output;

/// Replaying a long log takes longer than other answers.
const VERIFY_MAX: std::time::Duration = std::time::Duration::from_secs(600);

/// `bill …`: the exit code of `verify` says whether the bill is exact.
pub async fn run(app: &App, args: Args) -> Result<u8> {
    let client = app.client()?;
    match args.verb {
        None => {
            let query = args.query;
            let request = GetBillRequest {
                from_day: query.from.unwrap_or_default(),
                to_day: query.to.unwrap_or_default(),
                instance: query.instance.unwrap_or_default(),
            };
            let bill = get(&client, request).await?;
            let csv = || view::bill_csv(&bill, query.by);
            let table = |look| view::bill(look, &bill, query.by);
            app.output.spreadsheet(&bill, csv, table)?;
        }
        Some(BillVerb::Explain { line }) => explain(app, &client, line).await?,
        Some(BillVerb::Verify) => return verify(app, &client).await,
        Some(BillVerb::Usage) => {
            let usage = usage_all(&client).await?;
            let csv = || view::usage_csv(&usage);
            let table = |look| view::usage(look, &usage);
            app.output.spreadsheet(&usage, csv, table)?;
        }
    }
    Ok(0)
}

/// The rated lines; an empty request asks for this month so far.
pub async fn get(client: &Client, request: GetBillRequest) -> Result<Bill> {
    let get = |channel| {
        let request = request.clone();
        async move { BillingServiceClient::new(channel).get_bill(request).await }
    };
    client.call("bill", get).await
}

async fn explain(app: &App, client: &Client, line_id: String) -> Result<()> {
    let request = ExplainBillLineRequest { line_id };
    let explain = |channel| {
        let request = request.clone();
        async move {
            BillingServiceClient::new(channel)
                .explain_bill_line(request)
                .await
        }
    };
    let explanation = client.call("bill explain", explain).await?;
    app.output
        .message(&explanation, |look| view::explanation(look, &explanation))
}

async fn verify(app: &App, client: &Client) -> Result<u8> {
    let verify = |channel| async move {
        BillingServiceClient::new(channel)
            .verify_bill(VerifyBillRequest {})
            .await
    };
    let verdict = client.call_slow("bill verify", VERIFY_MAX, verify).await?;
    app.output
        .message(&verdict, |_| view::verification(&verdict))?;
    if verdict.exact {
        return Ok(0);
    }
    if !app.output.for_people() {
        output::progress::warn("the bill is not exact");
    }
    Ok(Exit::Failed.code())
}

async fn usage_all(client: &Client) -> Result<ListUsageResponse> {
    let mut merged = ListUsageResponse::default();
    loop {
        let request = ListUsageRequest {
            page_size: nube_types::limits::PAGE_SIZE_MAX,
            page_token: std::mem::take(&mut merged.next_page_token),
        };
        let list = |channel| {
            let request = request.clone();
            async move { BillingServiceClient::new(channel).list_usage(request).await }
        };
        let page = client.call("bill usage", list).await?;
        merged.intervals.extend(page.intervals);
        merged.as_of_ms = page.as_of_ms;
        merged.revision = page.revision;
        merged.next_page_token = page.next_page_token;
        if merged.next_page_token.is_empty() {
            return Ok(merged);
        }
    }
}
