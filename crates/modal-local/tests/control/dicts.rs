//! Dicts: what is put is there, once, also after a restart.

use modal_proto::client::{
    DictClearRequest, DictContainsRequest, DictContentsRequest, DictDeleteRequest, DictEntry,
    DictGetOrCreateRequest, DictGetRequest, DictLenRequest, DictPopRequest, DictUpdateRequest,
    ObjectCreationType,
};
use tonic::Code;

use crate::harness::{Client, TestServer};

async fn create(client: &mut Client, name: &str) -> String {
    let request = DictGetOrCreateRequest {
        deployment_name: name.to_owned(),
        object_creation_type: ObjectCreationType::CreateIfMissing as i32,
        ..Default::default()
    };
    client.dict_get_or_create(request).await.unwrap().into_inner().dict_id
}

fn update(dict_id: &str, key: &str, value: &[u8], if_not_exists: bool) -> DictUpdateRequest {
    let entry = DictEntry { key: key.into(), value: value.to_vec() };
    DictUpdateRequest { dict_id: dict_id.to_owned(), updates: vec![entry], if_not_exists }
}

async fn get(client: &mut Client, dict_id: &str, key: &str) -> Option<Vec<u8>> {
    let request = DictGetRequest { dict_id: dict_id.to_owned(), key: key.into() };
    client.dict_get(request).await.unwrap().into_inner().value
}

#[tokio::test]
async fn of_many_that_put_if_absent_one_succeeds_and_of_many_that_pop_one_gets_it() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let id = create(&mut client, "leases").await;
    let puts = (0..16u8).map(|index| {
        let (mut client, request) = (client.clone(), update(&id, "lease", &[index], true));
        async move { client.dict_update(request).await.unwrap().into_inner().created }
    });
    let created = futures::future::join_all(puts).await;
    assert_eq!(created.iter().filter(|it| **it).count(), 1);
    let holder = created.iter().position(|it| *it).unwrap() as u8;
    assert_eq!(get(&mut client, &id, "lease").await, Some(vec![holder]));
    let pops = (0..16).map(|_| {
        let request = DictPopRequest { dict_id: id.clone(), key: "lease".into() };
        let mut client = client.clone();
        async move { client.dict_pop(request).await.unwrap().into_inner().found }
    });
    let found = futures::future::join_all(pops).await;
    assert_eq!(found.iter().filter(|it| **it).count(), 1);
}

#[tokio::test]
async fn entries_survive_a_restart_and_an_empty_value_is_a_value() {
    let mut server = TestServer::start().await;
    let mut client = server.client().await;
    let id = create(&mut client, "kept").await;
    client.dict_update(update(&id, "", b"", false)).await.unwrap();
    client.dict_update(update(&id, "big", &vec![7; 5 << 20], false)).await.unwrap();
    server.restart().await;
    let mut client = server.client().await;
    assert_eq!(create(&mut client, "kept").await, id);
    assert_eq!(get(&mut client, &id, "").await, Some(Vec::new()));
    assert_eq!(get(&mut client, &id, "big").await.unwrap().len(), 5 << 20);
    assert_eq!(get(&mut client, &id, "absent").await, None);
}

#[tokio::test]
async fn contents_are_streamed_with_what_was_asked_for() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let id = create(&mut client, "d").await;
    for key in ["a", "b", "c"] {
        client.dict_update(update(&id, key, key.to_uppercase().as_bytes(), false)).await.unwrap();
    }
    let mut seen = Vec::new();
    for (keys, values) in [(true, false), (false, true), (true, true)] {
        let request = DictContentsRequest { dict_id: id.clone(), keys, values };
        let mut stream = client.dict_contents(request).await.unwrap().into_inner();
        while let Some(entry) = stream.message().await.unwrap() {
            seen.push(String::from_utf8([entry.key, entry.value].concat()).unwrap());
        }
    }
    assert_eq!(seen, ["a", "b", "c", "A", "B", "C", "aA", "bB", "cC"]);
}

#[tokio::test]
async fn what_is_cleared_or_deleted_is_gone() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let id = create(&mut client, "d").await;
    client.dict_update(update(&id, "k", b"v", false)).await.unwrap();
    let len = |id: &str| DictLenRequest { dict_id: id.to_owned() };
    assert_eq!(client.dict_len(len(&id)).await.unwrap().into_inner().len, 1);
    client.dict_clear(DictClearRequest { dict_id: id.clone() }).await.unwrap();
    assert_eq!(client.dict_len(len(&id)).await.unwrap().into_inner().len, 0);
    let contains = DictContainsRequest { dict_id: id.clone(), key: "k".into() };
    assert!(!client.dict_contains(contains).await.unwrap().into_inner().found);
    client.dict_delete(DictDeleteRequest { dict_id: id.clone() }).await.unwrap();
    let status = client.dict_update(update(&id, "k", b"v", false)).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let status = client.dict_len(len("di-../x")).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_request_beyond_the_limits_is_refused_as_the_sdk_expects() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let id = create(&mut client, "d").await;
    let entry = |index: u32| DictEntry { key: index.to_be_bytes().to_vec(), value: vec![] };
    let updates = (0..10_001).map(entry).collect();
    let request = DictUpdateRequest { dict_id: id.clone(), updates, if_not_exists: false };
    let status = client.dict_update(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("status = '413'"), "{status:?}");
    assert_eq!(client.dict_len(DictLenRequest { dict_id: id }).await.unwrap().into_inner().len, 0);
}
