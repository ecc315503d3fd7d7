//! Nobody without the token gets anything, and everybody is told the name of what is not served.

use modal_local::TokenPair;
use modal_proto::client::{
    AppListRequest, AuthTokenGetRequest, BlobCreateRequest, blob_create_response,
};
use modal_proto::task_command_router::TaskExecPollRequest;
use modal_proto::task_command_router::task_command_router_client::TaskCommandRouterClient;
use tonic::Code;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;

use crate::harness::{TestServer, connect, http};

#[tokio::test]
async fn a_wrong_token_is_unauthenticated() {
    let server = TestServer::start().await;
    let right = server.server().token().clone();
    for token in [
        TokenPair::new("ak-wrong", "as-wrong"),
        TokenPair::new(right.id.clone(), "as-wrong"),
        TokenPair::new("", ""),
    ] {
        let mut client = connect(&server.url(), token).await;
        let status = client.app_list(AppListRequest::default()).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
    }
    server.client().await.app_list(AppListRequest::default()).await.unwrap();
}

#[tokio::test]
async fn the_command_router_wants_its_own_token() {
    let server = TestServer::start().await;
    let channel = Channel::from_shared(server.url()).unwrap().connect().await.unwrap();
    let mut router = TaskCommandRouterClient::new(channel);
    let status = router.task_exec_poll(TaskExecPollRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    let request = AuthTokenGetRequest::default();
    let token = server.client().await.auth_token_get(request).await.unwrap().into_inner().token;
    let mut request = tonic::Request::new(TaskExecPollRequest::default());
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let status = router.task_exec_poll(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "a token for the control plane opens nothing");
}

#[tokio::test]
async fn an_rpc_that_is_not_served_is_told_its_name() {
    let server = TestServer::start().await;
    let token = server.server().token().clone();
    let channel = Channel::from_shared(server.url()).unwrap().connect().await.unwrap();
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let mut request = tonic::Request::new(AppListRequest::default());
    request.metadata_mut().insert("x-modal-token-id", token.id.parse().unwrap());
    request.metadata_mut().insert("x-modal-token-secret", token.secret.expose().parse().unwrap());
    let path = PathAndQuery::from_static("/modal.client.ModalClient/ProxyCreate");
    let codec = tonic_prost::ProstCodec::<AppListRequest, ()>::default();
    let status = grpc.unary(request, path, codec).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert_eq!(status.message(), "`ProxyCreate` is not served by modal-local");
}

#[tokio::test]
async fn http_asks_for_the_token_or_a_signed_url() {
    let server = TestServer::start().await;
    let token = server.server().token().clone();
    let status = format!("{}/_local/status", server.url());
    assert_eq!(http("GET", &status, &[], b"").await.status, 401);
    let headers =
        [("x-modal-token-id", token.id.as_str()), ("x-modal-token-secret", token.secret.expose())];
    assert_eq!(http("GET", &status, &headers, b"").await.status, 200);
    let nowhere = format!("{}/nowhere", server.url());
    assert_eq!(http("GET", &nowhere, &headers, b"").await.status, 404);
    assert_eq!(http("GET", &nowhere, &[], b"").await.status, 401);
    let forged = format!("{}/_granted/e30.AAAA", server.url());
    assert_eq!(http("GET", &forged, &headers, b"").await.status, 403);
}

#[tokio::test]
async fn a_name_that_points_here_is_not_ours() {
    let server = TestServer::start().await;
    let url = format!("{}/_local/status", server.url());
    for host in ["evil.example", "evil.example:80", "127.0.0.1.evil.example"] {
        assert_eq!(http("GET", &url, &[("host", host)], b"").await.status, 421, "{host}");
    }
    assert_eq!(http("GET", &url, &[("host", "localhost:1")], b"").await.status, 401);
}

#[tokio::test]
async fn a_signed_url_allows_one_thing_only() {
    let server = TestServer::start().await;
    let request = BlobCreateRequest { content_length: 2, ..BlobCreateRequest::default() };
    let answer = server.client().await.blob_create(request).await.unwrap().into_inner();
    let Some(blob_create_response::UploadTypeOneof::UploadUrl(url)) = answer.upload_type_oneof
    else {
        panic!("a small blob is uploaded at once");
    };
    assert_eq!(http("GET", &url, &[], b"").await.status, 405);
    assert_eq!(http("POST", &url, &[], b"").await.status, 405);
    assert_eq!(http("PUT", &url, &[], b"hi").await.status, 200);
}

/// Whatever is served has an answer of its own, if only that the request makes no sense.
#[tokio::test]
async fn every_rpc_that_is_said_to_be_served_is() {
    let server = TestServer::start().await;
    let token = server.server().token().clone();
    let channel = Channel::from_shared(server.url()).unwrap().connect().await.unwrap();
    let mut missing = Vec::new();
    for rpc in modal_local::coverage::served() {
        let mut grpc = tonic::client::Grpc::new(channel.clone());
        grpc.ready().await.unwrap();
        let mut request = tonic::Request::new(());
        request.metadata_mut().insert("x-modal-token-id", token.id.parse().unwrap());
        let secret = token.secret.expose().parse().unwrap();
        request.metadata_mut().insert("x-modal-token-secret", secret);
        let path = PathAndQuery::from_maybe_shared(format!("/{rpc}")).unwrap();
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        if let Err(status) = grpc.server_streaming(request, path, codec).await
            && status.code() == Code::Unimplemented
        {
            missing.push(rpc);
        }
    }
    assert_eq!(missing, [""; 0]);
}
