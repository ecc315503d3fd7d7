//! What functions are called with and what they return, as CBOR: the form that clients in any language share.
//!
//! An input is `[arguments, keyword arguments]`.

use ciborium::Value;
use serde::{Serialize, de::DeserializeOwned};

/// An input of a function.
///
/// A tuple or an array holds positional arguments, a map or a struct keyword arguments, `()` none; the pair of
/// a tuple and a map in [`Arguments`] holds both.
pub(crate) fn encode_input(arguments: &impl Serialize) -> Result<Vec<u8>, String> {
    let value = Value::serialized(arguments)
        .map_err(|error| format!("the arguments cannot be written as CBOR: {error}"))?;
    let none = || Value::Map(Vec::new());
    let (positional, keywords) = match value {
        Value::Array(items) => match marked(&items) {
            Some(pair) => pair,
            None => (Value::Array(items), none()),
        },
        Value::Map(entries) => (Value::Array(Vec::new()), Value::Map(entries)),
        Value::Null => (Value::Array(Vec::new()), none()),
        _ => {
            return Err("arguments are a tuple such as `(7,)`, or a map or a struct of named ones"
                .to_owned());
        }
    };
    write(&Value::Array(vec![positional, keywords]))
}

/// Positional and named arguments in one input.
#[derive(Debug, Clone, PartialEq)]
pub struct Arguments<A, K> {
    /// The positional ones: a tuple or an array.
    pub positional: A,
    /// The named ones: a map or a struct.
    pub named: K,
}

/// What tells an [`Arguments`] from a tuple of three.
const MARK: &str = "\u{0}modal-client::Arguments";

impl<A: Serialize, K: Serialize> Serialize for Arguments<A, K> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (MARK, &self.positional, &self.named).serialize(serializer)
    }
}

fn marked(items: &[Value]) -> Option<(Value, Value)> {
    match items {
        [Value::Text(mark), positional, named] if mark == MARK => {
            let positional = match positional {
                Value::Null => Value::Array(Vec::new()),
                value => value.clone(),
            };
            Some((positional, named.clone()))
        }
        _ => None,
    }
}

fn write(value: &Value) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes)
        .map_err(|error| format!("the arguments cannot be written as CBOR: {error}"))?;
    Ok(bytes)
}

/// What a function returned.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    ciborium::from_reader(bytes)
        .map_err(|error| format!("what it returned is not of the expected type: {error}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn shown(arguments: &impl Serialize) -> String {
        let bytes = encode_input(arguments).unwrap();
        let value: serde_json::Value = ciborium::from_reader(bytes.as_slice()).unwrap();
        value.to_string()
    }

    #[test]
    fn tuples_are_positional_maps_are_named_and_nothing_is_nothing() {
        assert_eq!(shown(&(7, "x")), r#"[[7,"x"],{}]"#);
        assert_eq!(shown(&[1, 2]), "[[1,2],{}]");
        assert_eq!(shown(&BTreeMap::from([("y", 3)])), r#"[[],{"y":3}]"#);
        assert_eq!(shown(&()), "[[],{}]");
        let both = Arguments { positional: (7,), named: BTreeMap::from([("y", 3)]) };
        assert_eq!(shown(&both), r#"[[7],{"y":3}]"#);
        assert!(encode_input(&7).is_err());
    }

    /// What the JavaScript SDK 0.11.1 sent for the same (`fixtures/wire/28_function_calls.jsonl`).
    #[test]
    fn arguments_mean_what_another_sdk_s_mean() {
        let named = Arguments { positional: (7,), named: BTreeMap::from([("y", 1)]) };
        let ours = [encode_input(&(7,)).unwrap(), encode_input(&named).unwrap()];
        let theirs: [&[u8]; 2] = [
            &[0x82, 0x81, 0x07, 0xb9, 0x00, 0x00],
            &[0x82, 0x81, 0x07, 0xb9, 0x00, 0x01, 0x61, 0x79, 0x01],
        ];
        let value = |bytes: &[u8]| ciborium::from_reader::<Value, _>(bytes).unwrap();
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert_eq!(value(ours), value(theirs));
        }
    }

    #[test]
    fn an_answer_of_another_type_is_an_error() {
        let bytes = encode_input(&(1,)).unwrap();
        assert!(decode::<String>(&bytes).is_err());
        assert_eq!(decode::<(Vec<i32>, BTreeMap<String, i32>)>(&bytes).unwrap().0, [1]);
    }
}
