//! Who calls: what the metadata of a control-plane call says about the client.

use tonic::metadata::MetadataMap;

/// A client, as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The language of its SDK.
    pub(crate) kind: ClientKind,
    /// One for all attempts of a call.
    pub(crate) idempotency_key: Option<String>,
}

/// The SDKs differ in what they accept, so that some answers depend on the language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientKind {
    /// Python's, and clients that behave like it: plaintext router URLs are `http://`.
    Python,
    /// JavaScript's and Go's: they refuse `http://` router URLs, and dial plaintext to `https://`
    /// ones on this machine.
    LibModal,
}

/// Values of `x-modal-client-type` that mean JavaScript or Go.
const LIBMODAL_TYPES: [&str; 3] = ["7", "8", "9"];
/// A longer key is cut; the SDKs send UUIDs.
const MAX_KEY_LENGTH: usize = 200;

impl Caller {
    pub(crate) fn of(metadata: &MetadataMap) -> Self {
        let text = |name| metadata.get(name).and_then(|value| value.to_str().ok());
        let kind = match text("x-modal-client-type") {
            Some(kind) if LIBMODAL_TYPES.contains(&kind) => ClientKind::LibModal,
            _ => ClientKind::Python,
        };
        let key = text("x-idempotency-key").filter(|key| !key.is_empty());
        let idempotency_key = key.map(|key| key.chars().take(MAX_KEY_LENGTH).collect());
        Self { kind, idempotency_key }
    }

    /// The scheme of a router URL that this client connects to in plaintext.
    pub(crate) fn router_scheme(&self) -> &'static str {
        match self.kind {
            ClientKind::Python => "http",
            ClientKind::LibModal => "https",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn javascript_is_told_https_and_python_http() {
        let mut metadata = MetadataMap::new();
        assert_eq!(Caller::of(&metadata).router_scheme(), "http");
        metadata.insert("x-modal-client-type", "8".parse().unwrap());
        assert_eq!(Caller::of(&metadata).router_scheme(), "https");
    }
}
