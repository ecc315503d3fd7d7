//! The one value that a web function is called with, as Python's pickle.
//!
//! The entrypoint reads the arguments of every input as `(args, kwargs)`. For a request they are
//! `((scope,), {})`, `scope` being the dictionary of the ASGI specification
//! (<https://asgi.readthedocs.io/en/latest/specs/www.html>, read 2026-11-26). Protocol 3 is enough:
//! it knows bytes, and every Python that runs here reads it.

/// A value of the scope.
pub(super) enum Value {
    Number(u32),
    Text(String),
    Bytes(Vec<u8>),
    Tuple(Vec<Value>),
    List(Vec<Value>),
    Dict(Vec<(&'static str, Value)>),
}

/// `((scope,), {})`.
pub(super) fn arguments(scope: Value) -> Vec<u8> {
    let call = Value::Tuple(vec![Value::Tuple(vec![scope]), Value::Dict(Vec::new())]);
    let mut out = vec![0x80, 3];
    write(&call, &mut out);
    out.push(b'.');
    out
}

fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Number(number) => {
            // Eight bytes, so that no number is read as negative.
            out.extend([0x8a, 8]);
            out.extend(u64::from(*number).to_le_bytes());
        }
        Value::Text(text) => long(b'X', text.as_bytes(), out),
        Value::Bytes(bytes) => long(b'B', bytes, out),
        Value::Tuple(items) => {
            out.push(b'(');
            items.iter().for_each(|item| write(item, out));
            out.push(b't');
        }
        Value::List(items) => {
            out.extend(b"](");
            items.iter().for_each(|item| write(item, out));
            out.push(b'e');
        }
        Value::Dict(entries) => {
            out.extend(b"}(");
            for (name, value) in entries {
                long(b'X', name.as_bytes(), out);
                write(value, out);
            }
            out.push(b'u');
        }
    }
}

/// An opcode whose argument follows its length. Longer than 4 GiB is nothing that came in a request's head.
fn long(opcode: u8, bytes: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.push(opcode);
    out.extend(length.to_le_bytes());
    out.extend(&bytes[..length as usize]);
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn python_reads_it() {
        let scope = Value::Dict(vec![
            ("type", Value::Text("http".into())),
            ("path", Value::Text("/ü".into())),
            ("query_string", Value::Bytes(b"a=1\xff".to_vec())),
            (
                "headers",
                Value::List(vec![Value::Tuple(vec![
                    Value::Bytes(b"host".to_vec()),
                    Value::Bytes(b"x".to_vec()),
                ])]),
            ),
            ("client", Value::Tuple(vec![Value::Text("127.0.0.1".into()), Value::Number(65_535)])),
            ("empty", Value::List(Vec::new())),
        ]);
        let read = Command::new("python3")
            .args([
                "-c",
                "import pickle, sys; print(ascii(pickle.loads(bytes.fromhex(sys.argv[1]))))",
            ])
            .arg(hex::encode(arguments(scope)))
            .output()
            .unwrap();
        insta::assert_snapshot!(String::from_utf8_lossy(&read.stdout), @r"(({'type': 'http', 'path': '/\xfc', 'query_string': b'a=1\xff', 'headers': [(b'host', b'x')], 'client': ('127.0.0.1', 65535), 'empty': []},), {})");
    }
}
