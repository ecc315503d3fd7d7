//! RPCs about what functions and servers have done over time.

use modal_proto::client::metrics_get_info_request::MetricsTargetType;
use modal_proto::client::{
    FunctionGetMetricsRequest, FunctionGetMetricsResponse, FunctionMetricPoint,
    FunctionMetricSeries, MetricDefinition, MetricGroupDefinition, MetricsGetInfoRequest,
    MetricsGetInfoResponse, ServerGetMetricsRequest, ServerGetMetricsResponse,
};
use tonic::Status;

use super::history::{functions, seconds, tasks};
use super::server::server;
use crate::clock;
use crate::ctx::Ctx;
use crate::error::Result;
use crate::function::history::Stretch;
use crate::function::metrics::{
    Bucket, Buckets, FunctionPast, OF_FUNCTIONS, OF_SERVERS, Series, ServerPast, chosen,
};
use crate::ids::FunctionId;

/// Inputs that came so long before the first bucket may have ended in it.
const LONGEST_INPUT: f64 = 86_400.0;

pub(in crate::service) async fn metrics_get_info(
    _ctx: &Ctx,
    request: MetricsGetInfoRequest,
) -> Result<MetricsGetInfoResponse, Status> {
    let (since, until) = (seconds(request.since)?, seconds(request.until)?);
    let buckets = Buckets::new(since, until, request.bucket_secs)?;
    let groups = match request.target_type() {
        MetricsTargetType::Server => definitions(&chosen(OF_SERVERS, &request.groups)?),
        _ => definitions(&chosen(OF_FUNCTIONS, &request.groups)?),
    };
    Ok(MetricsGetInfoResponse {
        groups,
        bucket_secs: buckets.width,
        bucket_count: u32::try_from(buckets.count).unwrap_or(u32::MAX),
    })
}

pub(in crate::service) async fn function_get_metrics(
    ctx: &Ctx,
    request: FunctionGetMetricsRequest,
) -> Result<FunctionGetMetricsResponse, Status> {
    let series = chosen(OF_FUNCTIONS, &request.groups)?;
    let (since, until) = (seconds(request.since)?, seconds(request.until)?);
    let buckets = Buckets::new(since, until, request.bucket_secs)?;
    let functions = functions(ctx, &request.function_id, request.rollup).await?;
    let stretch = stretch(functions, buckets);
    let tasks = tasks(ctx, &stretch).await?;
    let earlier = Stretch { since: stretch.since - LONGEST_INPUT, ..stretch };
    let inputs = ctx.functions.history.inputs(&earlier, None).await?;
    Ok(FunctionGetMetricsResponse {
        since: Some(clock::timestamp(buckets.span().start)),
        until: Some(clock::timestamp(buckets.span().end)),
        bucket_secs: buckets.width,
        series: measured(&series, buckets, &FunctionPast { inputs, tasks }),
    })
}

pub(in crate::service) async fn server_get_metrics(
    ctx: &Ctx,
    request: ServerGetMetricsRequest,
) -> Result<ServerGetMetricsResponse, Status> {
    let series = chosen(OF_SERVERS, &request.groups)?;
    let (since, until) = (seconds(request.since)?, seconds(request.until)?);
    let buckets = Buckets::new(since, until, request.bucket_secs)?;
    let id = server(ctx, &request.function_id).await?;
    let stretch = stretch(vec![id.clone()], buckets);
    let requests = ctx.web.requests.between(&id, stretch.since, stretch.until);
    let tasks = tasks(ctx, &stretch).await?;
    Ok(ServerGetMetricsResponse {
        since: Some(clock::timestamp(buckets.span().start)),
        until: Some(clock::timestamp(buckets.span().end)),
        bucket_secs: buckets.width,
        series: measured(&series, buckets, &ServerPast { requests, tasks }),
    })
}

fn stretch(functions: Vec<FunctionId>, buckets: Buckets) -> Stretch {
    let span = buckets.span();
    Stretch { functions, since: span.start, until: span.end }
}

fn measured<T>(series: &[&Series<T>], buckets: Buckets, past: &T) -> Vec<FunctionMetricSeries> {
    let points = |series: &Series<T>| {
        let point = |bucket: Bucket| FunctionMetricPoint {
            timestamp: Some(clock::timestamp(bucket.start)),
            value: (series.value)(past, bucket),
        };
        buckets.iter().map(point).collect()
    };
    let measured = series.iter().map(|series| FunctionMetricSeries {
        name: series.name.to_owned(),
        unit: series.unit.to_owned(),
        points: points(series),
        description: series.description.to_owned(),
    });
    measured.collect()
}

/// A row for each series, as Modal's command line shows them.
fn definitions<T>(series: &[&Series<T>]) -> Vec<MetricGroupDefinition> {
    let row = |series: &&Series<T>| MetricGroupDefinition {
        name: series.group.to_owned(),
        description: series.description.to_owned(),
        display_name: series.name.to_owned(),
        metrics: vec![MetricDefinition {
            name: series.name.to_owned(),
            unit: series.unit.to_owned(),
            description: series.description.to_owned(),
        }],
    };
    series.iter().map(row).collect()
}
