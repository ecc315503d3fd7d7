//! Ids of objects: a prefix that names the kind, and characters that nobody can guess.

use rand::Rng as _;

/// The characters of an id after its prefix.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// How many of them: what the real service uses, about 131 bits.
const LENGTH: usize = 22;
/// No id that we make or take is longer.
const MAX_LENGTH: usize = 64;

/// Why a text is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {kind} id: it must be `{prefix}` followed by letters and digits")]
pub struct InvalidId {
    text: String,
    kind: &'static str,
    prefix: &'static str,
}

impl InvalidId {
    pub(crate) fn new(text: &str, kind: &'static str, prefix: &'static str) -> Self {
        let text = text.chars().take(MAX_LENGTH).collect();
        Self { text, kind, prefix }
    }
}

/// `LENGTH` random characters of `ALPHABET`.
pub(crate) fn random_suffix() -> String {
    let mut rng = rand::rng();
    (0..LENGTH).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())])).collect()
}

/// Whether `text` is `prefix` and then only letters and digits: safe as a file name.
pub(crate) fn is_id(text: &str, prefix: &str) -> bool {
    text.len() <= MAX_LENGTH
        && text
            .strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// Defines the type of one kind of id.
macro_rules! typed_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        #[allow(dead_code, reason = "one set of methods for every kind; not each uses all")]
        impl $name {
            /// What ids of this kind begin with.
            pub const PREFIX: &'static str = $prefix;

            /// A new id.
            pub fn random() -> Self {
                Self(format!("{}{}", $prefix, $crate::ids::random_suffix()))
            }

            /// Checks prefix and characters; says nothing about whether the object exists.
            pub fn parse(text: &str) -> Result<Self, $crate::ids::InvalidId> {
                if $crate::ids::is_id(text, $prefix) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err($crate::ids::InvalidId::new(text, $kind, $prefix))
                }
            }

            /// The id as the API writes it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

typed_id!(/// An app.
    AppId, "ap-", "an app");
typed_id!(/// An uploaded blob.
    BlobId, "bl-", "a blob");
typed_id!(/// A dict.
    DictId, "di-", "a dict");
typed_id!(/// A class of functions.
    ClassId, "cs-", "a class");
typed_id!(/// One definition of a function: a deployment makes a new one.
    DefinitionId, "de-", "a definition");
typed_id!(/// An environment.
    EnvironmentId, "en-", "an environment");
typed_id!(/// A function.
    FunctionId, "fu-", "a function");
typed_id!(/// A call of a function: one input or many.
    CallId, "fc-", "a function call");
typed_id!(/// One input of a call.
    InputId, "in-", "an input");
typed_id!(/// An image.
    ImageId, "im-", "an image");
typed_id!(/// A mount: a set of files of the client's machine.
    MountId, "mo-", "a mount");
typed_id!(/// A persistent sandbox: a row of sandboxes, each goes on where the last one ended.
    PersistentSandboxId, "ps-", "a persistent sandbox");
typed_id!(/// A queue.
    QueueId, "qu-", "a queue");
typed_id!(/// A sandbox.
    SandboxId, "sb-", "a sandbox");
typed_id!(/// A sticky session of a server.
    SessionId, "sd-", "a session");
typed_id!(/// A secret.
    SecretId, "st-", "a secret");
typed_id!(/// A task: one container of a sandbox or a build.
    TaskId, "ta-", "a task");
typed_id!(/// A volume.
    VolumeId, "vo-", "a volume");

typed_id!(/// A token for proxy authentication.
    ProxyTokenId, "wk-", "a proxy token");
typed_id!(/// A network file system: a volume by another name.
    NetworkFileSystemId, "sv-", "a network file system");

impl NetworkFileSystemId {
    /// The volume that holds its files.
    pub fn volume(&self) -> VolumeId {
        VolumeId(self.0.replacen(Self::PREFIX, VolumeId::PREFIX, 1))
    }

    /// The network file system whose files this volume holds.
    pub fn of_volume(volume: &str) -> String {
        volume.replacen(VolumeId::PREFIX, Self::PREFIX, 1)
    }
}

impl SandboxId {
    /// A new id in the form of version 2 sandboxes: a ULID, which no client takes for version 1.
    pub fn random_v2() -> Self {
        Self(format!("{}{}", Self::PREFIX, ulid::Ulid::new()))
    }
}

impl TaskId {
    /// A new id of a version 1 sandbox's task, which never ends in `V`.
    pub fn random_v1() -> Self {
        loop {
            let id = Self::random();
            if !id.0.ends_with('V') {
                return id;
            }
        }
    }

    /// A new id of a version 2 sandbox's task: a ULID and then `V`, by which the CLI knows it.
    pub fn random_v2() -> Self {
        Self(format!("{}{}V", Self::PREFIX, ulid::Ulid::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_new_each_time_and_parse_back() {
        let (a, b) = (VolumeId::random(), VolumeId::random());
        assert_ne!(a, b);
        assert_eq!(VolumeId::parse(a.as_str()), Ok(a));
    }

    #[test]
    fn what_could_be_a_path_is_no_id() {
        for text in ["", "vo-", "vo-../../x", "vo-a/b", "vo-a\0", "ap-abc", "vo-ä", "vo-."] {
            assert!(VolumeId::parse(text).is_err(), "{text:?}");
        }
        assert!(VolumeId::parse(&format!("vo-{}", "a".repeat(62))).is_err());
    }

    #[test]
    fn ids_of_version_2_are_not_taken_for_version_1() {
        assert_ne!(SandboxId::random_v2().as_str().len(), "sb-".len() + LENGTH);
        assert!(TaskId::random_v2().as_str().ends_with('V'));
    }
}
