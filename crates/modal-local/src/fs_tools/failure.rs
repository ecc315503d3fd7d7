//! Why a command failed, as the SDKs read it from stderr.

use std::io;

use rustix::io::Errno;
use serde::Serialize;

/// The error kinds that the SDKs turn into exceptions of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum Kind {
    NotFound,
    NotDirectory,
    IsDirectory,
    AlreadyExists,
    PathAlreadyExists,
    DirectoryNotEmpty,
    PermissionDenied,
    FileTooLarge,
    NotSupported,
    Io,
}

/// One JSON object: the SDKs show `message` with the path behind it, and log `detail`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Failure {
    #[serde(rename = "error_kind")]
    pub(super) kind: Kind,
    pub(super) message: String,
    detail: String,
}

impl Failure {
    pub(super) fn new(kind: Kind, message: &str, detail: impl Into<String>) -> Self {
        Self { kind, message: message.to_owned(), detail: detail.into() }
    }

    /// The same under the name that an operation has for it.
    pub(super) fn renamed(mut self, from: Kind, to: Kind) -> Self {
        if self.kind == from {
            self.kind = to;
        }
        self
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self)
            .unwrap_or_else(|_| r#"{"error_kind":"Io","message":"failed"}"#.to_owned())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let kind = match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOENT) => Kind::NotFound,
            Some(Errno::NOTDIR) => Kind::NotDirectory,
            Some(Errno::ISDIR) => Kind::IsDirectory,
            Some(Errno::EXIST) => Kind::AlreadyExists,
            Some(Errno::NOTEMPTY) => Kind::DirectoryNotEmpty,
            Some(Errno::ACCESS | Errno::PERM) => Kind::PermissionDenied,
            Some(Errno::FBIG) => Kind::FileTooLarge,
            Some(Errno::OPNOTSUPP | Errno::NOSYS) => Kind::NotSupported,
            _ => Kind::Io,
        };
        let text = error.to_string();
        let message = text.split(" (os error").next().unwrap_or(&text);
        Self::new(kind, message, format!("{error:?}"))
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        io::Error::from(errno).into()
    }
}
