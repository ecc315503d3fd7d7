//! What of one set of descriptors is missing or different in another.

use std::collections::BTreeMap;

use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    MethodDescriptorProto,
    field_descriptor_proto::{Label, Type},
};

/// Everything of a set by its full name.
#[derive(Default)]
struct Index<'a> {
    messages: BTreeMap<String, &'a DescriptorProto>,
    enums: BTreeMap<String, &'a EnumDescriptorProto>,
    rpcs: BTreeMap<String, &'a MethodDescriptorProto>,
}

impl<'a> Index<'a> {
    fn new(set: &'a FileDescriptorSet) -> Self {
        let mut index = Self::default();
        // Google's own types, which one side may carry along, are not ours to compare.
        for file in set.file.iter().filter(|file| file.package().starts_with("modal.")) {
            file.message_type.iter().for_each(|message| index.message(file.package(), message));
            file.enum_type.iter().for_each(|kind| index.enumeration(file.package(), kind));
            for service in &file.service {
                for rpc in &service.method {
                    let name = format!("{}.{}/{}", file.package(), service.name(), rpc.name());
                    index.rpcs.insert(name, rpc);
                }
            }
        }
        index
    }

    fn message(&mut self, scope: &str, message: &'a DescriptorProto) {
        let name = format!("{scope}.{}", message.name());
        message.nested_type.iter().for_each(|nested| self.message(&name, nested));
        message.enum_type.iter().for_each(|nested| self.enumeration(&name, nested));
        self.messages.insert(name, message);
    }

    fn enumeration(&mut self, scope: &str, kind: &'a EnumDescriptorProto) {
        self.enums.insert(format!("{scope}.{}", kind.name()), kind);
    }
}

/// One sentence for each difference; those of one oneof are one sentence of several lines.
pub(crate) fn differences(ours: &FileDescriptorSet, official: &FileDescriptorSet) -> Vec<String> {
    let (ours, official) = (Index::new(ours), Index::new(official));
    let mut found = Vec::new();
    for (name, message) in &ours.messages {
        match official.messages.get(name) {
            Some(other) => messages(name, message, other, &mut found),
            None => found.push(format!("message {name}: not in the SDK")),
        }
    }
    for (name, kind) in &ours.enums {
        match official.enums.get(name) {
            Some(other) => enums(name, kind, other, &mut found),
            None => found.push(format!("enum {name}: not in the SDK")),
        }
    }
    for (name, rpc) in &ours.rpcs {
        match official.rpcs.get(name) {
            Some(other) => rpcs(name, rpc, other, &mut found),
            None => found.push(format!("rpc {name}: not in the SDK")),
        }
    }
    found
}

fn messages(
    name: &str,
    ours: &DescriptorProto,
    official: &DescriptorProto,
    found: &mut Vec<String>,
) {
    let mut oneofs = Vec::new();
    for field in &ours.field {
        let path = format!("field {name}.{}", field.name());
        let Some(other) = official.field.iter().find(|other| other.name() == field.name()) else {
            found.push(format!("{path}: not in the SDK"));
            continue;
        };
        differ(&path, "number", field.number(), other.number(), found);
        differ(&path, "type", type_of(field), type_of(other), found);
        differ(&path, "label", label(field), label(other), found);
        if field.proto3_optional() != other.proto3_optional() {
            let say = |optional| if optional { "optional" } else { "not optional" };
            found.push(format!(
                "{path}: {} here, {} there",
                say(field.proto3_optional()),
                say(other.proto3_optional())
            ));
        } else {
            differ(&path, "oneof", oneof(ours, field), oneof(official, other), &mut oneofs);
        }
    }
    if !oneofs.is_empty() {
        found.push(oneofs.join("\n"));
    }
    let is_map = |message: &DescriptorProto| {
        message.options.as_ref().is_some_and(|options| options.map_entry())
    };
    differ(&format!("message {name}"), "map entry", is_map(ours), is_map(official), found);
}

fn enums(
    name: &str,
    ours: &EnumDescriptorProto,
    official: &EnumDescriptorProto,
    found: &mut Vec<String>,
) {
    for value in &ours.value {
        let path = format!("enum value {name}.{}", value.name());
        match official.value.iter().find(|other| other.name() == value.name()) {
            Some(other) => differ(&path, "number", value.number(), other.number(), found),
            None => found.push(format!("{path}: not in the SDK")),
        }
    }
}

fn rpcs(
    name: &str,
    ours: &MethodDescriptorProto,
    official: &MethodDescriptorProto,
    found: &mut Vec<String>,
) {
    let path = format!("rpc {name}");
    differ(&path, "request", ours.input_type(), official.input_type(), found);
    differ(&path, "answer", ours.output_type(), official.output_type(), found);
    differ(&path, "client streaming", ours.client_streaming(), official.client_streaming(), found);
    differ(&path, "server streaming", ours.server_streaming(), official.server_streaming(), found);
}

fn differ<T: PartialEq + std::fmt::Display>(
    path: &str,
    what: &str,
    ours: T,
    official: T,
    found: &mut Vec<String>,
) {
    if ours != official {
        found.push(format!("{path}: {what} {ours} here, {official} there"));
    }
}

fn type_of(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Message | Type::Enum => field.type_name().to_owned(),
        scalar => scalar.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    }
}

fn label(field: &FieldDescriptorProto) -> &'static str {
    match field.label() {
        Label::Repeated => "repeated",
        Label::Optional | Label::Required => "single",
    }
}

/// The oneof that a field is in; the one that a compiler makes up for `optional` is none.
fn oneof<'a>(message: &'a DescriptorProto, field: &FieldDescriptorProto) -> &'a str {
    let declared = field.oneof_index.filter(|_| !field.proto3_optional());
    let index = declared.and_then(|index| usize::try_from(index).ok());
    index.and_then(|index| message.oneof_decl.get(index)).map_or("(none)", |oneof| oneof.name())
}
