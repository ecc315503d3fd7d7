//! Causes of other crates, told once.
//!
//! sqlx and object_store print an error's source within the error and offer it as `source()` too, so
//! that a chain would say everything twice. [`Cause`] is such an error with its whole chain as one
//! sentence.

use std::{error::Error, fmt};

use crate::error::BoxError;

/// An error of another crate. It has no source: its text holds those of its causes.
#[derive(Debug)]
pub(crate) struct Cause(pub(crate) BoxError);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        let mut next = self.0.source();
        while let Some(error) = next {
            let said = error.to_string();
            // The outer error holds the inner one's words already, or ends with them.
            if !text.contains(&said) {
                text.push_str(": ");
                text.push_str(&said);
            }
            next = error.source();
        }
        f.write_str(&text)
    }
}

impl Error for Cause {}

/// What a statement failed with.
pub(crate) fn of_sqlx(error: sqlx::Error) -> BoxError {
    let inner: BoxError = match error {
        sqlx::Error::Database(error) => error.into_error(),
        other => other.into(),
    };
    Cause(inner).into()
}

/// What a store failed with, without the name that this program gave it.
pub(crate) fn of_store(error: object_store::Error) -> BoxError {
    let inner: BoxError = match error {
        object_store::Error::Generic { source, .. }
        | object_store::Error::NotFound { source, .. } => source,
        other => other.into(),
    };
    Cause(inner).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_store_says_is_said_once() {
        let source = std::io::Error::other("connection refused");
        let error = object_store::Error::Generic { store: "S", source: source.into() };
        assert_eq!(of_store(error).to_string(), "connection refused");
        let source = std::io::Error::other("read-only").into();
        let error = object_store::Error::PermissionDenied { path: "a".into(), source };
        assert_eq!(of_store(error).to_string().matches("read-only").count(), 1);
    }
}
