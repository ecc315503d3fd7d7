//! The address of a web function for a variable of another: where the server tells it only after a deployment, the app is
//! published twice.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod support;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use futures::FutureExt as _;
use modal_client::{Client, Config, Deployment, Error, FunctionSpec, Image, ImageId};
use modal_proto::client as api;
use support::raw::{Answer, Call, in_process};

const IMAGE: &str = "im-0123456789012345678901";
const ADDRESS: &str = "https://team--langfuse.modal.example";

/// When a web function's address is told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Before,
    Once,
    Never,
}

/// What was asked for, in order: variables of inline secrets, and publications with how many functions.
#[derive(Default)]
struct Asked {
    variables: Vec<HashMap<String, String>>,
    published: Vec<usize>,
}

async fn answer(told: Told, asked: Arc<Mutex<Asked>>, mut call: Call) -> Answer {
    let address = |told: bool| if told { ADDRESS.to_owned() } else { String::new() };
    match call.method.as_str() {
        "AppGetByDeploymentName" => Answer::one(&api::AppGetByDeploymentNameResponse::default()),
        "AppCreate" => {
            Answer::one(&api::AppCreateResponse { app_id: "ap-1".to_owned(), ..Default::default() })
        }
        "AppHeartbeat" | "AppClientDisconnect" => Answer::one(&()),
        "FunctionPrecreate" => {
            let query: api::FunctionPrecreateRequest = call.message().await.unwrap();
            Answer::one(&api::FunctionPrecreateResponse {
                function_id: format!("fu-{}", query.function_name),
                handle_metadata: Some(api::FunctionHandleMetadata {
                    web_url: address(told == Told::Before),
                    ..Default::default()
                }),
            })
        }
        "ImageFromId" => Answer::one(&api::ImageFromIdResponse {
            image_id: IMAGE.to_owned(),
            ..Default::default()
        }),
        // The server has all files of the mounts.
        "MountBatchedCheckExistence" => {
            Answer::one(&api::MountBatchedCheckExistenceResponse::default())
        }
        "MountGetOrCreate" => Answer::one(&api::MountGetOrCreateResponse {
            mount_id: "mo-1".to_owned(),
            ..Default::default()
        }),
        "SecretGetOrCreate" => {
            let query: api::SecretGetOrCreateRequest = call.message().await.unwrap();
            let mut asked = asked.lock().unwrap();
            asked.variables.push(query.env_dict);
            let secret_id = format!("st-{}", asked.variables.len());
            Answer::one(&api::SecretGetOrCreateResponse { secret_id, ..Default::default() })
        }
        "FunctionCreate" => {
            let query: api::FunctionCreateRequest = call.message().await.unwrap();
            Answer::one(&api::FunctionCreateResponse {
                function_id: query.existing_function_id,
                ..Default::default()
            })
        }
        "AppPublish" => {
            let query: api::AppPublishRequest = call.message().await.unwrap();
            asked.lock().unwrap().published.push(query.function_ids.len());
            Answer::one(&api::AppPublishResponse::default())
        }
        "FunctionGet" => {
            let query: api::FunctionGetRequest = call.message().await.unwrap();
            let is_deployed = !asked.lock().unwrap().published.is_empty();
            Answer::one(&api::FunctionGetResponse {
                function_id: format!("fu-{}", query.object_tag),
                handle_metadata: Some(api::FunctionHandleMetadata {
                    web_url: address(told == Told::Once && is_deployed),
                    ..Default::default()
                }),
                ..Default::default()
            })
        }
        other => panic!("{other}"),
    }
}

async fn deploy(told: Told) -> (Result<Deployment, Error>, Asked) {
    let asked: Arc<Mutex<Asked>> = Arc::default();
    let seen = Arc::clone(&asked);
    let service = in_process(move |call| answer(told, Arc::clone(&seen), call).boxed());
    let config = Config::new("http://nobody-listens.invalid", "ak-test", "as-test");
    let client = Client::builder(config).in_process(service).connect().await.unwrap();
    let image = Image::from_id(ImageId::try_from(IMAGE.to_owned()).unwrap());
    let server = |name: &str| FunctionSpec::server(name, ["serve"], 8000, &image);
    let deployed = client
        .deploy("services")
        .function(server("langfuse"))
        .function(server("litellm"))
        .address_variable("litellm", "LANGFUSE_HOST", "langfuse")
        .await;
    let asked = std::mem::take(&mut *asked.lock().unwrap());
    (deployed, asked)
}

fn handed_over() -> HashMap<String, String> {
    HashMap::from([("LANGFUSE_HOST".to_owned(), ADDRESS.to_owned())])
}

#[tokio::test]
async fn an_address_that_is_known_before_is_there_from_the_first_publication_on() {
    let (deployed, asked) = deploy(Told::Before).await;
    deployed.unwrap();
    assert_eq!((asked.variables, asked.published), (vec![handed_over()], vec![2]));
}

#[tokio::test]
async fn an_address_that_only_a_deployment_has_is_looked_up_and_published() {
    let (deployed, asked) = deploy(Told::Once).await;
    deployed.unwrap();
    assert_eq!((asked.variables, asked.published), (vec![handed_over()], vec![2, 2]));
}

#[tokio::test]
async fn without_an_address_the_deployment_fails_and_says_so() {
    let (deployed, asked) = deploy(Told::Never).await;
    let error = deployed.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("has no address"), "{error}: {source}");
    assert!(asked.variables.is_empty());
}
