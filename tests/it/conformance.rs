//! The runner's suite for backends over the real thing: the client, the server, real sandboxes.

use it::Machine;
use modal_client::{Client, Config};
use sandbox_runner::{
    backend::modal::{ModalBackend, ModalConfig},
    conformance,
};

#[tokio::test(flavor = "multi_thread")]
async fn the_local_server_does_what_every_backend_must() {
    let machine = Machine::new();
    let variables = machine.start_local();
    let value = |name: &str| {
        let found = variables.iter().find(|(known, _)| known == name);
        found.unwrap_or_else(|| panic!("{name} is not printed")).1.as_str()
    };
    let (id, secret) = (value("MODAL_TOKEN_ID"), value("MODAL_TOKEN_SECRET"));
    let config = Config::new(value("MODAL_SERVER_URL"), id, secret);
    let client = Client::connect(config).await.unwrap().with_environment("goat");
    client.environments().get_or_create("goat").await.unwrap();
    let volume = "conformance".to_owned();
    let image = Some("debian:bookworm-slim".to_owned());
    let config = ModalConfig {
        image,
        cpu: None,
        memory_mib: None,
        agent: None,
        volume,
        extras: Default::default(),
    };
    conformance::all(&ModalBackend::new(client, config)).await;
}
