//! Dict keys and values in Python's own form, so that Python programs and this client read each other's.
//!
//! Keys are compared by their bytes on the server, so a key is written exactly as CPython's pickler writes it
//! (protocol 4, one frame); values may be any pickle of the same thing.

use serde::{Serialize, de::DeserializeOwned};

/// The longest key: a longer one would leave the frame.
const LONGEST_KEY: usize = 32 * 1024;

/// A text key, as Modal's own client writes it.
pub(crate) fn key(text: &str) -> Result<Vec<u8>, String> {
    if text.len() > LONGEST_KEY {
        return Err(format!("a key may have {LONGEST_KEY} bytes at most"));
    }
    let mut frame = Vec::with_capacity(text.len() + 8);
    match u8::try_from(text.len()) {
        Ok(length) => frame.extend([0x8c, length]),
        Err(_) => {
            frame.push(b'X');
            frame.extend((text.len() as u32).to_le_bytes());
        }
    }
    frame.extend(text.as_bytes());
    // MEMOIZE, STOP.
    frame.extend([0x94, b'.']);
    let mut pickle = vec![0x80, 4, 0x95];
    pickle.extend((frame.len() as u64).to_le_bytes());
    pickle.extend(frame);
    Ok(pickle)
}

/// The text of a key; `None` for keys of another kind.
pub(crate) fn text_of_key(pickle: &[u8]) -> Option<String> {
    decode(pickle).ok()
}

pub(crate) fn encode(value: &impl Serialize) -> Result<Vec<u8>, String> {
    serde_pickle::to_vec(value, serde_pickle::SerOptions::new())
        .map_err(|error| format!("the value cannot be pickled: {error}"))
}

/// A value of plain types: numbers, texts, bytes, lists, tuples, dicts. Pickles of other objects are code, which
/// this never runs: they are an error.
pub(crate) fn decode<T: DeserializeOwned>(pickle: &[u8]) -> Result<T, String> {
    serde_pickle::from_slice(pickle, serde_pickle::DeOptions::new())
        .map_err(|error| format!("the value is not of the expected type: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_what_cpython_writes() {
        // modal._serialization.serialize("key") of Modal's Python client 1.6.4, on Python 3.11.
        assert_eq!(hex::encode(key("key").unwrap()), "80049507000000000000008c036b6579942e");
        let long = key(&"x".repeat(300)).unwrap();
        assert_eq!(hex::encode(&long[..16]), "800495330100000000000058".to_owned() + "2c010000");
        assert_eq!(text_of_key(&long).unwrap().len(), 300);
        assert!(key(&"x".repeat(40_000)).is_err());
    }

    #[test]
    fn values_of_python_are_read() {
        // pickle.dumps({"a": [1, 2.5, None], "b": b"x"}, protocol=5)
        let bytes = hex::decode(concat!(
            "80059521000000000000007d94288c0161945d94284b014740040000000000",
            "004e658c01629443017894752e"
        ))
        .unwrap();
        let value: std::collections::BTreeMap<String, serde_pickle::Value> =
            decode(&bytes).unwrap();
        use serde_pickle::Value::{Bytes, F64, I64, List, None};
        assert_eq!(value["a"], List(vec![I64(1), F64(2.5), None]));
        assert_eq!(value["b"], Bytes(b"x".to_vec()));
        let back: (u8, String) = decode(&encode(&(7, "x")).unwrap()).unwrap();
        assert_eq!(back, (7, "x".to_owned()));
    }

    #[test]
    fn an_object_is_no_plain_value() {
        // pickle.dumps(print)
        let bytes =
            hex::decode("80049516000000000000008c086275696c74696e73948c057072696e749493942e");
        assert!(decode::<serde_json::Value>(&bytes.unwrap()).is_err());
    }
}
