//! The secrets and volumes of an environment.
//!
//! Source of names, defaults and shapes: the scripts of jack-phare/goat at dd706f5 (`modal_setup.py`), which
//! existing deployments were made by. What differs here: project keys of Langfuse are made anew for each
//! environment instead of being the same everywhere, `GOAT_TASK_SIGNING_KEY` is new, and any one complete
//! provider of models is enough.

use crate::generate::Generator;

/// A secret and what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecretSpec {
    /// Its name in the environment.
    pub name: &'static str,
    /// What it holds.
    pub keys: &'static [KeySpec],
    /// Whether there may be none of it: if nobody gives any of its values.
    pub optional: bool,
}

/// One variable of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySpec {
    /// Its name, in the secret, in the file and in the environment alike.
    pub name: &'static str,
    /// What it is when nobody gives it.
    pub otherwise: Otherwise,
}

/// What a variable is when nobody gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Otherwise {
    /// Left out: only somebody with an account can know it.
    LeftOut,
    /// This text.
    Text(&'static str),
    /// Made.
    Made(Generator),
}

/// A provider of models: usable only with all of its variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Provider {
    /// For messages.
    pub name: &'static str,
    /// Variables of the secret [`PROVIDERS_SECRET`].
    pub keys: &'static [&'static str],
}

/// The secret with the keys of providers.
pub const PROVIDERS_SECRET: &str = "goat-llm-providers";

/// Those that any one of is enough.
pub const PROVIDERS: &[Provider] = &[
    Provider { name: "Azure", keys: &["AZURE_API_KEY", "AZURE_API_BASE"] },
    Provider { name: "OpenAI", keys: &["OPENAI_API_KEY"] },
    Provider { name: "Anthropic", keys: &["ANTHROPIC_API_KEY"] },
    Provider { name: "Groq", keys: &["GROQ_API_KEY"] },
];

const fn given(name: &'static str) -> KeySpec {
    KeySpec { name, otherwise: Otherwise::LeftOut }
}

const fn text(name: &'static str, text: &'static str) -> KeySpec {
    KeySpec { name, otherwise: Otherwise::Text(text) }
}

const fn made(name: &'static str, by: Generator) -> KeySpec {
    KeySpec { name, otherwise: Otherwise::Made(by) }
}

/// All secrets of an environment.
pub const SECRETS: &[SecretSpec] = &[
    SecretSpec {
        name: PROVIDERS_SECRET,
        keys: &[
            given("AZURE_API_KEY"),
            given("AZURE_API_BASE"),
            given("GROQ_API_KEY"),
            given("OPENAI_API_KEY"),
            given("ANTHROPIC_API_KEY"),
        ],
        optional: true,
    },
    SecretSpec {
        name: "goat-litellm",
        keys: &[
            made("LITELLM_MASTER_KEY", Generator::LitellmKey),
            made("GOAT_TASK_SIGNING_KEY", Generator::TaskSigningKey),
        ],
        optional: false,
    },
    SecretSpec {
        name: "goat-langfuse",
        keys: &[
            made("LANGFUSE_NEXTAUTH_SECRET", Generator::Hex(32)),
            made("LANGFUSE_SALT", Generator::Hex(32)),
            text("LANGFUSE_INIT_ORG_ID", "goat"),
            text("LANGFUSE_INIT_ORG_NAME", "Goat"),
            text("LANGFUSE_INIT_PROJECT_ID", "goat-evals"),
            text("LANGFUSE_INIT_PROJECT_NAME", "Goat Evals"),
            made("LANGFUSE_INIT_PROJECT_PUBLIC_KEY", Generator::LangfusePublicKey),
            made("LANGFUSE_INIT_PROJECT_SECRET_KEY", Generator::LangfuseSecretKey),
            text("LANGFUSE_INIT_USER_EMAIL", "admin@goat.local"),
            text("LANGFUSE_INIT_USER_NAME", "Admin"),
            made("LANGFUSE_INIT_USER_PASSWORD", Generator::Hex(16)),
        ],
        optional: false,
    },
    SecretSpec {
        name: "goat-postgres",
        keys: &[
            text("POSTGRES_USER", "goat"),
            made("POSTGRES_PASSWORD", Generator::Hex(32)),
            text("POSTGRES_DB", "goat"),
        ],
        optional: false,
    },
    SecretSpec { name: "goat-hf-token", keys: &[given("HF_TOKEN")], optional: true },
];

/// All volumes of an environment; new ones are of version 2.
pub const VOLUMES: &[&str] = &[
    "goat-langfuse-pg",
    "goat-results",
    "goat-model-cache",
    "goat-vllm-cache",
    "goat-flashinfer-cache",
];

/// The Dict in which setup keeps its fingerprints.
pub const SETUP_DICT: &str = "goat-setup";

/// The variable by that name and its secret.
pub fn key(name: &str) -> Option<(&'static SecretSpec, &'static KeySpec)> {
    let of = |secret: &'static SecretSpec| {
        secret.keys.iter().find(|key| key.name == name).map(|key| (secret, key))
    };
    SECRETS.iter().find_map(of)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_name_is_twice_and_every_provider_s_key_is_in_the_secret() {
        let keys = || SECRETS.iter().flat_map(|secret| secret.keys);
        let names: BTreeSet<_> = keys().map(|key| key.name).collect();
        assert_eq!(names.len(), keys().count());
        for key in PROVIDERS.iter().flat_map(|provider| provider.keys) {
            assert_eq!(super::key(key).map(|(secret, _)| secret.name), Some(PROVIDERS_SECRET));
        }
    }
}
