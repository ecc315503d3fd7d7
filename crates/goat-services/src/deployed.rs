//! What an environment has.

use std::collections::{BTreeMap, BTreeSet};

use crate::fingerprint::Fingerprint;

/// What an environment has, as far as a server tells: names, never values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deployed {
    /// Whether the environment itself is there.
    pub environment: bool,
    /// Its secrets by name.
    pub secrets: BTreeMap<String, DeployedSecret>,
    /// The names of its volumes.
    pub volumes: BTreeSet<String>,
}

/// What is known of a secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeployedSecret {
    /// Which of the variables that we want it has.
    pub keys: BTreeSet<String>,
    /// Marks of the values that an earlier setup gave it.
    pub fingerprints: BTreeMap<String, Fingerprint>,
}
