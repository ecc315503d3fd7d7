//! Environments.

use modal_proto::client::{
    EnvironmentCreateRequest, EnvironmentDeleteRequest, EnvironmentGetOrCreateRequest,
    EnvironmentUpdateRequest, ObjectCreationType, SecretGetOrCreateRequest,
    VolumeGetOrCreateRequest, VolumeListRequest,
};
use tonic::Code;

use crate::harness::TestServer;

fn get(name: &str, kind: ObjectCreationType) -> EnvironmentGetOrCreateRequest {
    EnvironmentGetOrCreateRequest {
        deployment_name: name.to_owned(),
        object_creation_type: kind as i32,
    }
}

#[tokio::test]
async fn no_name_means_the_default_environment() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let request = get("", ObjectCreationType::Unspecified);
    let found = client.environment_get_or_create(request).await.unwrap().into_inner();
    let metadata = found.metadata.unwrap();
    assert_eq!(metadata.name, "main");
    assert_eq!(metadata.settings.unwrap().image_builder_version, "2025.06");
    let list = client.environment_list(()).await.unwrap().into_inner().items;
    assert_eq!(list.len(), 1);
    assert!(list[0].default);
}

#[tokio::test]
async fn creation_types_do_what_they_say() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let status = client
        .environment_get_or_create(get("goat", ObjectCreationType::Unspecified))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let make = get("goat", ObjectCreationType::CreateIfMissing);
    let made = client.environment_get_or_create(make.clone()).await.unwrap().into_inner();
    let again = client.environment_get_or_create(make).await.unwrap().into_inner();
    assert_eq!(made.environment_id, again.environment_id);
    let request = EnvironmentCreateRequest { name: "goat".to_owned(), ..Default::default() };
    let status = client.environment_create(request).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    for name in ["", "a/b", "en-x", "-x", "..", "a\u{0}b"] {
        let request = EnvironmentCreateRequest { name: name.to_owned(), ..Default::default() };
        let status = client.environment_create(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{name:?}");
    }
}

#[tokio::test]
async fn an_environment_is_renamed_and_deleted_with_what_is_in_it() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let request = EnvironmentCreateRequest { name: "dev".to_owned(), ..Default::default() };
    client.environment_create(request).await.unwrap();
    let volume = VolumeGetOrCreateRequest {
        deployment_name: "data".to_owned(),
        environment_name: "dev".to_owned(),
        object_creation_type: ObjectCreationType::CreateIfMissing as i32,
        ..Default::default()
    };
    client.volume_get_or_create(volume).await.unwrap();
    let secret = SecretGetOrCreateRequest {
        deployment_name: "key".to_owned(),
        environment_name: "dev".to_owned(),
        object_creation_type: ObjectCreationType::CreateIfMissing as i32,
        ..Default::default()
    };
    client.secret_get_or_create(secret).await.unwrap();
    let rename = EnvironmentUpdateRequest {
        current_name: "dev".to_owned(),
        name: Some("staging".to_owned()),
        image_builder_version: Some("2024.10".to_owned()),
        ..Default::default()
    };
    let item = client.environment_update(rename).await.unwrap().into_inner();
    assert_eq!((item.name.as_str(), item.default), ("staging", false));
    assert_eq!(item.image_builder_version.as_deref(), Some("2024.10"));
    let delete = |name: &str| EnvironmentDeleteRequest { name: name.to_owned() };
    let status = client.environment_delete(delete("main")).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    client.environment_delete(delete("staging")).await.unwrap();
    let list = VolumeListRequest { environment_name: "staging".to_owned(), ..Default::default() };
    assert_eq!(client.volume_list(list).await.unwrap_err().code(), Code::NotFound);
    let secrets = std::fs::read_dir(server.dir.path().join("secrets")).unwrap();
    assert_eq!(secrets.count(), 0);
}
