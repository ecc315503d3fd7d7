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
    APP_GET_BY_DEPLOYMENT_NAME = "AppGetByDeploymentName"(api::AppGetByDeploymentNameRequest) -> api::AppGetByDeploymentNameResponse;
    APP_GET_OR_CREATE = "AppGetOrCreate"(api::AppGetOrCreateRequest) -> api::AppGetOrCreateResponse;
    APP_LIST = "AppList"(api::AppListRequest) -> api::AppListResponse;
    APP_STOP = "AppStop"(api::AppStopRequest) -> ();
    AUTH_TOKEN_GET = "AuthTokenGet"(api::AuthTokenGetRequest) -> api::AuthTokenGetResponse;
    BLOB_CREATE = "BlobCreate"(api::BlobCreateRequest) -> api::BlobCreateResponse;
    CLIENT_HELLO = "ClientHello"(()) -> api::ClientHelloResponse;
    ENVIRONMENT_CREATE = "EnvironmentCreate"(api::EnvironmentCreateRequest) -> ();
    ENVIRONMENT_DELETE = "EnvironmentDelete"(api::EnvironmentDeleteRequest) -> ();
    ENVIRONMENT_GET_OR_CREATE = "EnvironmentGetOrCreate"(api::EnvironmentGetOrCreateRequest) -> api::EnvironmentGetOrCreateResponse;
    ENVIRONMENT_LIST = "EnvironmentList"(()) -> api::EnvironmentListResponse;
    IMAGE_FROM_ID = "ImageFromId"(api::ImageFromIdRequest) -> api::ImageFromIdResponse;
    IMAGE_GET_OR_CREATE = "ImageGetOrCreate"(api::ImageGetOrCreateRequest) -> api::ImageGetOrCreateResponse;
    IMAGE_JOIN_STREAMING = "ImageJoinStreaming"(api::ImageJoinStreamingRequest) -> api::ImageJoinStreamingResponse;
    MOUNT_BATCHED_CHECK_EXISTENCE = "MountBatchedCheckExistence"(api::MountBatchedCheckExistenceRequest) -> api::MountBatchedCheckExistenceResponse;
    MOUNT_GET_OR_CREATE = "MountGetOrCreate"(api::MountGetOrCreateRequest) -> api::MountGetOrCreateResponse;
    MOUNT_PUT_FILE = "MountPutFile"(api::MountPutFileRequest) -> api::MountPutFileResponse;
    SECRET_DELETE = "SecretDelete"(api::SecretDeleteRequest) -> ();
    SECRET_GET_INFO = "SecretGetInfo"(api::SecretGetInfoRequest) -> api::SecretGetInfoResponse;
    SECRET_GET_OR_CREATE = "SecretGetOrCreate"(api::SecretGetOrCreateRequest) -> api::SecretGetOrCreateResponse;
    SECRET_LIST = "SecretList"(api::SecretListRequest) -> api::SecretListResponse;
    SECRET_UPDATE = "SecretUpdate"(api::SecretUpdateRequest) -> ();
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
    TASK_EXEC_POLL = "TaskExecPoll"(router::TaskExecPollRequest) -> router::TaskExecPollResponse;
    TASK_EXEC_START = "TaskExecStart"(router::TaskExecStartRequest) -> router::TaskExecStartResponse;
    TASK_EXEC_STDIN_STATUS = "TaskExecStdinStatus"(router::TaskExecStdinStatusRequest) -> router::TaskExecStdinStatusResponse;
    TASK_EXEC_STDIN_WRITE = "TaskExecStdinWrite"(router::TaskExecStdinWriteRequest) -> router::TaskExecStdinWriteResponse;
    TASK_EXEC_STDIN_WRITE_STREAM = "TaskExecStdinWriteStream"(router::TaskExecStdinWriteStreamRequest) -> router::TaskExecStdinWriteStreamResponse;
    TASK_EXEC_STDIO_READ = "TaskExecStdioRead"(router::TaskExecStdioReadRequest) -> router::TaskExecStdioReadResponse;
    TASK_EXEC_WAIT = "TaskExecWait"(router::TaskExecWaitRequest) -> router::TaskExecWaitResponse;
    TASK_RELOAD_VOLUMES = "TaskReloadVolumes"(router::TaskReloadVolumesRequest) -> router::TaskReloadVolumesResponse;
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
