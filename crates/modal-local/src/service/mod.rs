//! Modal's control plane: each RPC of `ModalClient`, handed to a function of the same name in the
//! module of its object.
//!
//! The table below says for each how a repeated attempt is treated: `write` RPCs run once for each
//! `x-idempotency-key` and answer repeats with the first answer; `read` RPCs just run again.
//! `of_container` RPCs are about the container that calls; from anybody else they are refused.

mod app;
mod auth;
mod billing;
mod blob;
mod deployment;
mod dict;
mod environment;
mod function;
mod image;
mod log;
mod mount;
mod network_file_system;
mod proxy;
mod proxy_token;
mod queue;
mod rich_status;
pub(crate) mod router;
mod sandbox;
mod secret;
mod suggest;
mod token_flow;
mod volume;
pub(crate) mod workspace;

use std::pin::Pin;

use futures::Stream;
use modal_proto::client::modal_client_server::ModalClient;
use modal_proto::client::*;
use tonic::{Request, Response, Status};

pub(crate) use self::app::{lifecycle_of as app_lifecycle, stop as stop_app};
use self::router::old_execs;
pub(crate) use self::volume::metadata as volume_metadata;
use crate::caller::Caller;
use crate::ctx::Ctx;
use crate::function::container::Identity;

/// A streamed answer.
pub(crate) type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send + 'static>>;

/// The answer to an RPC that exists in Modal's API and not here.
pub(crate) fn not_served(rpc: &str) -> Status {
    const NO_MEMORY: &str = "the local server has no memory snapshots, for processes cannot be written \
                             down here; `snapshot_filesystem` keeps the files of a sandbox";
    match rpc {
        "SandboxSnapshot" | "TaskSnapshotMemory" => return Status::invalid_argument(NO_MEMORY),
        "SandboxSnapshotGet" | "SandboxSnapshotWait" | "SandboxRestore" | "SandboxRestoreV2" => {
            return Status::not_found(format!("there is no such snapshot: {NO_MEMORY}"));
        }
        _ => {}
    }
    Status::unimplemented(format!("`{rpc}` is not served by modal-local"))
}

/// The service `ModalClient`.
#[derive(Clone)]
pub(crate) struct ControlPlane {
    ctx: Ctx,
}

impl ControlPlane {
    pub(crate) fn new(ctx: Ctx) -> Self {
        Self { ctx }
    }
}

/// The container that makes this call.
fn identity<M>(request: &Request<M>) -> Result<Identity, Status> {
    let identity = request.extensions().get::<Identity>().cloned();
    identity.ok_or_else(|| Status::permission_denied("only containers of functions call this"))
}

/// Runs one unary RPC in the way that the table names.
macro_rules! dispatch {
    (read, $ctx:expr, $request:ident, $module:ident :: $rpc:ident) => {
        $module::$rpc(&$ctx, $request.into_inner()).await.map(Response::new)
    };
    (write, $ctx:expr, $request:ident, $module:ident :: $rpc:ident) => {{
        let (ctx, caller) = ($ctx, Caller::of($request.metadata()));
        let message = $request.into_inner();
        let work = {
            let ctx = ctx.clone();
            async move { $module::$rpc(&ctx, message).await }
        };
        ctx.idempotency.once(stringify!($rpc), &caller, work).await.map(Response::new)
    }};
    (write_for_caller, $ctx:expr, $request:ident, $module:ident :: $rpc:ident) => {{
        let (ctx, caller) = ($ctx, Caller::of($request.metadata()));
        let message = $request.into_inner();
        let work = {
            let (ctx, caller) = (ctx.clone(), caller.clone());
            async move { $module::$rpc(&ctx, message, &caller).await }
        };
        ctx.idempotency.once(stringify!($rpc), &caller, work).await.map(Response::new)
    }};
    (of_container, $ctx:expr, $request:ident, $module:ident :: $rpc:ident) => {{
        let identity = identity(&$request)?;
        $module::$rpc(&$ctx, $request.into_inner(), identity).await.map(Response::new)
    }};
    (read_for_caller, $ctx:expr, $request:ident, $module:ident :: $rpc:ident) => {{
        let caller = Caller::of($request.metadata());
        $module::$rpc(&$ctx, $request.into_inner(), &caller).await.map(Response::new)
    }};
}

/// Implements the service from a table of its RPCs.
macro_rules! control_plane {
    (
        unary { $($kind:ident $module:ident :: $rpc:ident($request:ty) -> $answer:ty;)* }
        streams { $($s_module:ident :: $s_rpc:ident($s_request:ty) -> $item:ty;)* }
        streams_of_containers { $($c_module:ident :: $c_rpc:ident($c_request:ty) -> $c_item:ty;)* }
    ) => {
        #[tonic::async_trait]
        impl ModalClient for ControlPlane {
            $(
                async fn $rpc(
                    &self,
                    request: Request<$request>,
                ) -> Result<Response<$answer>, Status> {
                    let ctx = self.ctx.clone();
                    dispatch!($kind, ctx, request, $module::$rpc)
                }
            )*
            $(
                async fn $s_rpc(
                    &self,
                    request: Request<$s_request>,
                ) -> Result<Response<BoxStream<$item>>, Status> {
                    let ctx = self.ctx.clone();
                    $s_module::$s_rpc(&ctx, request.into_inner()).await.map(Response::new)
                }
            )*
            $(
                async fn $c_rpc(
                    &self,
                    request: Request<$c_request>,
                ) -> Result<Response<BoxStream<$c_item>>, Status> {
                    let (ctx, identity) = (self.ctx.clone(), identity(&request)?);
                    $c_module::$c_rpc(&ctx, request.into_inner(), identity).await.map(Response::new)
                }
            )*
        }
    };
}

control_plane! {
    unary {
        write app::app_client_disconnect(AppClientDisconnectRequest) -> ();
        read log::app_count_logs(AppCountLogsRequest) -> AppCountLogsResponse;
        write app::app_create(AppCreateRequest) -> AppCreateResponse;
        read deployment::app_deployment_history(AppDeploymentHistoryRequest) -> AppDeploymentHistoryResponse;
        read log::app_fetch_logs(AppFetchLogsRequest) -> AppFetchLogsResponse;
        read app::app_get_by_deployment_name(AppGetByDeploymentNameRequest) -> AppGetByDeploymentNameResponse;
        read deployment::app_get_info(AppGetInfoRequest) -> AppGetInfoResponse;
        read deployment::app_get_layout(AppGetLayoutRequest) -> AppGetLayoutResponse;
        read app::app_get_lifecycle(AppGetLifecycleRequest) -> AppGetLifecycleResponse;
        write app::app_get_or_create(AppGetOrCreateRequest) -> AppGetOrCreateResponse;
        read deployment::app_get_tags(AppGetTagsRequest) -> AppGetTagsResponse;
        read function::app_get_time_range_stats(AppGetTimeRangeStatsRequest) -> AppGetTimeRangeStatsResponse;
        read app::app_heartbeat(AppHeartbeatRequest) -> ();
        read app::app_list(AppListRequest) -> AppListResponse;
        write_for_caller deployment::app_publish(AppPublishRequest) -> AppPublishResponse;
        write deployment::app_promote(AppPromoteRequest) -> AppPromoteResponse;
        write deployment::app_rollback(AppRollbackRequest) -> AppRollbackResponse;
        write deployment::app_rollover(AppRolloverRequest) -> AppRolloverResponse;
        write deployment::app_set_tags(AppSetTagsRequest) -> ();
        write app::app_stop(AppStopRequest) -> ();
        read auth::auth_token_get(AuthTokenGetRequest) -> AuthTokenGetResponse;
        write blob::blob_create(BlobCreateRequest) -> BlobCreateResponse;
        read blob::blob_get(BlobGetRequest) -> BlobGetResponse;
        read workspace::client_hello(()) -> ClientHelloResponse;
        write dict::dict_clear(DictClearRequest) -> ();
        read dict::dict_contains(DictContainsRequest) -> DictContainsResponse;
        write dict::dict_delete(DictDeleteRequest) -> ();
        read dict::dict_get(DictGetRequest) -> DictGetResponse;
        read dict::dict_get_by_id(DictGetByIdRequest) -> DictGetByIdResponse;
        write dict::dict_get_or_create(DictGetOrCreateRequest) -> DictGetOrCreateResponse;
        read dict::dict_heartbeat(DictHeartbeatRequest) -> ();
        read dict::dict_len(DictLenRequest) -> DictLenResponse;
        read dict::dict_list(DictListRequest) -> DictListResponse;
        write dict::dict_pop(DictPopRequest) -> DictPopResponse;
        write dict::dict_update(DictUpdateRequest) -> DictUpdateResponse;
        write function::class_create(ClassCreateRequest) -> ClassCreateResponse;
        read function::class_get(ClassGetRequest) -> ClassGetResponse;
        write old_execs::container_exec(ContainerExecRequest) -> ContainerExecResponse;
        write function::container_exec_put_input(ContainerExecPutInputRequest) -> ();
        read old_execs::container_exec_wait(ContainerExecWaitRequest) -> ContainerExecWaitResponse;
        of_container function::container_heartbeat(ContainerHeartbeatRequest) -> ContainerHeartbeatResponse;
        of_container function::container_hello(()) -> ();
        of_container function::container_log(ContainerLogRequest) -> ();
        of_container function::container_server_lifecycle_ready(ContainerServerLifecycleReadyRequest) -> ();
        write function::container_stop(ContainerStopRequest) -> ContainerStopResponse;
        read billing::environment_billing_summary(EnvironmentBillingSummaryRequest) -> EnvironmentBillingSummaryResponse;
        write environment::environment_create(EnvironmentCreateRequest) -> ();
        write environment::environment_delete(EnvironmentDeleteRequest) -> ();
        read environment::environment_get_roles(EnvironmentGetRolesRequest) -> EnvironmentGetRolesResponse;
        write_for_caller environment::environment_get_or_create(EnvironmentGetOrCreateRequest) -> EnvironmentGetOrCreateResponse;
        read environment::environment_list(()) -> EnvironmentListResponse;
        write environment::environment_role_set(EnvironmentRoleSetRequest) -> ();
        write environment::environment_update(EnvironmentUpdateRequest) -> EnvironmentListItem;
        write function::function_bind_params(FunctionBindParamsRequest) -> FunctionBindParamsResponse;
        write function::function_call_cancel(FunctionCallCancelRequest) -> ();
        read function::function_call_count(FunctionCallCountRequest) -> FunctionCallCountResponse;
        read function::function_call_fetch(FunctionCallFetchRequest) -> FunctionCallFetchResponse;
        read function::function_call_from_id(FunctionCallFromIdRequest) -> FunctionCallFromIdResponse;
        read function::function_call_get_info(FunctionCallGetInfoRequest) -> FunctionCallGetInfoResponse;
        read function::function_call_list(FunctionCallListRequest) -> FunctionCallListResponse;
        of_container function::function_call_put_data_out(FunctionCallPutDataRequest) -> ();
        write function::function_create(FunctionCreateRequest) -> FunctionCreateResponse;
        read function::function_finish_inputs(FunctionFinishInputsRequest) -> ();
        read function::function_get(FunctionGetRequest) -> FunctionGetResponse;
        read function::function_get_by_id(FunctionGetByIdRequest) -> FunctionGetByIdResponse;
        read function::function_get_call_graph(FunctionGetCallGraphRequest) -> FunctionGetCallGraphResponse;
        read function::function_get_current_stats(FunctionGetCurrentStatsRequest) -> FunctionStats;
        of_container function::function_get_dynamic_concurrency(FunctionGetDynamicConcurrencyRequest) -> FunctionGetDynamicConcurrencyResponse;
        of_container function::function_get_inputs(FunctionGetInputsRequest) -> FunctionGetInputsResponse;
        read function::function_get_metrics(FunctionGetMetricsRequest) -> FunctionGetMetricsResponse;
        read function::function_get_outputs(FunctionGetOutputsRequest) -> FunctionGetOutputsResponse;
        read function::function_get_flash_auth_token(FunctionGetFlashAuthTokenRequest) -> FunctionGetFlashAuthTokenResponse;
        read function::function_get_scheduling_params(FunctionGetSchedulingParamsRequest) -> FunctionGetSchedulingParamsResponse;
        read function::function_get_time_range_stats(FunctionGetTimeRangeStatsRequest) -> FunctionGetTimeRangeStatsResponse;
        read function::function_list_variants(FunctionListVariantsRequest) -> FunctionListVariantsResponse;
        read function::function_get_serialized(FunctionGetSerializedRequest) -> FunctionGetSerializedResponse;
        write_for_caller function::function_map(FunctionMapRequest) -> FunctionMapResponse;
        write function::function_precreate(FunctionPrecreateRequest) -> FunctionPrecreateResponse;
        write function::function_put_inputs(FunctionPutInputsRequest) -> FunctionPutInputsResponse;
        of_container function::function_put_outputs(FunctionPutOutputsRequest) -> ();
        write function::function_retry_inputs(FunctionRetryInputsRequest) -> FunctionRetryInputsResponse;
        of_container function::function_start_pty_shell(()) -> ();
        write function::function_update_scheduling_params(FunctionUpdateSchedulingParamsRequest) -> FunctionUpdateSchedulingParamsResponse;
        read image::image_build_chain_get(ImageBuildChainGetRequest) -> ImageBuildChainGetResponse;
        write image::image_delete(ImageDeleteRequest) -> ();
        read image::image_from_id(ImageFromIdRequest) -> ImageFromIdResponse;
        read image::image_get_by_tag(ImageGetByTagRequest) -> ImageGetByTagResponse;
        write image::image_get_or_create(ImageGetOrCreateRequest) -> ImageGetOrCreateResponse;
        read image::image_list_tags(ImageListTagsRequest) -> ImageListTagsResponse;
        write image::image_name_delete(ImageNameDeleteRequest) -> ();
        write image::image_publish(ImagePublishRequest) -> ImagePublishResponse;
        read image::image_tag_revisions(ImageTagRevisionsRequest) -> ImageTagRevisionsResponse;
        read function::metrics_get_info(MetricsGetInfoRequest) -> MetricsGetInfoResponse;
        read mount::mount_batched_check_existence(MountBatchedCheckExistenceRequest) -> MountBatchedCheckExistenceResponse;
        write mount::mount_get_or_create(MountGetOrCreateRequest) -> MountGetOrCreateResponse;
        read mount::mount_put_file(MountPutFileRequest) -> MountPutFileResponse;
        read suggest::object_suggest(ObjectSuggestRequest) -> ObjectSuggestResponse;
        write sandbox::persistent_sandbox_create(PersistentSandboxCreateRequest) -> PersistentSandboxCreateResponse;
        read sandbox::persistent_sandbox_get(PersistentSandboxGetRequest) -> PersistentSandboxGetResponse;
        write sandbox::persistent_sandbox_resume(PersistentSandboxResumeRequest) -> PersistentSandboxResumeResponse;
        write sandbox::persistent_sandbox_terminate(PersistentSandboxTerminateRequest) -> PersistentSandboxTerminateResponse;
        read sandbox::persistent_sandbox_tunnels_list(PersistentSandboxTunnelsListRequest) -> PersistentSandboxTunnelsListResponse;
        read proxy::proxy_get(ProxyGetRequest) -> ProxyGetResponse;
        write queue::queue_clear(QueueClearRequest) -> ();
        write queue::queue_delete(QueueDeleteRequest) -> ();
        read_for_caller queue::queue_get(QueueGetRequest) -> QueueGetResponse;
        read queue::queue_get_by_id(QueueGetByIdRequest) -> QueueGetByIdResponse;
        write queue::queue_get_or_create(QueueGetOrCreateRequest) -> QueueGetOrCreateResponse;
        read queue::queue_heartbeat(QueueHeartbeatRequest) -> ();
        read queue::queue_len(QueueLenRequest) -> QueueLenResponse;
        read queue::queue_list(QueueListRequest) -> QueueListResponse;
        read queue::queue_next_items(QueueNextItemsRequest) -> QueueNextItemsResponse;
        write queue::queue_put(QueuePutRequest) -> ();
        write sandbox::sandbox_create(SandboxCreateRequest) -> SandboxCreateResponse;
        write sandbox::sandbox_container_create_v2(SandboxContainerCreateV2Request) -> SandboxContainerCreateV2Response;
        write sandbox::sandbox_create_connect_token(SandboxCreateConnectTokenRequest) -> SandboxCreateConnectTokenResponse;
        write sandbox::sandbox_create_connect_token_v2(SandboxCreateConnectTokenRequest) -> SandboxCreateConnectTokenResponse;
        write_for_caller sandbox::sandbox_create_v2(SandboxCreateV2Request) -> SandboxCreateV2Response;
        read_for_caller sandbox::sandbox_get_command_router_access(SandboxGetCommandRouterAccessRequest) -> SandboxGetCommandRouterAccessResponse;
        read sandbox::sandbox_get_exit_snapshot(SandboxGetExitSnapshotRequest) -> SandboxGetExitSnapshotResponse;
        read sandbox::sandbox_get_exit_snapshot_v2(SandboxGetExitSnapshotRequest) -> SandboxGetExitSnapshotResponse;
        read sandbox::sandbox_get_from_name(SandboxGetFromNameRequest) -> SandboxGetFromNameResponse;
        read sandbox::sandbox_get_from_name_v2(SandboxGetFromNameRequest) -> SandboxGetFromNameResponse;
        read sandbox::sandbox_get_task_id(SandboxGetTaskIdRequest) -> SandboxGetTaskIdResponse;
        read sandbox::sandbox_get_task_id_v2(SandboxGetTaskIdRequest) -> SandboxGetTaskIdResponse;
        read sandbox::sandbox_get_tunnels(SandboxGetTunnelsRequest) -> SandboxGetTunnelsResponse;
        read sandbox::sandbox_get_tunnels_v2(SandboxGetTunnelsRequest) -> SandboxGetTunnelsResponse;
        read sandbox::sandbox_list(SandboxListRequest) -> SandboxListResponse;
        read sandbox::sandbox_list_v2(SandboxListRequest) -> SandboxListResponse;
        write sandbox::sandbox_set_name(SandboxSetNameRequest) -> SandboxSetNameResponse;
        write sandbox::sandbox_set_outbound_policy(SandboxSetOutboundPolicyRequest) -> SandboxSetOutboundPolicyResponse;
        write sandbox::sandbox_set_outbound_policy_v2(SandboxSetOutboundPolicyRequest) -> SandboxSetOutboundPolicyResponse;
        write_for_caller sandbox::sandbox_snapshot_fs(SandboxSnapshotFsRequest) -> SandboxSnapshotFsResponse;
        write_for_caller sandbox::sandbox_snapshot_fs_async(SandboxSnapshotFsAsyncRequest) -> SandboxSnapshotFsAsyncResponse;
        read sandbox::sandbox_snapshot_fs_async_get(SandboxSnapshotFsAsyncGetRequest) -> SandboxSnapshotFsResponse;
        write sandbox::sandbox_stdin_write(SandboxStdinWriteRequest) -> SandboxStdinWriteResponse;
        read sandbox::sandbox_tags_get(SandboxTagsGetRequest) -> SandboxTagsGetResponse;
        read sandbox::sandbox_tags_get_v2(SandboxTagsGetRequest) -> SandboxTagsGetResponse;
        write sandbox::sandbox_tags_set(SandboxTagsSetRequest) -> ();
        write sandbox::sandbox_tags_set_v2(SandboxTagsSetRequest) -> ();
        write sandbox::sandbox_terminate(SandboxTerminateRequest) -> SandboxTerminateResponse;
        write sandbox::sandbox_terminate_v2(SandboxTerminateRequest) -> SandboxTerminateResponse;
        read sandbox::sandbox_wait(SandboxWaitRequest) -> SandboxWaitResponse;
        read sandbox::sandbox_wait_until_ready(SandboxWaitUntilReadyRequest) -> SandboxWaitUntilReadyResponse;
        read sandbox::sandbox_wait_v2(SandboxWaitRequest) -> SandboxWaitResponse;
        write secret::secret_delete(SecretDeleteRequest) -> ();
        read secret::secret_get_info(SecretGetInfoRequest) -> SecretGetInfoResponse;
        write secret::secret_get_or_create(SecretGetOrCreateRequest) -> SecretGetOrCreateResponse;
        read secret::secret_list(SecretListRequest) -> SecretListResponse;
        write secret::secret_update(SecretUpdateRequest) -> ();
        read function::server_count_requests(ServerCountRequestsRequest) -> ServerCountRequestsResponse;
        read function::server_get_metrics(ServerGetMetricsRequest) -> ServerGetMetricsResponse;
        read function::server_get_time_range_stats(ServerGetTimeRangeStatsRequest) -> ServerGetTimeRangeStatsResponse;
        read function::server_request_fetch(ServerRequestFetchRequest) -> ServerRequestFetchResponse;
        of_container function::task_current_inputs(()) -> TaskCurrentInputsResponse;
        of_container function::task_result(TaskResultRequest) -> ();
        read function::task_list(TaskListRequest) -> TaskListResponse;
        read_for_caller sandbox::task_get_command_router_access(TaskGetCommandRouterAccessRequest) -> TaskGetCommandRouterAccessResponse;
        read sandbox::task_get_info(TaskGetInfoRequest) -> TaskGetInfoResponse;
        write network_file_system::shared_volume_delete(SharedVolumeDeleteRequest) -> ();
        read network_file_system::shared_volume_get_file(SharedVolumeGetFileRequest) -> SharedVolumeGetFileResponse;
        write network_file_system::shared_volume_get_or_create(SharedVolumeGetOrCreateRequest) -> SharedVolumeGetOrCreateResponse;
        read network_file_system::shared_volume_heartbeat(SharedVolumeHeartbeatRequest) -> ();
        read network_file_system::shared_volume_list(SharedVolumeListRequest) -> SharedVolumeListResponse;
        read network_file_system::shared_volume_list_files(SharedVolumeListFilesRequest) -> SharedVolumeListFilesResponse;
        write network_file_system::shared_volume_put_file(SharedVolumePutFileRequest) -> SharedVolumePutFileResponse;
        write network_file_system::shared_volume_remove_file(SharedVolumeRemoveFileRequest) -> ();
        read token_flow::token_flow_create(TokenFlowCreateRequest) -> TokenFlowCreateResponse;
        read token_flow::token_flow_wait(TokenFlowWaitRequest) -> TokenFlowWaitResponse;
        read workspace::token_info_get(TokenInfoGetRequest) -> TokenInfoGetResponse;
        of_container function::tunnel_start(TunnelStartRequest) -> TunnelStartResponse;
        of_container function::tunnel_stop(TunnelStopRequest) -> TunnelStopResponse;
        write volume::volume_commit(VolumeCommitRequest) -> VolumeCommitResponse;
        write volume::volume_copy_files(VolumeCopyFilesRequest) -> ();
        write volume::volume_copy_files2(VolumeCopyFiles2Request) -> ();
        write volume::volume_delete(VolumeDeleteRequest) -> ();
        read volume::volume_get_by_id(VolumeGetByIdRequest) -> VolumeGetByIdResponse;
        read volume::volume_get_file(VolumeGetFileRequest) -> VolumeGetFileResponse;
        read volume::volume_get_file2(VolumeGetFile2Request) -> VolumeGetFile2Response;
        write volume::volume_get_or_create(VolumeGetOrCreateRequest) -> VolumeGetOrCreateResponse;
        read volume::volume_heartbeat(VolumeHeartbeatRequest) -> ();
        read volume::volume_list(VolumeListRequest) -> VolumeListResponse;
        write volume::volume_put_files(VolumePutFilesRequest) -> ();
        write volume::volume_put_files2(VolumePutFiles2Request) -> VolumePutFiles2Response;
        read volume::volume_reload(VolumeReloadRequest) -> ();
        write volume::volume_remove_file(VolumeRemoveFileRequest) -> ();
        write volume::volume_remove_file2(VolumeRemoveFile2Request) -> ();
        write volume::volume_rename(VolumeRenameRequest) -> ();
        write proxy_token::webhook_token_create(WebhookTokenCreateRequest) -> TokenCreateResponse;
        write proxy_token::webhook_token_delete(TokenDeleteRequest) -> ();
        write proxy_token::webhook_token_environment_add(WebhookTokenEnvironmentAddRequest) -> ();
        read proxy_token::webhook_token_environment_list(WebhookTokenEnvironmentListRequest) -> WebhookTokenEnvironmentListResponse;
        write proxy_token::webhook_token_environment_remove(WebhookTokenEnvironmentRemoveRequest) -> ();
        read proxy_token::webhook_token_list(()) -> WebhookTokenListResponse;
        read proxy_token::webhook_token_list_for_environment(WebhookTokenListForEnvironmentRequest) -> WebhookTokenListResponse;
        write proxy_token::webhook_token_update(WebhookTokenUpdateRequest) -> WebhookToken;
        read billing::workspace_billing_rates(WorkspaceBillingRatesRequest) -> WorkspaceBillingRatesResponse;
        read billing::workspace_billing_summary(WorkspaceBillingSummaryRequest) -> WorkspaceBillingSummaryResponse;
        read workspace::workspace_dashboard_url_get(WorkspaceDashboardUrlRequest) -> WorkspaceDashboardUrlResponse;
        read workspace::workspace_members_list(()) -> WorkspaceMembersListResponse;
        write workspace::workspace_set_default_environment(WorkspaceSetDefaultEnvironmentRequest) -> ();
        write workspace::workspace_set_image_builder_version(WorkspaceSetImageBuilderVersionRequest) -> WorkspaceSetImageBuilderVersionResponse;
        read workspace::workspace_settings(()) -> WorkspaceSettingsResponse;
        read workspace::workspace_name_lookup(()) -> WorkspaceNameLookupResponse;
    }
    streams {
        log::app_get_logs(AppGetLogsRequest) -> TaskLogsBatch;
        old_execs::container_exec_get_output(ContainerExecGetOutputRequest) -> RuntimeOutputBatch;
        dict::dict_contents(DictContentsRequest) -> DictEntry;
        function::function_call_get_data_out(FunctionCallGetDataRequest) -> DataChunk;
        image::image_join_streaming(ImageJoinStreamingRequest) -> ImageJoinStreamingResponse;
        sandbox::sandbox_get_logs(SandboxGetLogsRequest) -> TaskLogsBatch;
        network_file_system::shared_volume_list_files_stream(SharedVolumeListFilesRequest) -> SharedVolumeListFilesResponse;
        volume::volume_list_files(VolumeListFilesRequest) -> VolumeListFilesResponse;
        volume::volume_list_files2(VolumeListFiles2Request) -> VolumeListFiles2Response;
        billing::workspace_billing_report(WorkspaceBillingReportRequest) -> WorkspaceBillingReportItem;
    }
    streams_of_containers {
        function::function_call_get_data_in(FunctionCallGetDataRequest) -> DataChunk;
    }
}
