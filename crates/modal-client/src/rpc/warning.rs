//! Warnings that a server attaches to answers, in the trailer `x-modal-warning`: each is logged once.

use std::{collections::HashSet, sync::Mutex};

use tonic::metadata::MetadataMap;

/// How many different warnings are remembered; a server that sends more is repeating itself in new words.
const REMEMBERED: usize = 256;

/// The warnings that were shown already.
#[derive(Debug, Default)]
pub(crate) struct Warnings(Mutex<HashSet<String>>);

impl Warnings {
    /// Logs the warnings of an answer that were not logged before.
    pub(crate) fn note(&self, rpc: &'static str, metadata: &MetadataMap) {
        for text in self.fresh(metadata) {
            tracing::warn!(rpc, "{text}");
        }
    }

    fn fresh(&self, metadata: &MetadataMap) -> Vec<String> {
        let values =
            metadata.get_all("x-modal-warning").iter().filter_map(|value| value.to_str().ok());
        let texts: Vec<String> = values.map(percent_decode).collect();
        if texts.is_empty() {
            return texts;
        }
        let mut seen = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if seen.len() >= REMEMBERED {
            seen.clear();
        }
        texts.into_iter().filter(|text| seen.insert(text.clone())).collect()
    }
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        match (first, hex.and_then(|pair| u8::from_str_radix(pair, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_is_shown_once_and_decoded() {
        let mut map = MetadataMap::new();
        map.append("x-modal-warning", "old%20client%2C%20100%25".parse().unwrap());
        map.append("x-modal-warning", "50% off %zz".parse().unwrap());
        let warnings = Warnings::default();
        assert_eq!(warnings.fresh(&map), ["old client, 100%", "50% off %zz"]);
        assert!(warnings.fresh(&map).is_empty());
    }
}
