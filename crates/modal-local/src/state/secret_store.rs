//! The values of secrets: one file a secret, readable by its owner only, never in the database.

use std::collections::BTreeMap;
use std::path::PathBuf;

use secret_string::SecretString;
use zeroize::Zeroizing;

use crate::durable;
use crate::error::{Error, Result};
use crate::ids::SecretId;

/// The variables of one secret.
pub(crate) type Variables = BTreeMap<String, SecretString>;

/// The directory of secret files.
#[derive(Clone)]
pub(crate) struct SecretStore {
    root: PathBuf,
}

impl SecretStore {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The variables of a secret. Blocks.
    pub(crate) fn read(&self, id: &SecretId) -> Result<Variables> {
        let path = self.path(id);
        let text = std::fs::read(&path).map(Zeroizing::new).map_err(Error::file("read", &path))?;
        let values: BTreeMap<String, String> = serde_json::from_slice(&text)
            .map_err(|_| Error::Precondition(format!("secret `{id}` cannot be read")))?;
        Ok(values.into_iter().map(|(key, value)| (key, value.into())).collect())
    }

    /// Replaces the variables of a secret. Blocks.
    pub(crate) fn write(&self, id: &SecretId, variables: &Variables) -> Result<()> {
        let values: BTreeMap<&str, &str> =
            variables.iter().map(|(key, value)| (key.as_str(), value.expose())).collect();
        let text = serde_json::to_vec(&values)
            .map(Zeroizing::new)
            .map_err(|_| Error::invalid("the secret's values cannot be written"))?;
        durable::write(&self.path(id), &text, 0o600)
    }

    /// Forgets the variables of a secret. Blocks.
    pub(crate) fn remove(&self, id: &SecretId) -> Result<()> {
        durable::remove_file(&self.path(id))
    }

    fn path(&self, id: &SecretId) -> PathBuf {
        self.root.join(format!("{id}.json"))
    }
}
