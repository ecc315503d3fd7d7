//! RPCs of billing. This machine is paid for already: nothing that runs here costs anything, and nothing is billed.

use std::collections::HashMap;

use futures::StreamExt as _;
use futures::stream;
use jiff::ToSpan as _;
use jiff::civil::Time;
use jiff::tz::TimeZone;
use modal_proto::client::{
    EnvironmentBillingSummaryRequest, EnvironmentBillingSummaryResponse,
    WorkspaceBillingRatesRequest, WorkspaceBillingRatesResponse, WorkspaceBillingReportItem,
    WorkspaceBillingReportRequest, WorkspaceBillingSummaryRequest, WorkspaceBillingSummaryResponse,
};
use prost_types::Timestamp;
use tonic::Status;

use super::BoxStream;
use crate::clock;
use crate::ctx::Ctx;
use crate::error::{Error, Result};

/// The price of everything, as decimals are written on the wire.
const NOTHING: &str = "0";
/// What costs are broken down by, as Modal names it; of the kinds that exist here.
const KINDS: [&str; 4] = ["Deployed Apps", "Ephemeral Apps", "Sandboxes", "Volumes"];
/// What takes part of a cost off, as Modal names it.
const ADJUSTMENTS: [&str; 3] =
    ["Free Storage", "Network Egress Allowance", "Reservation Adjustment"];
/// What has a price on Modal and exists here.
const RATES: [&str; 3] = ["CPU", "Memory", "Volume Storage"];
const RATES_TEXT: &str = "Everything runs on this machine: CPU, memory and storage cost nothing.";

/// Objects with what they cost: none costs anything, and Modal lists only those that do.
pub(crate) async fn workspace_billing_report(
    ctx: &Ctx,
    request: WorkspaceBillingReportRequest,
) -> Result<BoxStream<WorkspaceBillingReportItem>, Status> {
    if !["d", "h"].contains(&request.resolution.as_str()) {
        let text = format!("resolution `{}` is neither `d` nor `h`", request.resolution);
        return Err(Error::invalid(text).into());
    }
    let seconds = |at: Option<Timestamp>| {
        at.map(|at| clock::seconds(&at)).ok_or_else(|| Error::invalid("name a stretch of time"))
    };
    if seconds(request.start_timestamp)? > seconds(request.end_timestamp)? {
        return Err(Error::invalid("the report would end before it starts").into());
    }
    for id in &request.environment_ids {
        ctx.environments.get(id).await?;
    }
    Ok(stream::empty().boxed())
}

pub(crate) async fn workspace_billing_summary(
    _ctx: &Ctx,
    request: WorkspaceBillingSummaryRequest,
) -> Result<WorkspaceBillingSummaryResponse, Status> {
    let (start, end) = cycle(request.start_timestamp)?;
    Ok(WorkspaceBillingSummaryResponse {
        start_timestamp: Some(start),
        end_timestamp: Some(end),
        metered_cost: NOTHING.to_owned(),
        billed_cost: NOTHING.to_owned(),
        metered_cost_breakdown: nothing_for(&KINDS),
        adjustments: nothing_for(&ADJUSTMENTS),
    })
}

pub(crate) async fn environment_billing_summary(
    ctx: &Ctx,
    request: EnvironmentBillingSummaryRequest,
) -> Result<EnvironmentBillingSummaryResponse, Status> {
    ctx.environments.get(&request.environment_id).await?;
    let (start, end) = cycle(request.start_timestamp)?;
    Ok(EnvironmentBillingSummaryResponse {
        start_timestamp: Some(start),
        end_timestamp: Some(end),
        metered_cost: NOTHING.to_owned(),
        metered_cost_breakdown: nothing_for(&KINDS),
    })
}

pub(crate) async fn workspace_billing_rates(
    _ctx: &Ctx,
    _request: WorkspaceBillingRatesRequest,
) -> Result<WorkspaceBillingRatesResponse, Status> {
    Ok(WorkspaceBillingRatesResponse {
        rates: nothing_for(&RATES),
        formatted: RATES_TEXT.to_owned(),
        ..WorkspaceBillingRatesResponse::default()
    })
}

fn nothing_for(names: &[&str]) -> HashMap<String, String> {
    names.iter().map(|name| ((*name).to_owned(), NOTHING.to_owned())).collect()
}

/// The month that begins then, from its beginning to that of the next.
fn cycle(start: Option<Timestamp>) -> Result<(Timestamp, Timestamp)> {
    let start = start.ok_or_else(|| Error::invalid("name the month"))?;
    let first =
        jiff::Timestamp::from_second(start.seconds).ok().map(|it| it.to_zoned(TimeZone::UTC));
    let first = first.filter(|it| it.day() == 1 && it.time() == Time::midnight());
    let first =
        first.ok_or_else(|| Error::invalid("a billing cycle starts with a month, in UTC"))?;
    let next = first.checked_add(1.month());
    let next = next.map_err(|_| Error::invalid("there is no month after that one"))?;
    Ok((start, Timestamp { seconds: next.timestamp().as_second(), nanos: 0 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_is_a_month() {
        let cycle = |seconds| cycle(Some(Timestamp { seconds, nanos: 0 }));
        // 2025-12-01 to 2026-01-01.
        assert_eq!(cycle(1_764_547_200).unwrap().1.seconds, 1_767_225_600);
        cycle(1_764_547_201).unwrap_err();
    }
}
