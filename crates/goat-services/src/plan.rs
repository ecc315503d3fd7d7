//! What setting up will do, decided before anything is done.

use std::collections::BTreeSet;

use secret_string::SecretString;
use serde::Serialize;

use crate::catalog::{self, KeySpec, Otherwise, PROVIDERS, PROVIDERS_SECRET, SecretSpec};
use crate::deployed::{Deployed, DeployedSecret};
use crate::error::{Error, Result};
use crate::fingerprint::{Fingerprint, Fingerprints};
use crate::values::{Source, Values};

/// What was asked for.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// Variables whose deployed values are to be replaced.
    pub rotate: BTreeSet<String>,
    /// Whether models are reached through providers: without one complete provider nothing works then.
    pub needs_provider: bool,
}

/// What becomes of a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It is there as it should be.
    Exists,
    /// It is not there, and will be.
    Make,
    /// It is there, and something will be added or replaced.
    Change,
    /// It is there and not as the file says, and nobody asked for a change.
    LeaveAlone,
    /// It is not there, and not needed.
    LeaveOut,
}

/// What becomes of a variable of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// Deployed with this value.
    Same,
    /// Not deployed, and will be.
    New,
    /// Deployed with another value, and will be replaced, as asked for.
    Replaced,
    /// Deployed with another value than here.
    Differs,
    /// Deployed by somebody else, so that nobody can tell whether the value here is the same.
    Unknown,
    /// Deployed, and its value is not known here.
    Kept,
    /// Nobody gave it.
    Missing,
}

/// What becomes of a variable, and the value it takes.
#[derive(Debug, Clone)]
pub struct KeyPlan {
    /// The variable.
    pub name: &'static str,
    /// What becomes of it.
    pub state: KeyState,
    /// Where the value here is from.
    pub source: Option<Source>,
    /// The mark of the value here.
    pub fingerprint: Option<Fingerprint>,
    value: Option<SecretString>,
}

/// What becomes of a secret.
#[derive(Debug, Clone)]
pub struct SecretPlan {
    /// Its name.
    pub name: &'static str,
    /// What becomes of it.
    pub action: Action,
    /// Its variables.
    pub keys: Vec<KeyPlan>,
}

/// What becomes of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumePlan {
    /// Its name.
    pub name: &'static str,
    /// What becomes of it.
    pub action: Action,
}

/// Why setting up would fail.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A provider has some of its variables.
    #[error("{provider} needs {missing}, too: set it, or take {present} away")]
    HalfProvider {
        /// The provider.
        provider: &'static str,
        /// What it has.
        present: String,
        /// What it lacks.
        missing: String,
    },
    /// No provider is complete.
    #[error("no provider of models is complete: set one of {0}")]
    NoProvider(String),
    /// A value was to be replaced, and there is no other.
    #[error(
        "`{0}` is to be replaced, but nothing gives a new value: set it in the file or the environment"
    )]
    NothingToRotateTo(&'static str),
}

/// What setting up will do.
#[derive(Debug, Clone)]
pub struct SetupPlan {
    /// The environment itself.
    pub environment: Action,
    /// Its secrets, in the catalog's order.
    pub secrets: Vec<SecretPlan>,
    /// Its volumes, in the catalog's order.
    pub volumes: Vec<VolumePlan>,
    /// Why nothing may be done.
    pub problems: Vec<Problem>,
}

impl SetupPlan {
    /// Compares what is wanted with what is there. Values that nobody gave are made here, once.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownKey`] for a wish that names no variable, and what making values can fail with.
    pub fn new(
        deployed: &Deployed,
        values: &Values,
        fingerprints: &Fingerprints,
        wishes: &Wishes,
    ) -> Result<Self> {
        wishes.check()?;
        let mut problems = Vec::new();
        let mut secrets = Vec::new();
        for spec in catalog::SECRETS {
            let here = deployed.secrets.get(spec.name);
            let keys =
                spec.keys.iter().map(|key| plan_key(key, here, values, fingerprints, wishes));
            let keys = keys.collect::<Result<Vec<_>>>()?;
            secrets.push(SecretPlan { name: spec.name, action: action(spec, here, &keys), keys });
        }
        problems.extend(nothing_to_rotate_to(&secrets, wishes));
        problems.extend(provider_problems(&secrets, wishes));
        let volume = |name: &&'static str| VolumePlan {
            name,
            action: if deployed.volumes.contains(*name) { Action::Exists } else { Action::Make },
        };
        let environment = if deployed.environment { Action::Exists } else { Action::Make };
        Ok(Self {
            environment,
            secrets,
            volumes: catalog::VOLUMES.iter().map(volume).collect(),
            problems,
        })
    }

    /// Whether nothing is left to do.
    pub fn is_done(&self) -> bool {
        let changes = |action: Action| matches!(action, Action::Make | Action::Change);
        !changes(self.environment)
            && !self.secrets.iter().any(|secret| changes(secret.action))
            && !self.volumes.iter().any(|volume| changes(volume.action))
    }

    /// Values that are to be kept in the file: those that were made or typed.
    pub fn for_file(&self) -> impl Iterator<Item = (&'static str, &SecretString)> {
        self.secrets.iter().flat_map(|secret| &secret.keys).filter_map(|key| {
            let is_new = matches!(key.source, Some(Source::Made | Source::Typed));
            let is_used = matches!(key.state, KeyState::New | KeyState::Replaced);
            let value = key.value.as_ref().filter(|_| is_new && is_used)?;
            Some((key.name, value))
        })
    }
}

impl SecretPlan {
    /// What the secret is to be given: all of it when it is made, else what is new or replaced.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, &SecretString)> {
        self.keys.iter().filter_map(|key| {
            let is_given = matches!(key.state, KeyState::New | KeyState::Replaced);
            Some((key.name, key.value.as_ref().filter(|_| is_given)?))
        })
    }
}

impl Wishes {
    fn check(&self) -> Result<()> {
        let unknown = self.rotate.iter().find(|name| catalog::key(name).is_none());
        let Some(name) = unknown else { return Ok(()) };
        let names = catalog::SECRETS.iter().flat_map(|secret| secret.keys).map(|key| key.name);
        let upper = name.to_ascii_uppercase();
        let near = names.into_iter().find(|known| known.contains(&upper) || upper.contains(known));
        Err(Error::UnknownKey { name: name.clone(), near: near.map(str::to_owned) })
    }
}

fn plan_key(
    spec: &KeySpec,
    here: Option<&DeployedSecret>,
    values: &Values,
    fingerprints: &Fingerprints,
    wishes: &Wishes,
) -> Result<KeyPlan> {
    let is_deployed = here.is_some_and(|secret| secret.keys.contains(spec.name));
    let given = values.get(spec.name);
    let rotate = wishes.rotate.contains(spec.name);
    let with = |state, value: Option<(SecretString, Source)>| {
        let (value, source) = value.unzip();
        let fingerprint = value.as_ref().map(|value| fingerprints.of(spec.name, value));
        KeyPlan { name: spec.name, state, source, fingerprint, value }
    };
    let found = given.map(|(value, source)| (value.clone(), source));
    Ok(match (is_deployed, rotate) {
        (true, true) => match spec.otherwise {
            Otherwise::Made(by) => {
                let new = by.replace(given.map(|(value, _)| value))?;
                with(KeyState::Replaced, Some((new, Source::Made)))
            }
            _ if given.is_some() => with(KeyState::Replaced, found),
            _ => with(KeyState::Kept, None),
        },
        (true, false) => {
            let known = here.and_then(|secret| secret.fingerprints.get(spec.name));
            let state = match (given, known) {
                (None, _) => KeyState::Kept,
                (Some(_), None) => KeyState::Unknown,
                (Some((value, _)), Some(known)) if fingerprints.of(spec.name, value) == *known => {
                    KeyState::Same
                }
                (Some(_), Some(_)) => KeyState::Differs,
            };
            with(state, found)
        }
        (false, _) => match (found, spec.otherwise) {
            (Some(found), _) => with(KeyState::New, Some(found)),
            (None, Otherwise::LeftOut) => with(KeyState::Missing, None),
            (None, Otherwise::Text(text)) => {
                with(KeyState::New, Some((text.into(), Source::Default)))
            }
            (None, Otherwise::Made(by)) => with(KeyState::New, Some((by.make()?, Source::Made))),
        },
    })
}

fn action(spec: &SecretSpec, here: Option<&DeployedSecret>, keys: &[KeyPlan]) -> Action {
    let has = |states: &[KeyState]| keys.iter().any(|key| states.contains(&key.state));
    match here {
        None if spec.optional && !has(&[KeyState::New]) => Action::LeaveOut,
        None => Action::Make,
        Some(_) if has(&[KeyState::New, KeyState::Replaced]) => Action::Change,
        Some(_) if has(&[KeyState::Differs, KeyState::Unknown]) => Action::LeaveAlone,
        Some(_) => Action::Exists,
    }
}

fn nothing_to_rotate_to(secrets: &[SecretPlan], wishes: &Wishes) -> Vec<Problem> {
    let keys = secrets.iter().flat_map(|secret| &secret.keys);
    keys.filter(|key| wishes.rotate.contains(key.name))
        .filter(|key| matches!(key.state, KeyState::Kept | KeyState::Missing))
        .map(|key| Problem::NothingToRotateTo(key.name))
        .collect()
}

/// A provider counts with what is deployed and what will be.
fn provider_problems(secrets: &[SecretPlan], wishes: &Wishes) -> Vec<Problem> {
    let secret = secrets.iter().find(|secret| secret.name == PROVIDERS_SECRET);
    let keys = secret.map(|secret| secret.keys.as_slice()).unwrap_or_default();
    let is_there = |name: &&&'static str| {
        keys.iter().any(|key| key.name == **name && key.state != KeyState::Missing)
    };
    let mut problems = Vec::new();
    let mut complete = 0;
    for provider in PROVIDERS {
        let (present, missing): (Vec<&&'static str>, Vec<_>) =
            provider.keys.iter().partition(is_there);
        match (present.is_empty(), missing.is_empty()) {
            (false, true) => complete += 1,
            (false, false) => problems.push(Problem::HalfProvider {
                provider: provider.name,
                present: list(&present, " and "),
                missing: list(&missing, " and "),
            }),
            (true, _) => {}
        }
    }
    if complete == 0 && wishes.needs_provider && problems.is_empty() {
        let all: Vec<String> = PROVIDERS
            .iter()
            .map(|it| list(&it.keys.iter().collect::<Vec<_>>(), " with "))
            .collect();
        problems.push(Problem::NoProvider(all.join(", ")));
    }
    problems
}

fn list(names: &[&&'static str], between: &str) -> String {
    names.iter().map(|name| **name).collect::<Vec<_>>().join(between)
}

#[cfg(test)]
mod tests;
