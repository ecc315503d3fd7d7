//! Logging in through a browser, against a server on loopback.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use futures::FutureExt as _;
use modal_client::{
    Config, Environ, TokenFlow,
    config::{config_path, store_token},
    proto::client as api,
};
use support::raw::{Answer, Call, serve};

/// Gives the token at the second question, and no call of the login may carry a token.
async fn answer(mut call: Call, waits: Arc<AtomicU32>) -> Answer {
    assert!(call.header("x-modal-token-id").is_none(), "a login carries no token");
    match call.method.as_str() {
        "TokenFlowCreate" => {
            let query: api::TokenFlowCreateRequest = call.message().await.unwrap();
            assert_eq!(query.localhost_port, 1234);
            Answer::one(&api::TokenFlowCreateResponse {
                token_flow_id: "tf-1".to_owned(),
                web_url: "https://modal.example/token-flow/tf-1".to_owned(),
                code: "ABCD".to_owned(),
                wait_secret: "ws-planted".to_owned(),
            })
        }
        "TokenFlowWait" => {
            let query: api::TokenFlowWaitRequest = call.message().await.unwrap();
            assert_eq!((query.token_flow_id.as_str(), query.timeout), ("tf-1", 40.0));
            assert_eq!(query.wait_secret, "ws-planted");
            match waits.fetch_add(1, Ordering::SeqCst) {
                0 => {
                    Answer::one(&api::TokenFlowWaitResponse { timeout: true, ..Default::default() })
                }
                _ => Answer::one(&api::TokenFlowWaitResponse {
                    token_id: "ak-new".to_owned(),
                    token_secret: "as-planted".to_owned(),
                    workspace_username: "team".to_owned(),
                    ..Default::default()
                }),
            }
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_token_is_waited_for_and_kept_beside_other_profiles() {
    let waits = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&waits);
    let url = serve(move |call| answer(call, Arc::clone(&counted)).boxed()).await;
    // An old token is there, and is not sent.
    let flow = TokenFlow::start(Config::new(&url, "ak-old", "as-old"), 1234).await.unwrap();
    assert_eq!((flow.id(), flow.code()), ("tf-1", Some("ABCD")));
    assert!(!format!("{flow:?}").contains("planted"));
    let token = flow.wait().await.unwrap();
    assert_eq!((token.id.as_str(), token.workspace.as_str()), ("ak-new", "team"));
    assert_eq!(waits.load(Ordering::SeqCst), 2);
    assert!(!format!("{token:?}").contains("planted"));

    let home = tempfile::tempdir().unwrap();
    let environ = Environ::from_pairs([("HOME", home.path().to_str().unwrap())]);
    let path = config_path(&environ).unwrap();
    std::fs::write(&path, "# mine\n[home]\ntoken_id = 'ak-1'\ntoken_secret = 'as-1'\n").unwrap();
    store_token(&path, "team", &token, Some(&url), true).unwrap();
    let config = Config::from_env_and_file(&environ).unwrap();
    assert_eq!((config.profile(), config.server_urls()), (Some("team"), &[url][..]));
    assert!(config.has_token());
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("# mine\n[home]\n"));
}
