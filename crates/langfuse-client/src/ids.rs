//! Ids as types, so that a session cannot be passed where a trace is meant.
//!
//! Langfuse takes any string as an id. Version 2 keeps trace and observation ids unique over the whole
//! instance; OTLP (versions 3 and 4) wants 32 and 16 hex digits in protobuf and takes any string in JSON.
//! `random()` makes ids that fit every version.

use std::fmt;

use rand::Rng as _;
use serde::{Deserialize, Serialize};

macro_rules! typed_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes an id as the server or the caller wrote it.
            pub fn new(id: impl Into<String>) -> Self {
                Self(id.into())
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(id: &str) -> Self {
                Self(id.to_owned())
            }
        }

        impl From<String> for $name {
            fn from(id: String) -> Self {
                Self(id)
            }
        }
    };
}

typed_id!(
    /// A trace.
    TraceId
);
typed_id!(
    /// A span, generation or event within a trace.
    ObservationId
);
typed_id!(
    /// A score.
    ScoreId
);
typed_id!(
    /// A session: traces that belong together, such as those of one conversation.
    SessionId
);
typed_id!(
    /// A dataset.
    DatasetId
);
typed_id!(
    /// An item of a dataset.
    DatasetItemId
);
typed_id!(
    /// A run over a dataset; in version 4 the id of the experiment.
    DatasetRunId
);
typed_id!(
    /// A project, to which a pair of keys belongs.
    ProjectId
);
typed_id!(
    /// One event of an ingestion batch; the server's answer names failures by it.
    EventId
);

impl TraceId {
    /// 32 random hex digits, valid in every version.
    pub fn random() -> Self {
        Self(hex::encode(nonzero::<16>()))
    }
}

impl ObservationId {
    /// 16 random hex digits, valid in every version.
    pub fn random() -> Self {
        Self(hex::encode(nonzero::<8>()))
    }
}

impl ScoreId {
    /// A random UUID.
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4().to_string())
    }
}

impl EventId {
    /// A random UUID.
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4().to_string())
    }
}

/// OpenTelemetry reserves the id of zeros for "none".
fn nonzero<const N: usize>() -> [u8; N] {
    loop {
        let mut bytes = [0; N];
        rand::rng().fill(&mut bytes[..]);
        if bytes.iter().any(|byte| *byte != 0) {
            return bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_fit_otlp() {
        assert_eq!(TraceId::random().as_str().len(), 32);
        assert_eq!(ObservationId::random().as_str().len(), 16);
        assert_ne!(TraceId::random(), TraceId::random());
    }
}
