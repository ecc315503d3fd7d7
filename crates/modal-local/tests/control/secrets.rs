//! Secrets: values go in and stay in.

use std::collections::HashMap;

use modal_proto::client::secret_update_request::Update;
use modal_proto::client::{
    ListPagination, ObjectCreationType, SecretDeleteRequest, SecretGetInfoRequest,
    SecretGetOrCreateRequest, SecretListRequest, SecretUpdateRequest,
};
use tonic::Code;

use crate::harness::TestServer;

fn request(name: &str, kind: ObjectCreationType, env: &[(&str, &str)]) -> SecretGetOrCreateRequest {
    SecretGetOrCreateRequest {
        deployment_name: name.to_owned(),
        object_creation_type: kind as i32,
        env_dict: env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_value_is_in_no_answer_and_not_in_the_database() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let env = [("API_KEY", "hunter2-hunter2"), ("OTHER", "x")];
    let made = request("llm", ObjectCreationType::CreateIfMissing, &env);
    let made = client.secret_get_or_create(made).await.unwrap().into_inner();
    let info = SecretGetInfoRequest { secret_id: made.secret_id.clone() };
    let info = client.secret_get_info(info).await.unwrap().into_inner();
    let list = client.secret_list(SecretListRequest::default()).await.unwrap().into_inner();
    assert_eq!(made.metadata.as_ref().unwrap().keys, ["API_KEY", "OTHER"]);
    assert_eq!(list.items[0].label, "llm");
    let answers = format!("{made:?}{info:?}{list:?}");
    assert!(!answers.contains("hunter2"));
    for entry in std::fs::read_dir(server.dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let contents = std::fs::read(&path).unwrap();
            assert!(!String::from_utf8_lossy(&contents).contains("hunter2"), "{}", path.display());
        }
    }
}

#[tokio::test]
async fn required_keys_must_be_there() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let made = request("s", ObjectCreationType::CreateIfMissing, &[("A", "1")]);
    client.secret_get_or_create(made).await.unwrap();
    let mut look_up = request("s", ObjectCreationType::Unspecified, &[]);
    look_up.required_keys = vec!["A".to_owned()];
    client.secret_get_or_create(look_up.clone()).await.unwrap();
    look_up.required_keys.extend(["B".to_owned(), "C".to_owned()]);
    let status = client.secret_get_or_create(look_up).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(status.message(), "Secret is missing key(s): B, C");
}

#[tokio::test]
async fn an_update_merges_and_an_overwrite_replaces() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let make = request("s", ObjectCreationType::CreateFailIfExists, &[("A", "1"), ("B", "2")]);
    let id = client.secret_get_or_create(make.clone()).await.unwrap().into_inner().secret_id;
    let status = client.secret_get_or_create(make).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    let update = |key: &str, value: Option<&str>| Update {
        key: key.to_owned(),
        value: value.map(str::to_owned),
    };
    let updates = vec![update("B", None), update("C", Some("3"))];
    let change = SecretUpdateRequest { secret_id: id.clone(), updates };
    client.secret_update(change).await.unwrap();
    let stored = || {
        let path = server.dir.path().join(format!("secrets/{id}.json"));
        serde_json::from_slice::<HashMap<String, String>>(&std::fs::read(path).unwrap()).unwrap()
    };
    assert_eq!(
        stored(),
        HashMap::from([("A", "1"), ("C", "3")].map(|(k, v)| (k.into(), v.into())))
    );
    let replace = request("s", ObjectCreationType::CreateOverwriteIfExists, &[("D", "4")]);
    let again = client.secret_get_or_create(replace).await.unwrap().into_inner();
    assert_eq!(again.secret_id, id);
    assert_eq!(again.metadata.unwrap().keys, ["D"]);
    client.secret_delete(SecretDeleteRequest { secret_id: id.clone() }).await.unwrap();
    assert!(!server.dir.path().join(format!("secrets/{id}.json")).exists());
    let status = client.secret_delete(SecretDeleteRequest { secret_id: id }).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test]
async fn lists_are_paged_newest_first_and_leave_nothing_out() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    for index in 0..7 {
        let make = request(&format!("s{index}"), ObjectCreationType::CreateIfMissing, &[]);
        client.secret_get_or_create(make).await.unwrap();
    }
    let (mut names, mut created_before) = (Vec::new(), 0.0);
    loop {
        let pagination = Some(ListPagination { max_objects: 3, created_before });
        let list = SecretListRequest { pagination, ..Default::default() };
        let items = client.secret_list(list).await.unwrap().into_inner().items;
        names.extend(items.iter().map(|item| item.label.clone()));
        match items.last() {
            Some(last) if items.len() == 3 => {
                let metadata = last.metadata.clone().unwrap();
                created_before = metadata.creation_info.unwrap().created_at;
            }
            _ => break,
        }
    }
    assert_eq!(names, ["s6", "s5", "s4", "s3", "s2", "s1", "s0"]);
}

#[tokio::test]
async fn what_no_environment_can_hold_is_refused() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    for (key, value) in [("", "x"), ("A=B", "x"), ("A\0", "x"), ("A", "x\0y")] {
        let make = request("s", ObjectCreationType::CreateIfMissing, &[(key, value)]);
        let status = client.secret_get_or_create(make).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{key:?}");
        assert!(!status.message().contains("x\0y"));
    }
    for id in ["", "st-../../keys", "vo-1", "st-"] {
        let info = SecretGetInfoRequest { secret_id: id.to_owned() };
        let status = client.secret_get_info(info).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{id:?}");
    }
}
