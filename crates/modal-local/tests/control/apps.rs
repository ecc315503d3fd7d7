//! Apps, and logs as far as nothing writes any.

use modal_local::TokenPair;
use modal_proto::client::modal_client_client::ModalClientClient;
use modal_proto::client::{
    AppClientDisconnectRequest, AppCreateRequest, AppGetByDeploymentNameRequest, AppGetLogsRequest,
    AppGetOrCreateRequest, AppHeartbeatRequest, AppListRequest, AppPublishRequest, AppState,
    AppStopRequest, ObjectCreationType,
};
use tonic::Code;
use tonic::transport::Channel;

use crate::harness::{Client, TestServer, WithToken};

async fn app(client: &mut Client, name: &str, kind: ObjectCreationType) -> Result<String, Code> {
    let request = AppGetOrCreateRequest {
        app_name: name.to_owned(),
        object_creation_type: kind as i32,
        ..Default::default()
    };
    client.app_get_or_create(request).await.map(|it| it.into_inner().app_id).map_err(|it| it.code())
}

fn by_name(name: &str) -> AppGetByDeploymentNameRequest {
    AppGetByDeploymentNameRequest { name: name.to_owned(), ..Default::default() }
}

fn stop(app_id: &str) -> AppStopRequest {
    AppStopRequest { app_id: app_id.to_owned(), ..Default::default() }
}

#[tokio::test]
async fn a_stopped_app_gives_its_name_free() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let missing = app(&mut client, "box", ObjectCreationType::Unspecified).await;
    assert_eq!(missing, Err(Code::NotFound));
    let none = client.app_get_by_deployment_name(by_name("box")).await.unwrap().into_inner();
    assert_eq!((none.app_id.as_str(), none.environment_name.as_str()), ("", "main"));
    let first = app(&mut client, "box", ObjectCreationType::CreateIfMissing).await.unwrap();
    assert_eq!(app(&mut client, "box", ObjectCreationType::Unspecified).await.unwrap(), first);
    client.app_stop(stop(&first)).await.unwrap();
    client.app_stop(stop(&first)).await.unwrap();
    let old = client.app_get_by_deployment_name(by_name("box")).await.unwrap().into_inner();
    assert_eq!((old.app_id.as_str(), old.previous_app_id.as_str()), ("", first.as_str()));
    let heartbeat = AppHeartbeatRequest { app_id: first.clone() };
    let status = client.app_heartbeat(heartbeat).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let second = app(&mut client, "box", ObjectCreationType::CreateIfMissing).await.unwrap();
    assert_ne!(first, second);
    let apps = client.app_list(AppListRequest::default()).await.unwrap().into_inner().apps;
    let states: Vec<_> = apps.iter().map(|app| (app.app_id.as_str(), app.state())).collect();
    assert_eq!(states, [(&*second, AppState::Deployed), (&*first, AppState::Stopped)]);
}

#[tokio::test]
async fn a_disconnect_stops_only_apps_that_live_by_their_client() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let request = AppCreateRequest {
        description: "run".to_owned(),
        app_state: AppState::Ephemeral as i32,
        ..Default::default()
    };
    let run = client.app_create(request).await.unwrap().into_inner().app_id;
    let deployed = app(&mut client, "box", ObjectCreationType::CreateIfMissing).await.unwrap();
    for app_id in [&run, &deployed] {
        let request = AppClientDisconnectRequest { app_id: app_id.clone(), ..Default::default() };
        client.app_client_disconnect(request).await.unwrap();
    }
    let apps = client.app_list(AppListRequest::default()).await.unwrap().into_inner().apps;
    let state = |id: &str| apps.iter().find(|app| app.app_id == id).unwrap().state();
    assert_eq!((state(&run), state(&deployed)), (AppState::Stopped, AppState::Deployed));
}

#[tokio::test]
async fn a_run_is_published_and_lives_by_its_state() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let deployed = app(&mut client, "box", ObjectCreationType::CreateIfMissing).await.unwrap();
    let request = AppCreateRequest {
        app_state: AppState::Initializing as i32,
        ..AppCreateRequest::default()
    };
    let run = client.app_create(request).await.unwrap().into_inner().app_id;
    let publish = |app_id: &str, state: AppState, function: bool| AppPublishRequest {
        app_id: app_id.to_owned(),
        app_state: state as i32,
        function_ids: function.then(|| ("f".to_owned(), "fu-1".to_owned())).into_iter().collect(),
        ..AppPublishRequest::default()
    };
    for (bad, code) in [
        (publish(&run, AppState::Ephemeral, true), Code::NotFound),
        (publish(&run, AppState::Deployed, false), Code::InvalidArgument),
        (publish(&deployed, AppState::Ephemeral, false), Code::FailedPrecondition),
    ] {
        assert_eq!(client.app_publish(bad).await.unwrap_err().code(), code);
    }
    client.app_publish(publish(&run, AppState::Detached, false)).await.unwrap();
    let gone = AppClientDisconnectRequest { app_id: run.clone(), ..Default::default() };
    client.app_client_disconnect(gone).await.unwrap();
    let apps = client.app_list(AppListRequest::default()).await.unwrap().into_inner().apps;
    let listed = apps.iter().find(|app| app.app_id == run).unwrap();
    assert_eq!(listed.state(), AppState::Detached);
    client.app_stop(stop(&run)).await.unwrap();
    let late = client.app_publish(publish(&run, AppState::Detached, false)).await.unwrap_err();
    assert_eq!(late.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn a_repeated_attempt_creates_nothing_new() {
    let server = TestServer::start().await;
    let channel = Channel::from_shared(server.url()).unwrap().connect().await.unwrap();
    let token: TokenPair = server.server().token().clone();
    let with_key = |key: &str| WithToken { token: token.clone(), key: Some(key.to_owned()) };
    let mut ids = Vec::new();
    for key in ["one", "one", "two"] {
        let mut client = ModalClientClient::with_interceptor(channel.clone(), with_key(key));
        let answer = client.app_create(AppCreateRequest::default()).await.unwrap();
        ids.push(answer.into_inner().app_id);
    }
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[1], ids[2]);
}

#[tokio::test]
async fn following_a_stopped_app_ends_with_app_done() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let id = app(&mut client, "box", ObjectCreationType::CreateIfMissing).await.unwrap();
    let follow = |timeout| AppGetLogsRequest { app_id: id.clone(), timeout, ..Default::default() };
    let mut logs = client.app_get_logs(follow(0.0)).await.unwrap().into_inner();
    assert!(logs.message().await.unwrap().is_none(), "with no time to wait, what is there");
    let mut logs = client.app_get_logs(follow(55.0)).await.unwrap().into_inner();
    client.app_stop(stop(&id)).await.unwrap();
    assert!(logs.message().await.unwrap().unwrap().app_done);
    assert!(logs.message().await.unwrap().is_none());
}

#[tokio::test]
async fn records_outlive_the_server() {
    let mut server = TestServer::start().await;
    let mut client = server.client().await;
    let id = app(&mut client, "box", ObjectCreationType::CreateIfMissing).await.unwrap();
    server.restart().await;
    let mut client = server.client().await;
    assert_eq!(app(&mut client, "box", ObjectCreationType::Unspecified).await.unwrap(), id);
}
