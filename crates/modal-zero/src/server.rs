//! The server: constants for answers.

use std::pin::Pin;

use modal_proto::{
    client::{
        AppClientDisconnectRequest, AppGetOrCreateRequest, AppGetOrCreateResponse,
        AuthTokenGetRequest, AuthTokenGetResponse, CommandRouterAccess,
        EnvironmentGetOrCreateRequest, EnvironmentGetOrCreateResponse, EnvironmentMetadata,
        EnvironmentSettings, GenericResult, ImageGetOrCreateRequest, ImageGetOrCreateResponse,
        ImageMetadata, SandboxCreateV2Request, SandboxCreateV2Response,
        generic_result::GenericStatus,
        modal_client_server::{ModalClient, ModalClientServer},
    },
    task_command_router::{
        TaskExecStartRequest, TaskExecStartResponse, TaskExecStdioReadRequest,
        TaskExecStdioReadResponse, TaskExecWaitRequest, TaskExecWaitResponse,
        task_command_router_server::{TaskCommandRouter, TaskCommandRouterServer},
        task_exec_wait_response::ExitStatus,
    },
};
use tokio::net::TcpListener;
use tokio_stream::{Stream, wrappers::TcpListenerStream};
use tonic::{Request, Response, Status};

use crate::error::{Error, Result};

pub(crate) const APP: &str = "ap-zero";
pub(crate) const IMAGE: &str = "im-zero";
/// `{"exp": 4102444800}`, the year 2100: clients look at the end of a token and at nothing else.
const TOKEN: &str = "e30.eyJleHAiOjQxMDI0NDQ4MDB9.zero";
/// A builder version that the official SDKs know.
const BUILDER: &str = "2025.06";

type Answer<T> = Result<Response<T>, Status>;
type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send + 'static>>;

/// Serves without TLS until the future is dropped. It looks at no token: whoever reaches the port gets constants.
///
/// # Errors
/// [`Error::Serve`].
pub async fn serve(listener: TcpListener) -> Result<()> {
    let address = listener.local_addr().map_err(|source| Error::Serve(source.into()))?;
    let zero = Zero { url: format!("http://{address}") };
    tonic::transport::Server::builder()
        .tcp_nodelay(true)
        .add_service(ModalClientServer::new(zero.clone()))
        .add_service(TaskCommandRouterServer::new(zero))
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await
        .map_err(|source| Error::Serve(source.into()))
}

#[derive(Clone)]
struct Zero {
    url: String,
}

#[tonic::async_trait]
impl ModalClient for Zero {
    async fn auth_token_get(
        &self,
        _: Request<AuthTokenGetRequest>,
    ) -> Answer<AuthTokenGetResponse> {
        Ok(Response::new(AuthTokenGetResponse { token: TOKEN.to_owned() }))
    }

    async fn app_get_or_create(
        &self,
        _: Request<AppGetOrCreateRequest>,
    ) -> Answer<AppGetOrCreateResponse> {
        let app_id = APP.to_owned();
        Ok(Response::new(AppGetOrCreateResponse { app_id, ..Default::default() }))
    }

    async fn app_client_disconnect(&self, _: Request<AppClientDisconnectRequest>) -> Answer<()> {
        Ok(Response::new(()))
    }

    async fn environment_get_or_create(
        &self,
        _: Request<EnvironmentGetOrCreateRequest>,
    ) -> Answer<EnvironmentGetOrCreateResponse> {
        let settings =
            EnvironmentSettings { image_builder_version: BUILDER.to_owned(), ..Default::default() };
        let metadata =
            EnvironmentMetadata { settings: Some(settings), ..EnvironmentMetadata::default() };
        let environment_id = "en-zero".to_owned();
        let answer = EnvironmentGetOrCreateResponse { environment_id, metadata: Some(metadata) };
        Ok(Response::new(answer))
    }

    async fn image_get_or_create(
        &self,
        _: Request<ImageGetOrCreateRequest>,
    ) -> Answer<ImageGetOrCreateResponse> {
        let result =
            GenericResult { status: GenericStatus::Success.into(), ..GenericResult::default() };
        let metadata = ImageMetadata {
            image_builder_version: Some(BUILDER.to_owned()),
            ..ImageMetadata::default()
        };
        Ok(Response::new(ImageGetOrCreateResponse {
            image_id: IMAGE.to_owned(),
            result: Some(result),
            metadata: Some(metadata),
        }))
    }

    async fn sandbox_create_v2(
        &self,
        _: Request<SandboxCreateV2Request>,
    ) -> Answer<SandboxCreateV2Response> {
        let access = CommandRouterAccess { url: self.url.clone(), jwt: TOKEN.to_owned() };
        Ok(Response::new(SandboxCreateV2Response {
            sandbox_id: "sb-zero".to_owned(),
            task_id: "ta-zero".to_owned(),
            command_router_access: Some(access),
            ..Default::default()
        }))
    }
}

#[tonic::async_trait]
impl TaskCommandRouter for Zero {
    async fn task_exec_start(
        &self,
        _: Request<TaskExecStartRequest>,
    ) -> Answer<TaskExecStartResponse> {
        Ok(Response::new(TaskExecStartResponse {}))
    }

    async fn task_exec_stdio_read(
        &self,
        _: Request<TaskExecStdioReadRequest>,
    ) -> Answer<Messages<TaskExecStdioReadResponse>> {
        Ok(Response::new(Box::pin(tokio_stream::empty())))
    }

    async fn task_exec_wait(
        &self,
        _: Request<TaskExecWaitRequest>,
    ) -> Answer<TaskExecWaitResponse> {
        Ok(Response::new(TaskExecWaitResponse { exit_status: Some(ExitStatus::Code(0)) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RawClient;

    #[tokio::test]
    async fn a_sandbox_of_nothing_ends_well() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(serve(listener));
        RawClient::connect(&url).await.unwrap().cycle().await.unwrap();
        server.abort();
    }
}
