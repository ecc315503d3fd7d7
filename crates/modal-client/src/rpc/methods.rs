//! The RPCs this client sends: name, path, types and whether the call carries the auth token.
//!
//! Modal's Python client sends `x-modal-auth-token` with the calls of version 2 sandboxes only; so
//! does this one.

use std::marker::PhantomData;

use modal_proto::{client as api, task_command_router as router};

/// One RPC: its request type, its answer type, and how it is called.
pub(crate) struct Method<Q, A> {
    pub(crate) name: &'static str,
    pub(crate) path: &'static str,
    pub(crate) auth_token: bool,
    types: PhantomData<fn(Q) -> A>,
}

impl<Q, A> Method<Q, A> {
    /// Whether its callers ask again by themselves when the server has held it long enough.
    pub(crate) fn is_poll(&self) -> bool {
        self.name == TASK_EXEC_WAIT.name
    }
}

macro_rules! methods {
    ($service:literal, $auth:literal, $list:ident: $($(#[$meta:meta])* $konst:ident = $name:literal($query:ty) -> $answer:ty;)*) => {
        $(
            pub(crate) const $konst: Method<$query, $answer> = Method {
                name: $name,
                path: concat!("/", $service, "/", $name),
                auth_token: $auth,
                types: PhantomData,
            };
        )*
        #[cfg(test)]
        const $list: &[&str] = &[$(concat!($service, "/", $name)),*];
    };
}

methods! { "modal.client.ModalClient", false, CONTROL:
    APP_CLIENT_DISCONNECT = "AppClientDisconnect"(api::AppClientDisconnectRequest) -> ();
    APP_COUNT_LOGS = "AppCountLogs"(api::AppCountLogsRequest) -> api::AppCountLogsResponse;
    APP_CREATE = "AppCreate"(api::AppCreateRequest) -> api::AppCreateResponse;
    APP_DEPLOYMENT_HISTORY = "AppDeploymentHistory"(api::AppDeploymentHistoryRequest) -> api::AppDeploymentHistoryResponse;
    APP_FETCH_LOGS = "AppFetchLogs"(api::AppFetchLogsRequest) -> api::AppFetchLogsResponse;
    APP_GET_BY_DEPLOYMENT_NAME = "AppGetByDeploymentName"(api::AppGetByDeploymentNameRequest) -> api::AppGetByDeploymentNameResponse;
    APP_GET_LAYOUT = "AppGetLayout"(api::AppGetLayoutRequest) -> api::AppGetLayoutResponse;
    APP_GET_LOGS = "AppGetLogs"(api::AppGetLogsRequest) -> api::TaskLogsBatch;
    APP_GET_OR_CREATE = "AppGetOrCreate"(api::AppGetOrCreateRequest) -> api::AppGetOrCreateResponse;
    APP_GET_TAGS = "AppGetTags"(api::AppGetTagsRequest) -> api::AppGetTagsResponse;
    APP_HEARTBEAT = "AppHeartbeat"(api::AppHeartbeatRequest) -> ();
    APP_LIST = "AppList"(api::AppListRequest) -> api::AppListResponse;
    APP_PUBLISH = "AppPublish"(api::AppPublishRequest) -> api::AppPublishResponse;
    APP_ROLLBACK = "AppRollback"(api::AppRollbackRequest) -> api::AppRollbackResponse;
    APP_ROLLOVER = "AppRollover"(api::AppRolloverRequest) -> api::AppRolloverResponse;
    APP_SET_TAGS = "AppSetTags"(api::AppSetTagsRequest) -> ();
    APP_STOP = "AppStop"(api::AppStopRequest) -> ();
    AUTH_TOKEN_GET = "AuthTokenGet"(api::AuthTokenGetRequest) -> api::AuthTokenGetResponse;
    BLOB_CREATE = "BlobCreate"(api::BlobCreateRequest) -> api::BlobCreateResponse;
    BLOB_GET = "BlobGet"(api::BlobGetRequest) -> api::BlobGetResponse;
    CLIENT_HELLO = "ClientHello"(()) -> api::ClientHelloResponse;
    CONTAINER_STOP = "ContainerStop"(api::ContainerStopRequest) -> api::ContainerStopResponse;
    DICT_CLEAR = "DictClear"(api::DictClearRequest) -> ();
    DICT_CONTAINS = "DictContains"(api::DictContainsRequest) -> api::DictContainsResponse;
    DICT_CONTENTS = "DictContents"(api::DictContentsRequest) -> api::DictEntry;
    DICT_DELETE = "DictDelete"(api::DictDeleteRequest) -> ();
    DICT_GET = "DictGet"(api::DictGetRequest) -> api::DictGetResponse;
    DICT_GET_OR_CREATE = "DictGetOrCreate"(api::DictGetOrCreateRequest) -> api::DictGetOrCreateResponse;
    DICT_HEARTBEAT = "DictHeartbeat"(api::DictHeartbeatRequest) -> ();
    DICT_LEN = "DictLen"(api::DictLenRequest) -> api::DictLenResponse;
    DICT_LIST = "DictList"(api::DictListRequest) -> api::DictListResponse;
    DICT_POP = "DictPop"(api::DictPopRequest) -> api::DictPopResponse;
    DICT_UPDATE = "DictUpdate"(api::DictUpdateRequest) -> api::DictUpdateResponse;
    ENVIRONMENT_CREATE = "EnvironmentCreate"(api::EnvironmentCreateRequest) -> ();
    ENVIRONMENT_DELETE = "EnvironmentDelete"(api::EnvironmentDeleteRequest) -> ();
    ENVIRONMENT_GET_OR_CREATE = "EnvironmentGetOrCreate"(api::EnvironmentGetOrCreateRequest) -> api::EnvironmentGetOrCreateResponse;
    ENVIRONMENT_LIST = "EnvironmentList"(()) -> api::EnvironmentListResponse;
    FUNCTION_CALL_CANCEL = "FunctionCallCancel"(api::FunctionCallCancelRequest) -> ();
    FUNCTION_CALL_GET_DATA_OUT = "FunctionCallGetDataOut"(api::FunctionCallGetDataRequest) -> api::DataChunk;
    FUNCTION_CREATE = "FunctionCreate"(api::FunctionCreateRequest) -> api::FunctionCreateResponse;
    FUNCTION_GET = "FunctionGet"(api::FunctionGetRequest) -> api::FunctionGetResponse;
    FUNCTION_GET_CURRENT_STATS = "FunctionGetCurrentStats"(api::FunctionGetCurrentStatsRequest) -> api::FunctionStats;
    FUNCTION_GET_OUTPUTS = "FunctionGetOutputs"(api::FunctionGetOutputsRequest) -> api::FunctionGetOutputsResponse;
    FUNCTION_MAP = "FunctionMap"(api::FunctionMapRequest) -> api::FunctionMapResponse;
    FUNCTION_PRECREATE = "FunctionPrecreate"(api::FunctionPrecreateRequest) -> api::FunctionPrecreateResponse;
    FUNCTION_PUT_INPUTS = "FunctionPutInputs"(api::FunctionPutInputsRequest) -> api::FunctionPutInputsResponse;
    FUNCTION_RETRY_INPUTS = "FunctionRetryInputs"(api::FunctionRetryInputsRequest) -> api::FunctionRetryInputsResponse;
    FUNCTION_UPDATE_SCHEDULING_PARAMS = "FunctionUpdateSchedulingParams"(api::FunctionUpdateSchedulingParamsRequest) -> api::FunctionUpdateSchedulingParamsResponse;
    IMAGE_FROM_ID = "ImageFromId"(api::ImageFromIdRequest) -> api::ImageFromIdResponse;
    IMAGE_GET_OR_CREATE = "ImageGetOrCreate"(api::ImageGetOrCreateRequest) -> api::ImageGetOrCreateResponse;
    IMAGE_JOIN_STREAMING = "ImageJoinStreaming"(api::ImageJoinStreamingRequest) -> api::ImageJoinStreamingResponse;
    MOUNT_BATCHED_CHECK_EXISTENCE = "MountBatchedCheckExistence"(api::MountBatchedCheckExistenceRequest) -> api::MountBatchedCheckExistenceResponse;
    MOUNT_GET_OR_CREATE = "MountGetOrCreate"(api::MountGetOrCreateRequest) -> api::MountGetOrCreateResponse;
    MOUNT_PUT_FILE = "MountPutFile"(api::MountPutFileRequest) -> api::MountPutFileResponse;
    QUEUE_CLEAR = "QueueClear"(api::QueueClearRequest) -> ();
    QUEUE_DELETE = "QueueDelete"(api::QueueDeleteRequest) -> ();
    QUEUE_GET = "QueueGet"(api::QueueGetRequest) -> api::QueueGetResponse;
    QUEUE_GET_OR_CREATE = "QueueGetOrCreate"(api::QueueGetOrCreateRequest) -> api::QueueGetOrCreateResponse;
    QUEUE_HEARTBEAT = "QueueHeartbeat"(api::QueueHeartbeatRequest) -> ();
    QUEUE_LEN = "QueueLen"(api::QueueLenRequest) -> api::QueueLenResponse;
    QUEUE_LIST = "QueueList"(api::QueueListRequest) -> api::QueueListResponse;
    QUEUE_NEXT_ITEMS = "QueueNextItems"(api::QueueNextItemsRequest) -> api::QueueNextItemsResponse;
    QUEUE_PUT = "QueuePut"(api::QueuePutRequest) -> ();
    SANDBOX_CREATE = "SandboxCreate"(api::SandboxCreateRequest) -> api::SandboxCreateResponse;
    SANDBOX_CREATE_CONNECT_TOKEN = "SandboxCreateConnectToken"(api::SandboxCreateConnectTokenRequest) -> api::SandboxCreateConnectTokenResponse;
    SANDBOX_GET_LOGS = "SandboxGetLogs"(api::SandboxGetLogsRequest) -> api::TaskLogsBatch;
    SANDBOX_GET_TASK_ID = "SandboxGetTaskId"(api::SandboxGetTaskIdRequest) -> api::SandboxGetTaskIdResponse;
    SANDBOX_GET_TUNNELS = "SandboxGetTunnels"(api::SandboxGetTunnelsRequest) -> api::SandboxGetTunnelsResponse;
    SANDBOX_SNAPSHOT_FS = "SandboxSnapshotFs"(api::SandboxSnapshotFsRequest) -> api::SandboxSnapshotFsResponse;
    SANDBOX_STDIN_WRITE = "SandboxStdinWrite"(api::SandboxStdinWriteRequest) -> api::SandboxStdinWriteResponse;
    SANDBOX_TAGS_GET = "SandboxTagsGet"(api::SandboxTagsGetRequest) -> api::SandboxTagsGetResponse;
    SANDBOX_TAGS_SET = "SandboxTagsSet"(api::SandboxTagsSetRequest) -> ();
    SANDBOX_TERMINATE = "SandboxTerminate"(api::SandboxTerminateRequest) -> api::SandboxTerminateResponse;
    SANDBOX_WAIT = "SandboxWait"(api::SandboxWaitRequest) -> api::SandboxWaitResponse;
    SECRET_DELETE = "SecretDelete"(api::SecretDeleteRequest) -> ();
    SECRET_GET_INFO = "SecretGetInfo"(api::SecretGetInfoRequest) -> api::SecretGetInfoResponse;
    SECRET_GET_OR_CREATE = "SecretGetOrCreate"(api::SecretGetOrCreateRequest) -> api::SecretGetOrCreateResponse;
    SECRET_LIST = "SecretList"(api::SecretListRequest) -> api::SecretListResponse;
    SECRET_UPDATE = "SecretUpdate"(api::SecretUpdateRequest) -> ();
    TASK_GET_COMMAND_ROUTER_ACCESS = "TaskGetCommandRouterAccess"(api::TaskGetCommandRouterAccessRequest) -> api::TaskGetCommandRouterAccessResponse;
    TASK_LIST = "TaskList"(api::TaskListRequest) -> api::TaskListResponse;
    TOKEN_FLOW_CREATE = "TokenFlowCreate"(api::TokenFlowCreateRequest) -> api::TokenFlowCreateResponse;
    TOKEN_FLOW_WAIT = "TokenFlowWait"(api::TokenFlowWaitRequest) -> api::TokenFlowWaitResponse;
    TOKEN_INFO_GET = "TokenInfoGet"(api::TokenInfoGetRequest) -> api::TokenInfoGetResponse;
    VOLUME_COPY_FILES = "VolumeCopyFiles"(api::VolumeCopyFilesRequest) -> ();
    VOLUME_COPY_FILES_2 = "VolumeCopyFiles2"(api::VolumeCopyFiles2Request) -> ();
    VOLUME_DELETE = "VolumeDelete"(api::VolumeDeleteRequest) -> ();
    VOLUME_GET_BY_ID = "VolumeGetById"(api::VolumeGetByIdRequest) -> api::VolumeGetByIdResponse;
    VOLUME_GET_FILE_2 = "VolumeGetFile2"(api::VolumeGetFile2Request) -> api::VolumeGetFile2Response;
    VOLUME_GET_OR_CREATE = "VolumeGetOrCreate"(api::VolumeGetOrCreateRequest) -> api::VolumeGetOrCreateResponse;
    VOLUME_HEARTBEAT = "VolumeHeartbeat"(api::VolumeHeartbeatRequest) -> ();
    VOLUME_LIST = "VolumeList"(api::VolumeListRequest) -> api::VolumeListResponse;
    VOLUME_LIST_FILES = "VolumeListFiles"(api::VolumeListFilesRequest) -> api::VolumeListFilesResponse;
    VOLUME_LIST_FILES_2 = "VolumeListFiles2"(api::VolumeListFiles2Request) -> api::VolumeListFiles2Response;
    VOLUME_PUT_FILES = "VolumePutFiles"(api::VolumePutFilesRequest) -> ();
    VOLUME_PUT_FILES_2 = "VolumePutFiles2"(api::VolumePutFiles2Request) -> api::VolumePutFiles2Response;
    VOLUME_REMOVE_FILE = "VolumeRemoveFile"(api::VolumeRemoveFileRequest) -> ();
    VOLUME_REMOVE_FILE_2 = "VolumeRemoveFile2"(api::VolumeRemoveFile2Request) -> ();
    VOLUME_RENAME = "VolumeRename"(api::VolumeRenameRequest) -> ();
    SANDBOX_GET_FROM_NAME = "SandboxGetFromName"(api::SandboxGetFromNameRequest) -> api::SandboxGetFromNameResponse;
}

methods! { "modal.client.ModalClient", true, SANDBOX:
    SANDBOX_CREATE_CONNECT_TOKEN_V2 = "SandboxCreateConnectTokenV2"(api::SandboxCreateConnectTokenRequest) -> api::SandboxCreateConnectTokenResponse;
    SANDBOX_CREATE_V2 = "SandboxCreateV2"(api::SandboxCreateV2Request) -> api::SandboxCreateV2Response;
    SANDBOX_GET_COMMAND_ROUTER_ACCESS = "SandboxGetCommandRouterAccess"(api::SandboxGetCommandRouterAccessRequest) -> api::SandboxGetCommandRouterAccessResponse;
    SANDBOX_GET_FROM_NAME_V2 = "SandboxGetFromNameV2"(api::SandboxGetFromNameRequest) -> api::SandboxGetFromNameResponse;
    SANDBOX_GET_TASK_ID_V2 = "SandboxGetTaskIdV2"(api::SandboxGetTaskIdRequest) -> api::SandboxGetTaskIdResponse;
    SANDBOX_GET_TUNNELS_V2 = "SandboxGetTunnelsV2"(api::SandboxGetTunnelsRequest) -> api::SandboxGetTunnelsResponse;
    SANDBOX_LIST_V2 = "SandboxListV2"(api::SandboxListRequest) -> api::SandboxListResponse;
    SANDBOX_SET_NAME = "SandboxSetName"(api::SandboxSetNameRequest) -> api::SandboxSetNameResponse;
    SANDBOX_TAGS_GET_V2 = "SandboxTagsGetV2"(api::SandboxTagsGetRequest) -> api::SandboxTagsGetResponse;
    SANDBOX_TAGS_SET_V2 = "SandboxTagsSetV2"(api::SandboxTagsSetRequest) -> ();
    SANDBOX_TERMINATE_V2 = "SandboxTerminateV2"(api::SandboxTerminateRequest) -> api::SandboxTerminateResponse;
    SANDBOX_WAIT_V2 = "SandboxWaitV2"(api::SandboxWaitRequest) -> api::SandboxWaitResponse;
}

methods! { "modal.task_command_router.TaskCommandRouter", false, ROUTER:
    SANDBOX_STDIN_WRITE_V2 = "SandboxStdinWriteV2"(router::SandboxStdinWriteV2Request) -> router::SandboxStdinWriteV2Response;
    SANDBOX_STDIO_READ_V2 = "SandboxStdioReadV2"(router::SandboxStdioReadV2Request) -> router::SandboxStdioReadV2Response;
    SANDBOX_WAIT_UNTIL_READY = "SandboxWaitUntilReady"(router::SandboxWaitUntilReadyTcrRequest) -> router::SandboxWaitUntilReadyTcrResponse;
    TASK_EXEC_POLL = "TaskExecPoll"(router::TaskExecPollRequest) -> router::TaskExecPollResponse;
    TASK_EXEC_START = "TaskExecStart"(router::TaskExecStartRequest) -> router::TaskExecStartResponse;
    TASK_EXEC_STDIN_STATUS = "TaskExecStdinStatus"(router::TaskExecStdinStatusRequest) -> router::TaskExecStdinStatusResponse;
    TASK_EXEC_STDIN_WRITE = "TaskExecStdinWrite"(router::TaskExecStdinWriteRequest) -> router::TaskExecStdinWriteResponse;
    TASK_EXEC_STDIN_WRITE_STREAM = "TaskExecStdinWriteStream"(router::TaskExecStdinWriteStreamRequest) -> router::TaskExecStdinWriteStreamResponse;
    TASK_EXEC_STDIO_READ = "TaskExecStdioRead"(router::TaskExecStdioReadRequest) -> router::TaskExecStdioReadResponse;
    TASK_EXEC_WAIT = "TaskExecWait"(router::TaskExecWaitRequest) -> router::TaskExecWaitResponse;
    TASK_MOUNT_DIRECTORY = "TaskMountDirectory"(router::TaskMountDirectoryRequest) -> ();
    TASK_RELOAD_VOLUMES = "TaskReloadVolumes"(router::TaskReloadVolumesRequest) -> router::TaskReloadVolumesResponse;
    TASK_SNAPSHOT_DIRECTORY = "TaskSnapshotDirectory"(router::TaskSnapshotDirectoryRequest) -> router::TaskSnapshotDirectoryResponse;
    TASK_SNAPSHOT_FILESYSTEM = "TaskSnapshotFilesystem"(router::TaskSnapshotFilesystemRequest) -> router::TaskSnapshotFilesystemResponse;
    TASK_UNMOUNT_DIRECTORY = "TaskUnmountDirectory"(router::TaskUnmountDirectoryRequest) -> ();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_declared_in_modal_proto() {
        let declared = modal_proto::rpcs();
        for name in CONTROL.iter().chain(SANDBOX).chain(ROUTER) {
            assert!(declared.iter().any(|rpc| rpc == name), "{name} is not in modal-proto");
        }
    }
}
