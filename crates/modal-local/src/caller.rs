//! Who calls: what the metadata of a control-plane call says about the client.

use tonic::metadata::MetadataMap;

/// A client, as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The language of its SDK.
    pub(crate) kind: ClientKind,
    /// It takes a command router over TLS alone.
    pub(crate) needs_tls: bool,
    /// Its SDK's version; empty if it does not say.
    pub(crate) version: String,
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
/// The first Python SDK that speaks to a router of this machine in plaintext.
const PLAINTEXT_SINCE: (u32, u32) = (1, 5);
/// The first Python SDK that knows the image builder of 2025.06; those before refuse all calls that could need it.
const NEW_BUILDER_SINCE: (u32, u32) = (1, 1);
/// The newest image builder that the SDKs before know.
const OLD_BUILDER: &str = "2024.10";
/// A longer key is cut; the SDKs send UUIDs.
const MAX_KEY_LENGTH: usize = 200;

impl Caller {
    pub(crate) fn of(metadata: &MetadataMap) -> Self {
        let text = |name| metadata.get(name).and_then(|value| value.to_str().ok());
        let kind = match text("x-modal-client-type") {
            Some(kind) if LIBMODAL_TYPES.contains(&kind) => ClientKind::LibModal,
            _ => ClientKind::Python,
        };
        let version = text("x-modal-client-version").unwrap_or_default();
        let is_old = major_and_minor(version).is_some_and(|it| it < PLAINTEXT_SINCE);
        let needs_tls = kind == ClientKind::Python && is_old;
        let key = text("x-idempotency-key").filter(|key| !key.is_empty());
        let idempotency_key = key.map(|key| key.chars().take(MAX_KEY_LENGTH).collect());
        Self {
            kind,
            needs_tls,
            version: version.chars().take(MAX_KEY_LENGTH).collect(),
            idempotency_key,
        }
    }

    /// The image builder that this client is told of where its environment has `version`.
    pub(crate) fn image_builder(&self, version: String) -> String {
        let is_old = major_and_minor(&self.version).is_some_and(|it| it < NEW_BUILDER_SINCE);
        let is_unknown =
            self.kind == ClientKind::Python && is_old && version.as_str() > OLD_BUILDER;
        if is_unknown { OLD_BUILDER.to_owned() } else { version }
    }

    /// The scheme of a router URL that this client connects to in plaintext.
    pub(crate) fn router_scheme(&self) -> &'static str {
        match self.kind {
            ClientKind::Python => "http",
            ClientKind::LibModal => "https",
        }
    }
}

fn major_and_minor(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pythons_sdk_before_1_5_takes_tls_alone() {
        let of = |kind: &str, version: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("x-modal-client-type", kind.parse().unwrap());
            metadata.insert("x-modal-client-version", version.parse().unwrap());
            Caller::of(&metadata).needs_tls
        };
        assert!(of("1", "1.4.3") && of("1", "0.73.10"));
        assert!(
            !of("1", "1.5.0") && !of("1", "1.10.2") && !of("1", "2.0.0.dev1") && !of("1", "dev")
        );
        assert!(!of("8", "0.11.1"), "libmodal counts its versions by itself");
    }

    #[test]
    fn pythons_sdk_before_1_1_is_told_of_a_builder_that_it_knows() {
        let of = |version: &str, builder: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("x-modal-client-type", "1".parse().unwrap());
            metadata.insert("x-modal-client-version", version.parse().unwrap());
            Caller::of(&metadata).image_builder(builder.to_owned())
        };
        assert_eq!(of("1.0.5", "2025.06"), "2024.10");
        assert_eq!(of("1.0.5", "2023.12"), "2023.12");
        assert_eq!(of("1.1.0", "2025.06"), "2025.06");
        assert_eq!(of("", "2025.06"), "2025.06");
    }

    #[test]
    fn javascript_is_told_https_and_python_http() {
        let mut metadata = MetadataMap::new();
        assert_eq!(Caller::of(&metadata).router_scheme(), "http");
        metadata.insert("x-modal-client-type", "8".parse().unwrap());
        assert_eq!(Caller::of(&metadata).router_scheme(), "https");
    }
}
