//! A token through a browser: anybody may ask, and only the state directory's owner can say yes.

use modal_local::TokenPair;
use modal_proto::client::{TokenFlowCreateRequest, TokenFlowWaitRequest, TokenInfoGetRequest};
use tonic::Code;

use crate::harness::{TestServer, connect, http};

#[tokio::test]
async fn a_client_without_token_gets_the_servers_once_the_page_confirms() {
    let server = TestServer::start().await;
    let mut stranger = connect(&server.url(), TokenPair::new("", "")).await;
    let status = stranger.token_info_get(TokenInfoGetRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    let flow = stranger.token_flow_create(TokenFlowCreateRequest::default()).await.unwrap();
    let flow = flow.into_inner();
    let wait = |timeout| TokenFlowWaitRequest {
        timeout,
        token_flow_id: flow.token_flow_id.clone(),
        wait_secret: flow.wait_secret.clone(),
    };
    assert!(stranger.token_flow_wait(wait(0.0)).await.unwrap().into_inner().timeout);
    let page = http("GET", &flow.web_url, &[], b"").await;
    let text = String::from_utf8(page.body).unwrap();
    assert!(page.status == 200 && text.contains("login-code"), "{text}");
    let code = std::fs::read_to_string(server.dir.path().join("login-code")).unwrap();
    assert!(!text.contains(code.trim()), "the page must not tell the code");
    let form = ("content-type", "application/x-www-form-urlencoded");
    let wrong = http("POST", &flow.web_url, &[form], b"code=nonsense").await;
    assert_eq!(wrong.status, 403);
    let body = format!("code={}", code.trim());
    let foreign = [form, ("origin", "http://evil.example")];
    assert_eq!(http("POST", &flow.web_url, &foreign, body.as_bytes()).await.status, 403);
    assert!(stranger.token_flow_wait(wait(0.0)).await.unwrap().into_inner().timeout);
    let waiting = tokio::spawn({
        let (mut stranger, wait) = (stranger.clone(), wait(50.0));
        async move { stranger.token_flow_wait(wait).await.unwrap().into_inner() }
    });
    assert_eq!(http("POST", &flow.web_url, &[form], body.as_bytes()).await.status, 200);
    let answer = waiting.await.unwrap();
    let token = TokenPair::new(answer.token_id, answer.token_secret);
    let mut client = connect(&server.url(), token).await;
    client.token_info_get(TokenInfoGetRequest::default()).await.unwrap();
}
