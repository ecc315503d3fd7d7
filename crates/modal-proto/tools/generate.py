#!/usr/bin/env python3
"""Write proto/*.proto from the descriptors of the installed `modal` package.

    python tools/generate.py            (any Python that has the pinned `modal` installed)

Names, numbers, types, labels and oneofs are facts of Modal's API; the RPCs to declare are listed in
rpcs.txt. Every message and enum that a listed RPC reaches is written, nothing else.
"""
import pathlib
import sys

import modal
from google.protobuf import descriptor as d
from google.protobuf import descriptor_pb2
from modal_proto import api_pb2, task_command_router_pb2

HERE = pathlib.Path(__file__).resolve().parent
FILES = {"modal_api.proto": api_pb2.DESCRIPTOR, "modal_task_command_router.proto": task_command_router_pb2.DESCRIPTOR}
TYPES = {v: k[5:].lower() for k, v in vars(d.FieldDescriptor).items() if k.startswith("TYPE_")}


def wanted():
    """The RPCs of rpcs.txt, and the messages named there that no RPC reaches (`message NAME`)."""
    lines = [line for line in (HERE / "rpcs.txt").read_text().splitlines() if line and not line.startswith("#")]
    messages = [line.removeprefix("message ") for line in lines if line.startswith("message ")]
    return [line for line in lines if not line.startswith("message ")], messages


def is_map(field):
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def is_repeated(field):
    known = getattr(field, "is_repeated", None)
    return field.label == field.LABEL_REPEATED if known is None else known


def reach(node, seen):
    if node.full_name in seen:
        return
    if node.containing_type is not None:
        reach(node.containing_type, seen)
    if node.file.package.startswith("google.protobuf"):
        return
    seen[node.full_name] = node
    for field in getattr(node, "fields", []):
        target = field.message_type or field.enum_type
        if is_map(field):
            value = field.message_type.fields_by_name["value"]
            target = value.message_type or value.enum_type
        if target is not None:
            reach(target, seen)


def is_optional(field):
    """Whether the field is declared `optional`: a compiler makes up a oneof for it, of some name."""
    message = descriptor_pb2.DescriptorProto()
    field.containing_type.CopyToProto(message)
    return next(f.proto3_optional for f in message.field if f.number == field.number)


def type_name(field, package):
    target = field.message_type or field.enum_type
    if is_map(field):
        key, value = (field.message_type.fields_by_name[k] for k in ("key", "value"))
        return f"map<{type_name(key, package)}, {type_name(value, package)}>"
    if target is None:
        return TYPES[field.type]
    name = target.full_name
    return name.removeprefix(package + ".")


def write_enum(node, out, indent):
    pad = "  " * indent
    out.append(f"{pad}enum {node.name} {{")
    if node.GetOptions().allow_alias:
        out.append(f"{pad}  option allow_alias = true;")
    out += [f"{pad}  {v.name} = {v.number};" for v in node.values]
    out.append(pad + "}")


def write_field(field, out, pad, package, label=True):
    prefix = ""
    if label and not is_map(field):
        if is_repeated(field):
            prefix = "repeated "
        elif is_optional(field):
            prefix = "optional "
    dead = " [deprecated = true]" if field.GetOptions().deprecated else ""
    out.append(f"{pad}{prefix}{type_name(field, package)} {field.name} = {field.number}{dead};")


def write_message(node, seen, out, indent):
    pad, package = "  " * indent, node.file.package
    out.append(f"{pad}message {node.name} {{")
    for child in node.enum_types:
        if child.full_name in seen:
            write_enum(child, out, indent + 1)
    for child in node.nested_types:
        if child.full_name in seen and not child.GetOptions().map_entry:
            write_message(child, seen, out, indent + 1)
    done = set()
    for field in sorted(node.fields, key=lambda f: f.number):
        oneof = field.containing_oneof
        if oneof is None or is_optional(field):
            write_field(field, out, pad + "  ", package)
        elif oneof.name not in done:
            done.add(oneof.name)
            out.append(f"{pad}  oneof {oneof.name} {{")
            for member in sorted(oneof.fields, key=lambda f: f.number):
                write_field(member, out, pad + "    ", package, label=False)
            out.append(pad + "  }")
    out.append(pad + "}")


def main():
    (rpcs, messages), seen, services = wanted(), {}, {}
    for name in messages:
        reach(api_pb2.DESCRIPTOR.message_types_by_name[name], seen)
    for name, file in FILES.items():
        for service in file.services_by_name.values():
            methods = [m for m in service.methods if m.name in rpcs]
            if methods:
                services.setdefault(name, []).append((service, sorted(methods, key=lambda m: m.name)))
            for method in methods:
                reach(method.input_type, seen)
                reach(method.output_type, seen)
    unknown = set(rpcs) - {m.name for group in services.values() for _, ms in group for m in ms}
    if unknown:
        sys.exit(f"generate.py: no such RPC: {', '.join(sorted(unknown))}")
    for name, file in FILES.items():
        nodes = [n for n in seen.values() if n.file.name == file.name and n.containing_type is None]
        body = []
        for node in sorted(nodes, key=lambda n: n.name):
            body.append("")
            if isinstance(node, d.EnumDescriptor):
                write_enum(node, body, 0)
            else:
                write_message(node, seen, body, 0)
        for service, methods in services.get(name, []):
            body += ["", f"service {service.name} {{"]
            for m in methods:
                source = ("stream " if m.client_streaming else "") + type_of(m.input_type, file)
                target = ("stream " if m.server_streaming else "") + type_of(m.output_type, file)
                body.append(f"  rpc {m.name}({source}) returns ({target});")
            body.append("}")
        text = "\n".join(body)
        imports = ['google/protobuf/' + n for n in ("empty.proto", "struct.proto", "timestamp.proto", "wrappers.proto")
                   if f"google.protobuf.{KINDS[n]}" in text or n == "wrappers.proto" and "google.protobuf.StringValue" in text]
        if file.package != "modal.client" and " modal.client." in text:
            imports.append("modal_api.proto")
        head = [f"// The part of Modal's API that this workspace speaks: names and numbers of the `modal` package {modal.__version__}.",
                "// Written by tools/generate.py from tools/rpcs.txt; tests/descriptors.rs compares it with the package.",
                'syntax = "proto3";', f"package {file.package};", ""] + [f'import "{i}";' for i in imports]
        (HERE.parent / "proto" / name).write_text("\n".join(head) + "\n" + text + "\n")


KINDS = {"empty.proto": "Empty", "struct.proto": "Struct", "timestamp.proto": "Timestamp", "wrappers.proto": "BoolValue"}


def type_of(node, file):
    return node.full_name.removeprefix(file.package + ".")


main()
