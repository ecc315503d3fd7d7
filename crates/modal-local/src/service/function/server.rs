//! RPCs about servers (`@app.server`): the container that is ready, tokens for requests, what was asked.

use std::collections::{BTreeMap, HashMap};

use modal_proto::client::server_count_requests_response::RequestBucket;
use modal_proto::client::server_get_time_range_stats_response::ServerStatusCodeCount;
use modal_proto::client::server_request_fetch_request::QueryOneof;
use modal_proto::client::{
    ContainerServerLifecycleReadyRequest, FunctionGetFlashAuthTokenRequest,
    FunctionGetFlashAuthTokenResponse, ServerCountRequestsRequest, ServerCountRequestsResponse,
    ServerGetTimeRangeStatsRequest, ServerGetTimeRangeStatsResponse, ServerRequestFetchRequest,
    ServerRequestFetchResponse, ServerRequestInfo,
};
use tonic::Status;

use super::function_id;
use super::history::{self, STARTUP};
use crate::clock;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::function::container::{Identity, await_server};
use crate::ids::FunctionId;
use crate::web::requests::RequestRecord;

/// How long requests took, among the percentiles.
const DURATION: &str = "Duration (s)";

/// The container has run what comes before its server listens.
pub(in crate::service) async fn container_server_lifecycle_ready(
    _ctx: &Ctx,
    _request: ContainerServerLifecycleReadyRequest,
    Identity { pool, task }: Identity,
) -> Result<(), Status> {
    if !task.spec.is_server() {
        return Err(Status::failed_precondition(
            "only containers of servers become ready this way",
        ));
    }
    tokio::spawn(await_server(pool, task));
    Ok(())
}

pub(in crate::service) async fn function_get_flash_auth_token(
    ctx: &Ctx,
    request: FunctionGetFlashAuthTokenRequest,
) -> Result<FunctionGetFlashAuthTokenResponse, Status> {
    let id = server(ctx, &request.function_id).await?;
    Ok(FunctionGetFlashAuthTokenResponse { token: ctx.auth.issue_server_token(&id) })
}

/// The latest requests, newest first, or those of a stretch of time, oldest first.
pub(in crate::service) async fn server_request_fetch(
    ctx: &Ctx,
    request: ServerRequestFetchRequest,
) -> Result<ServerRequestFetchResponse, Status> {
    let id = server(ctx, &request.function_id).await?;
    let log = &ctx.web.requests;
    let requests = match request.query_oneof {
        Some(QueryOneof::Tail(tail)) => log.tail(&id, tail.count as usize),
        Some(QueryOneof::Range(range)) => {
            let (since, until) = (history::seconds(range.since)?, history::seconds(range.until)?);
            let mut requests = log.between(&id, since, until);
            if range.limit > 0 {
                requests.truncate(range.limit as usize);
            }
            requests
        }
        None => return Err(Status::invalid_argument("say which requests: the latest, or of when")),
    };
    Ok(ServerRequestFetchResponse { requests: requests.into_iter().map(describe).collect() })
}

/// How many requests came, bucket by bucket; those without any are left out.
pub(in crate::service) async fn server_count_requests(
    ctx: &Ctx,
    request: ServerCountRequestsRequest,
) -> Result<ServerCountRequestsResponse, Status> {
    let id = server(ctx, &request.function_id).await?;
    let (since, until) = (history::seconds(request.since)?, history::seconds(request.until)?);
    let width = f64::from(request.bucket_secs.max(1));
    let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
    for request in ctx.web.requests.between(&id, since, until) {
        *counts.entry(((request.at - since) / width) as u64).or_default() += 1;
    }
    let bucket = |(index, count): (u64, u64)| RequestBucket {
        bucket_start_at: Some(clock::timestamp(since + index as f64 * width)),
        count,
    };
    Ok(ServerCountRequestsResponse { buckets: counts.into_iter().map(bucket).collect() })
}

pub(in crate::service) async fn server_get_time_range_stats(
    ctx: &Ctx,
    request: ServerGetTimeRangeStatsRequest,
) -> Result<ServerGetTimeRangeStatsResponse, Status> {
    let id = server(ctx, &request.function_id).await?;
    let stretch = history::stretch(vec![id.clone()], request.since, request.until)?;
    let of_interest = |task: &str| request.container_id.as_deref().is_none_or(|it| it == task);
    let mut requests = ctx.web.requests.between(&id, stretch.since, stretch.until);
    requests.retain(|it| of_interest(&it.task));
    let mut tasks = history::tasks(ctx, &stretch).await?;
    tasks.retain(|it| of_interest(&it.task_id));
    let startups = tasks.iter().filter_map(|it| Some(it.started_at? - it.enqueued_at)).collect();
    Ok(ServerGetTimeRangeStatsResponse {
        since: request.since,
        until: request.until,
        request_count: requests.len() as u64,
        request_count_by_status_code: by_status(&requests),
        request_rate_per_second: requests.len() as f64 / (stretch.until - stretch.since).max(1.0),
        request_percentile_stats: history::percentiles([(
            DURATION,
            requests.iter().map(|it| it.duration).collect(),
        )]),
        container_percentile_stats: history::percentiles([(STARTUP, startups)]),
        container_started_count: tasks.iter().filter(|it| it.started_at.is_some()).count() as u64,
        container_error_count: history::errors(&tasks),
        container_creating_at_end_count: tasks
            .iter()
            .filter(|it| it.started_at.is_none() && it.finished_at.is_none())
            .count() as u64,
        container_total_count: tasks.len() as u64,
        inference: None,
    })
}

/// A server's id, as those of its variants: it has none.
pub(super) async fn server(ctx: &Ctx, id: &str) -> Result<FunctionId> {
    let id = function_id(id)?;
    if ctx.functions.spec(&id).await?.is_server() {
        return Ok(id);
    }
    Err(Error::invalid(format!("function `{id}` is no server")))
}

/// By the first digit of the status, as Modal's command line shows it: 200 for 200 to 299.
fn by_status(requests: &[RequestRecord]) -> Vec<ServerStatusCodeCount> {
    let mut counts: HashMap<u32, u64> = HashMap::new();
    for request in requests {
        *counts.entry(u32::from(request.status) / 100 * 100).or_default() += 1;
    }
    let count = |(status_code, count)| ServerStatusCodeCount { status_code, count };
    let mut counts: Vec<_> = counts.into_iter().map(count).collect();
    counts.sort_by_key(|it| it.status_code);
    counts
}

fn describe(request: RequestRecord) -> ServerRequestInfo {
    ServerRequestInfo {
        route: request.route,
        timestamp: Some(clock::timestamp(request.at)),
        container_id: request.task,
        duration_seconds: request.duration,
        status: i32::from(request.status),
    }
}
