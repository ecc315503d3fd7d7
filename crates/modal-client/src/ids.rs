//! Typed ids: one type for each kind of object, so that a volume's id cannot be passed for an image's.

use std::fmt;

/// A string that is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {kind} id, which starts with `{prefix}`")]
pub struct InvalidId {
    text: String,
    kind: &'static str,
    prefix: &'static str,
}

macro_rules! typed_id {
    ($(#[$meta:meta])* $name:ident, $prefix:literal, $kind:literal) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// What every id of this kind starts with.
            pub const PREFIX: &'static str = $prefix;

            /// The id as Modal writes it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                if text.len() > $prefix.len() && text.starts_with($prefix) {
                    Ok(Self(text))
                } else {
                    Err(InvalidId { text, kind: $kind, prefix: $prefix })
                }
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

typed_id!(
    /// An app.
    AppId, "ap-", "app"
);
typed_id!(
    /// A dict.
    DictId, "di-", "dict"
);
typed_id!(
    /// A queue.
    QueueId, "qu-", "queue"
);
typed_id!(
    /// An environment.
    EnvironmentId, "en-", "environment"
);
typed_id!(
    /// A function.
    FunctionId, "fu-", "function"
);
typed_id!(
    /// A call of a function.
    FunctionCallId, "fc-", "function call"
);
typed_id!(
    /// An image, or one layer of it.
    ImageId, "im-", "image"
);
typed_id!(
    /// A set of local files that was uploaded.
    MountId, "mo-", "mount"
);
typed_id!(
    /// A sandbox.
    SandboxId, "sb-", "sandbox"
);
typed_id!(
    /// A secret.
    SecretId, "st-", "secret"
);
typed_id!(
    /// A container: that of a sandbox, or one of a function.
    TaskId, "ta-", "task"
);
typed_id!(
    /// A volume.
    VolumeId, "vo-", "volume"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_another_kind_is_refused() {
        assert_eq!("vo-1".parse::<VolumeId>().unwrap().as_str(), "vo-1");
        let error = "im-1".parse::<VolumeId>().unwrap_err();
        assert_eq!(error.to_string(), "`im-1` is not a volume id, which starts with `vo-`");
        assert!("vo-".parse::<VolumeId>().is_err());
    }

    #[test]
    fn an_id_is_a_plain_string_in_json() {
        let id: SandboxId = serde_json::from_str("\"sb-01\"").unwrap();
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"sb-01\"");
        assert!(serde_json::from_str::<SandboxId>("\"ta-01\"").is_err());
    }
}
