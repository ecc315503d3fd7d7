//! What LiteLLM knows: the names of its keys, providers, priced models.
//!
//! The files in `data/known/` are read out of the installed packages of both version sets by `tools/harvest.py`: the
//! signatures, the fields of its types, and every key that its source looks up in a block of the configuration. A
//! name that one of them knows counts as known.

use std::{collections::BTreeMap, sync::LazyLock};

use crate::version::{Sends, Version};

/// A list of names.
pub(crate) struct Known {
    /// Each with the one version set that knows it, where not all do.
    names: LazyLock<BTreeMap<&'static str, Option<&'static str>>>,
}

macro_rules! known {
    ($name:ident, $file:literal, $doc:literal) => {
        #[doc = $doc]
        pub(crate) static $name: Known = Known {
            names: LazyLock::new(|| names(include_str!(concat!("../data/known/", $file, ".txt")))),
        };
    };
}

known!(TOP, "top", "Blocks of the file.");
known!(LITELLM_SETTINGS, "litellm_settings", "Keys of `litellm_settings`.");
known!(GENERAL_SETTINGS, "general_settings", "Keys of `general_settings`.");
known!(ROUTER_SETTINGS, "router_settings", "Keys of `router_settings`.");
known!(RETRY_POLICY, "retry_policy", "Keys of a retry policy.");
known!(LITELLM_PARAMS, "litellm_params", "Keys of `litellm_params`, of every provider.");
known!(MODEL_INFO, "model_info", "Keys of `model_info`.");
known!(PROVIDERS, "providers", "Prefixes of models.");
known!(MODELS, "known_models", "Models that need no prefix.");
known!(OPENAI_MODELS, "openai_models", "Models of OpenAI.");
known!(PRICED, "priced", "Models whose price LiteLLM has.");
known!(CALLBACKS, "callbacks", "Names of callbacks.");
known!(STRATEGIES, "routing_strategies", "Routing strategies.");
known!(MODES, "modes", "Modes of a model.");

fn names(file: &'static str) -> BTreeMap<&'static str, Option<&'static str>> {
    let lines = file.lines().map(|line| match line.split_once('\t') {
        Some((name, set)) => (name, Some(set)),
        None => (line, None),
    });
    lines.collect()
}

impl Known {
    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// Whether the release knows it: what the set of its generation knows.
    pub(crate) fn has_in(&self, name: &str, litellm: Version) -> bool {
        let generation = match litellm.sends() {
            Sends::Ingestion => "langfuse-2",
            Sends::Otlp => "langfuse-3",
        };
        self.names.get(name).is_some_and(|only| only.is_none_or(|set| set == generation))
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &'static str> {
        self.names.keys().copied()
    }

    /// The known name that was probably meant: one or two letters away, and no other as near.
    pub(crate) fn meant(&self, name: &str) -> Option<&'static str> {
        nearest(name, self.all())
    }
}

/// The one name that is as near to `name` as a slip of the finger.
pub(crate) fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let longest = match name.chars().count() {
        0..4 => return None,
        4..6 => 1,
        6..12 => 2,
        _ => 3,
    };
    let lower = name.to_lowercase().replace('-', "_");
    let distance = |it: &str| strsim::damerau_levenshtein(&it.to_lowercase(), &lower);
    let mut near: Vec<_> =
        known.map(|it| (distance(it), it)).filter(|(far, _)| *far <= longest).collect();
    near.sort_unstable();
    match near.as_slice() {
        [(_, only)] => Some(only),
        [(first, best), (second, _), ..] if first < second => Some(best),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_understood_and_other_words_are_not() {
        assert_eq!(TOP.meant("litelm_settings"), Some("litellm_settings"));
        assert_eq!(LITELLM_PARAMS.meant("temprature"), Some("temperature"));
        assert_eq!(LITELLM_PARAMS.meant("api_bse"), Some("api_base"));
        assert_eq!(GENERAL_SETTINGS.meant("master-key"), Some("master_key"));
        assert_eq!(TOP.meant("x-defaults"), None);
        assert_eq!(
            LITELLM_PARAMS.meant("guided_json"),
            LITELLM_PARAMS.has("guided_json").then_some("guided_json")
        );
    }

    #[test]
    fn the_lists_hold_what_everybody_uses() {
        assert!(TOP.has("model_list") && TOP.has("include"));
        assert!(LITELLM_SETTINGS.has("drop_params") && LITELLM_SETTINGS.has("success_callback"));
        assert!(GENERAL_SETTINGS.has("disable_model_info_refresh"));
        assert!(
            ROUTER_SETTINGS.has("model_group_alias") && RETRY_POLICY.has("TimeoutErrorRetries")
        );
        assert!(PROVIDERS.has("hosted_vllm") && PRICED.has("azure/gpt-5-nano"));
        assert!(
            CALLBACKS.has("langfuse_otel") && STRATEGIES.has("least-busy") && MODES.has("chat")
        );
    }
}
