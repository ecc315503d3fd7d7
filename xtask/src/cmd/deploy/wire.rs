//! The requests of a deployment against those that `modal deploy` sent for the same app, field by field.
//!
//! `fixtures/wire/29_services.jsonl` holds the official SDK's requests for `fixtures/wire/services/app.py`: a first
//! deployment and a second one. What the app names by hand (ports, times, secrets, volumes, scaling) must be what
//! `goat-services` describes. Images and shims are generated: where they change, this test says what to do.

use std::{collections::BTreeMap, path::PathBuf};

use goat_services::app::{
    Contents, DeployRecord, Langfuse, Litellm, Service, Traces, Upstreams, langfuse,
    langfuse_query, litellm, shim,
};
use litellm_config::{Catalogue, VersionSet};
use modal_client::{Client, Commit, Config};
use serde_json::{Value, json};
use wire_replay::{Exceptions, Replay};

use super::{DeployPlan, send};
use crate::printer::Printer;

/// What differs from the SDK's requests, and why: the method, the field, the reason.
const DIFFERENT: Exceptions = &[
    ("FunctionPrecreate", "/function_schema", "we do not read the Python of a function"),
    ("FunctionCreate", "/function/function_schema", "we do not read the Python of a function"),
];

/// What the SDK sends and we do not, and why: the method, a part of the request, the reason.
const NOT_SENT: Exceptions = &[
    ("MountGetOrCreate", "modal-client-mount", "looked up once for all functions"),
    ("SecretGetOrCreate", "\"goat-langfuse\"", "looked up once for both functions"),
];

/// The app with files that hold their own names: what is in them is no matter of the wire.
fn services() -> Vec<Service> {
    let file = || Contents::Text(String::new());
    let catalogue = Catalogue::builtin().unwrap();
    let upstreams = Upstreams::Providers(vec!["OPENAI_API_KEY".to_owned()]);
    let (set, traces) = (VersionSet::default_set(), Traces::Own);
    let wanted = Litellm { set, catalogue: &catalogue, upstreams, traces };
    let mut services = vec![
        litellm(&wanted, &file()),
        langfuse(&Langfuse::Official, &file()),
        langfuse_query(&file()),
    ];
    for file in services.iter_mut().flat_map(|service| &mut service.files) {
        file.contents = Contents::Text(format!("{}\n", file.path));
    }
    services
}

/// What `app.py` takes from us: images and shims, by the names of its files.
fn generated(services: &[Service]) -> BTreeMap<String, String> {
    let image = |service: &Service| {
        let files = service.files.iter();
        let files = files.map(|file| json!({ "path": file.path, "is_program": file.is_program }));
        json!({
            "base": service.base,
            "commands": service.commands,
            "files": files.collect::<Vec<_>>(),
        })
    };
    let images: Value =
        services.iter().map(|service| (service.name.to_owned(), image(service))).collect();
    let shims = services.iter().map(shim).map(|(module, text)| (format!("{module}.py"), text));
    let images = format!("{images:#}\n");
    shims.chain([("images.json".to_owned(), images)]).collect()
}

#[test]
fn the_recorded_app_has_our_images_and_shims() {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fixtures/wire/services");
    for (name, text) in generated(&services()) {
        let path = directory.join(&name);
        if std::env::var_os("UPDATE_WIRE").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        assert!(
            std::fs::read_to_string(&path).is_ok_and(|kept| kept == text),
            "{name} is another: write it with UPDATE_WIRE=1, then record 29_services.jsonl again \
             (fixtures/wire/services/README.md)"
        );
    }
}

#[tokio::test]
async fn a_deployment_sends_what_modal_deploy_sends() {
    let replay = Replay::start("29_services", DIFFERENT).await;
    let config = Config::new(&replay.url, "ak-wire-test", "as-wire-test");
    let commit = Commit {
        hash: "88498e8db7e56b47372e652cd12c595d362d5324".to_owned(),
        branch: "main".to_owned(),
        committed_at: 1_795_694_400,
        is_dirty: true,
        author_name: "Goat".to_owned(),
        author_email: "goat@example.com".to_owned(),
        repository: "https://github.com/jack-phare/goat".to_owned(),
    };
    for _ in 0..2 {
        // Each of the SDK's was a process of its own, too.
        let client = Client::connect(config.clone()).await.unwrap().with_environment("goat");
        let plan = DeployPlan {
            services: services(),
            keeps: Vec::new(),
            changes: BTreeMap::new(),
            record: DeployRecord::default(),
            current: None,
        };
        send::send(&plan, Some(commit.clone()), &client, &Printer::silent()).await.unwrap();
    }
    replay.finish(NOT_SENT);
}
