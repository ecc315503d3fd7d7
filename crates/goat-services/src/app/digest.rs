//! Whether a function is what was deployed: digests of everything that is sent, by part.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{PLAN, SUPERVISOR, Service, shim};
use crate::error::Result;

/// The digest of one part, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartDigest(String);

/// What a function was deployed as: a digest for each part that a person can name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digests(BTreeMap<String, PartDigest>);

impl Digests {
    /// Of a function; `marks` are those of its secrets' values, so that a rotated one counts as a change: by
    /// `secret/VARIABLE`, and by [`Self::inline`] for those of its own.
    ///
    /// # Errors
    ///
    /// A file of it can't be read.
    pub fn of(service: &Service, marks: &BTreeMap<String, String>) -> Result<Self> {
        let mut parts: BTreeMap<String, Sha256> = BTreeMap::new();
        let mut add = |part: &str, bytes: &[u8]| {
            let hasher = parts.entry(part.to_owned()).or_default();
            // With its length: two texts are never one.
            hasher.update(bytes.len().to_le_bytes());
            hasher.update(bytes);
        };
        add("image", service.base.as_bytes());
        for command in &service.commands {
            add("image", command.as_bytes());
        }
        for file in &service.files {
            let part = match file.path.as_str() {
                SUPERVISOR => "supervisor",
                PLAN => "plan",
                _ if file.is_program => "programs",
                _ => "configuration",
            };
            add(part, file.path.as_bytes());
            add(part, &file.contents.digest()?);
        }
        let Service { volumes, memory_mib, timeout, addresses, .. } = service;
        let web = service.server().map(|it| (it.port, it.concurrent, it.startup));
        let limits = (web, memory_mib, timeout);
        add("settings", format!("{limits:?} {volumes:?} {addresses:?}").as_bytes());
        add("settings", shim(service).1.as_bytes());
        for secret in &service.secrets {
            add("secrets", secret.as_bytes());
            let of = |(name, _): &(&String, &String)| {
                name.strip_prefix(secret).is_some_and(|rest| rest.starts_with('/'))
            };
            for (name, mark) in marks.iter().filter(of) {
                add("secrets", format!("{name}={mark}").as_bytes());
            }
        }
        for name in service.values.keys() {
            let name = Self::inline(name);
            let mark = marks.get(&name).map_or("", String::as_str);
            add("secrets", format!("{name}={mark}").as_bytes());
        }
        let done =
            |(part, hasher): (String, Sha256)| (part, PartDigest(hex::encode(hasher.finalize())));
        Ok(Self(parts.into_iter().map(done).collect()))
    }

    /// The name of the mark of a function's own value.
    pub fn inline(variable: &str) -> String {
        format!("inline/{variable}")
    }

    /// Names of the parts that differ from an earlier deployment, in order.
    pub fn changed_since(&self, earlier: &Self) -> Vec<String> {
        let names = self.0.keys().chain(earlier.0.keys());
        let differs = |name: &&String| self.0.get(*name) != earlier.0.get(*name);
        let mut names: Vec<String> = names.filter(differs).cloned().collect();
        names.sort();
        names.dedup();
        names
    }

    /// One digest over functions, short enough to be read: the word for a version of the app.
    pub fn tag<'d>(functions: impl IntoIterator<Item = (&'d String, &'d Self)>) -> String {
        let mut hasher = Sha256::new();
        for (name, digests) in functions {
            for (part, digest) in &digests.0 {
                hasher.update(format!("{name}/{part}={}\n", digest.0));
            }
        }
        hex::encode(hasher.finalize())[..12].to_owned()
    }
}
