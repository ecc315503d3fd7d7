//! Names, tags, lists.

use modal_proto::client::*;
use tonic::Code;

use crate::harness::{Live, Local};

fn tags(tags: &[(&str, &str)]) -> Vec<SandboxTag> {
    let tag = |(name, value): &(&str, &str)| SandboxTag {
        tag_name: (*name).to_owned(),
        tag_value: (*value).to_owned(),
    };
    tags.iter().map(tag).collect()
}

async fn list(local: &Local, request: SandboxListRequest) -> Vec<String> {
    let request = SandboxListRequest { app_id: local.app.clone(), ..request };
    let answer = local.client.clone().sandbox_list_v2(request).await.unwrap().into_inner();
    answer.sandboxes.into_iter().map(|info| info.id).collect()
}

async fn find(local: &Local, name: &str) -> Result<String, Code> {
    let request = SandboxGetFromNameRequest {
        sandbox_name: name.to_owned(),
        app_name: "tests".to_owned(),
        ..Default::default()
    };
    let found = local.client.clone().sandbox_get_from_name_v2(request).await;
    found.map(|answer| answer.into_inner().sandbox_id).map_err(|error| error.code())
}

async fn set_name(sandbox: &Live, name: &str) -> Result<(), Code> {
    let request = SandboxSetNameRequest { sandbox_id: sandbox.id.clone(), name: name.to_owned() };
    sandbox.client.clone().sandbox_set_name(request).await.map(drop).map_err(|error| error.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_one_running_sandbox() {
    let local = Local::start().await;
    let named = || Sandbox { name: Some("box".into()), ..local.definition(&["sleep", "600"]) };
    let first = local.create(named()).await;
    let taken = local.try_create(local.request(named())).await.err().unwrap();
    assert_eq!(taken.code(), Code::AlreadyExists);
    assert_eq!(find(&local, "box").await, Ok(first.id.clone()));
    let unnamed = local.sleeping().await;
    assert_eq!(set_name(&unnamed, "box").await, Err(Code::AlreadyExists));
    assert_eq!(set_name(&first, "other").await, Err(Code::FailedPrecondition));
    assert_eq!(set_name(&first, "box").await, Ok(()));
    first.terminate().await;
    assert_eq!(find(&local, "box").await, Err(Code::NotFound));
    assert_eq!(set_name(&unnamed, "box").await, Ok(()));
    assert_eq!(find(&local, "box").await, Ok(unnamed.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_show_what_runs_page_by_page_and_by_tag() {
    let local = Local::start().await;
    let mut request = local.request(local.definition(&["sleep", "600"]));
    request.tags = tags(&[("team", "wire"), ("k", "v")]);
    let tagged = local.try_create(request).await.unwrap();
    let plain = local.sleeping().await;
    assert_eq!(list(&local, SandboxListRequest::default()).await, [&plain.id[..], &tagged.id]);
    let by_tag = SandboxListRequest { tags: tags(&[("team", "wire")]), ..Default::default() };
    assert_eq!(list(&local, by_tag).await, [&tagged.id[..]]);
    let set = SandboxTagsSetRequest {
        sandbox_id: tagged.id.clone(),
        tags: tags(&[("team", "other")]),
        ..Default::default()
    };
    local.client.clone().sandbox_tags_set_v2(set).await.unwrap();
    let get = SandboxTagsGetRequest { sandbox_id: tagged.id.clone() };
    let got = local.client.clone().sandbox_tags_get_v2(get).await.unwrap().into_inner();
    assert_eq!(got.tags, tags(&[("team", "other")]));
    plain.terminate().await;
    assert_eq!(list(&local, SandboxListRequest::default()).await, [&tagged.id[..]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_app_takes_its_sandboxes_with_it() {
    let local = Local::start().await;
    let sandbox = local.sleeping().await;
    let stop = AppStopRequest { app_id: local.app.clone(), ..Default::default() };
    local.client.clone().app_stop(stop).await.unwrap();
    let result = sandbox.wait().await;
    assert_eq!(result.status(), generic_result::GenericStatus::Terminated);
    let late = local.try_create(local.request(local.definition(&["true"]))).await;
    assert_eq!(late.err().unwrap().code(), Code::FailedPrecondition);
}
