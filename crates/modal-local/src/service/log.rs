//! RPCs of logs.

use modal_proto::client::{
    AppCountLogsRequest, AppCountLogsResponse, AppFetchLogsRequest, AppFetchLogsResponse,
    AppGetLogsRequest, TaskLogsBatch,
};
use tonic::Status;

use crate::ctx::Ctx;
use crate::service::{BoxStream, not_served};

pub(crate) async fn app_count_logs(
    _ctx: &Ctx,
    _request: AppCountLogsRequest,
) -> Result<AppCountLogsResponse, Status> {
    Err(not_served("AppCountLogs"))
}

pub(crate) async fn app_fetch_logs(
    _ctx: &Ctx,
    _request: AppFetchLogsRequest,
) -> Result<AppFetchLogsResponse, Status> {
    Err(not_served("AppFetchLogs"))
}

pub(crate) async fn app_get_logs(
    _ctx: &Ctx,
    _request: AppGetLogsRequest,
) -> Result<BoxStream<TaskLogsBatch>, Status> {
    Err(not_served("AppGetLogs"))
}
