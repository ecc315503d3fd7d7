//! Our wire types against those of the official SDK: everything that `modal-proto` declares must be
//! there with the same name, number, type, label, oneof and cardinality.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod support {
    pub(crate) mod compare;
    pub(crate) mod sdk;
}

use prost::Message as _;
use prost_types::FileDescriptorSet;
use support::{compare::differences, sdk};

fn ours() -> FileDescriptorSet {
    FileDescriptorSet::decode(modal_proto::DESCRIPTORS).unwrap()
}

#[test]
fn nothing_differs_from_the_official_sdk() {
    let official = FileDescriptorSet::decode(sdk::descriptors().as_slice()).unwrap();
    let found = differences(&ours(), &official);
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
    // A comparison with next to nothing would find nothing either.
    let declared = modal_proto::rpcs().len();
    assert!(declared > 60, "only {declared} RPCs are declared");
}

#[test]
fn the_comparison_finds_nothing_in_a_copy() {
    assert_eq!(differences(&ours(), &ours()), [""; 0]);
}

/// Changes something in a copy of our own descriptors and expects one sentence about it.
fn finds(plant: impl FnOnce(&mut FileDescriptorSet), sentence: &str) {
    let mut changed = ours();
    plant(&mut changed);
    assert_eq!(differences(&ours(), &changed), [sentence]);
}

fn message<'a>(set: &'a mut FileDescriptorSet, name: &str) -> &'a mut prost_types::DescriptorProto {
    let mut messages = set.file.iter_mut().flat_map(|file| &mut file.message_type);
    messages.find(|message| message.name() == name).unwrap()
}

fn field<'a>(
    set: &'a mut FileDescriptorSet,
    of: &str,
    name: &str,
) -> &'a mut prost_types::FieldDescriptorProto {
    message(set, of).field.iter_mut().find(|field| field.name() == name).unwrap()
}

#[test]
fn the_comparison_finds_a_missing_message() {
    finds(
        |set| message(set, "RPCRetryPolicy").name = Some("Other".to_owned()),
        "message modal.client.RPCRetryPolicy: not in the SDK",
    );
}

#[test]
fn the_comparison_finds_another_number_and_type() {
    finds(
        |set| field(set, "AppStopRequest", "app_id").number = Some(9),
        "field modal.client.AppStopRequest.app_id: number 1 here, 9 there",
    );
    finds(
        |set| field(set, "AppStopRequest", "app_id").r#type = Some(12),
        "field modal.client.AppStopRequest.app_id: type string here, bytes there",
    );
    finds(
        |set| {
            field(set, "AppStopRequest", "source").type_name =
                Some(".modal.client.AppState".to_owned())
        },
        "field modal.client.AppStopRequest.source: type .modal.client.AppStopSource here, .modal.client.AppState there",
    );
}

#[test]
fn the_comparison_finds_another_label_and_presence() {
    finds(
        |set| field(set, "Image", "dockerfile_commands").label = Some(1),
        "field modal.client.Image.dockerfile_commands: label repeated here, single there",
    );
    finds(
        |set| field(set, "Sandbox", "workdir").proto3_optional = None,
        "field modal.client.Sandbox.workdir: optional here, not optional there",
    );
}

#[test]
fn the_comparison_finds_another_oneof() {
    finds(
        |set| message(set, "SecretSource").oneof_decl[0].name = Some("kind".to_owned()),
        // Both members of the oneof say so.
        "field modal.client.SecretSource.secret_id: oneof source here, kind there\n\
         field modal.client.SecretSource.env: oneof source here, kind there",
    );
}

#[test]
fn the_comparison_finds_another_enum_value() {
    finds(
        |set| {
            let mut enums = set.file.iter_mut().flat_map(|file| &mut file.enum_type);
            let found = enums.find(|kind| kind.name() == "AppState").unwrap();
            found
                .value
                .iter_mut()
                .find(|value| value.name() == "APP_STATE_STOPPED")
                .unwrap()
                .number = Some(77);
        },
        "enum value modal.client.AppState.APP_STATE_STOPPED: number 5 here, 77 there",
    );
}

#[test]
fn the_comparison_finds_another_rpc() {
    finds(
        |set| {
            let mut services = set.file.iter_mut().flat_map(|file| &mut file.service);
            let router = services.find(|service| service.name() == "TaskCommandRouter").unwrap();
            let wait =
                router.method.iter_mut().find(|method| method.name() == "TaskExecWait").unwrap();
            wait.server_streaming = Some(true);
        },
        "rpc modal.task_command_router.TaskCommandRouter/TaskExecWait: server streaming false here, true there",
    );
}
