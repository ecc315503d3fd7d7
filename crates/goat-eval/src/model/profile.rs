//! What differs between models, by their names.

use super::{price::ModelInfo, request::MAX_TOKENS, sizes};
use crate::prompt::{BRIEF, SYSTEM, SystemPrompt};

/// What the command line says about a model; it wins over every table.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Overrides {
    /// Temperature; the inner nothing means that none is sent.
    pub temperature: Option<Option<f64>>,
    /// Nucleus sampling; the inner nothing means that none is sent.
    pub top_p: Option<Option<f64>>,
    /// Tokens of the context window.
    pub context: Option<u64>,
    /// Tokens of one answer at most.
    pub max_output: Option<u64>,
}

/// How a model is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// The name that is sent.
    pub model: String,
    /// Sent where the model needs another than its own default.
    pub temperature: Option<f64>,
    /// Sent where it is asked for.
    pub top_p: Option<f64>,
    /// Tokens of the context window.
    pub context: u64,
    /// Tokens of one answer at most.
    pub max_output: u64,
    /// Whether `tool_choice: auto` has to be said.
    pub says_tool_choice: bool,
    /// Whether instructions and descriptions of tools have to be short.
    pub brief: bool,
}

impl Profile {
    /// The profile of a model, by its name as the user gave it.
    ///
    /// Models served by ourselves (`…-local`), by Groq, and the Llama and Mixtral families call tools reliably only
    /// at a low temperature with the choice spelled out; the latter two kinds lose the thread in long instructions.
    /// A bare `claude-…` gets the provider that LiteLLM routes it by. (Rules of the earlier agent.)
    pub fn of(model: &str) -> Self {
        let small =
            model.starts_with("groq/") || model.contains("llama") || model.contains("mixtral");
        let steady = small || model.ends_with("-local");
        let sizes = sizes::of(model);
        let model = if model.starts_with("claude-") {
            format!("anthropic/{model}")
        } else {
            model.to_owned()
        };
        Profile {
            model,
            temperature: steady.then_some(0.3),
            top_p: None,
            context: sizes.context,
            max_output: sizes.max_output.min(MAX_TOKENS),
            says_tool_choice: steady,
            brief: small,
        }
    }

    /// The profile with what a file and the command line say, the latter last.
    #[must_use]
    pub fn with(mut self, info: Option<ModelInfo>, overrides: Overrides) -> Self {
        if let Some(info) = info {
            self.context = info.context().unwrap_or(self.context);
            self.max_output = info.max_output().map_or(self.max_output, |it| it.min(MAX_TOKENS));
        }
        self.temperature = overrides.temperature.unwrap_or(self.temperature);
        self.top_p = overrides.top_p.unwrap_or(self.top_p);
        self.context = overrides.context.unwrap_or(self.context);
        self.max_output = overrides.max_output.unwrap_or(self.max_output);
        self
    }

    /// The instructions for this model.
    pub fn system_prompt(&self) -> SystemPrompt {
        if self.brief { BRIEF } else { SYSTEM }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_decide() {
        let plain = Profile::of("gpt-5-nano");
        assert_eq!((plain.temperature, plain.says_tool_choice, plain.brief), (None, false, false));
        let local = Profile::of("qwen3-4b-local");
        assert_eq!(
            (local.temperature, local.says_tool_choice, local.brief),
            (Some(0.3), true, false)
        );
        for name in
            ["groq/openai/gpt-oss-20b", "llama-3.3-70b", "mixtral-8x7b", "llama-3.1-8b-local"]
        {
            let small = Profile::of(name);
            assert_eq!(
                (small.temperature, small.says_tool_choice, small.brief),
                (Some(0.3), true, true),
                "{name}"
            );
        }
    }

    #[test]
    fn flags_win_over_the_tables() {
        let overrides = Overrides {
            temperature: Some(None),
            top_p: Some(Some(0.9)),
            context: Some(4_000),
            max_output: Some(20_000),
        };
        let profile = Profile::of("llama-3.3-70b").with(None, overrides);
        assert_eq!((profile.temperature, profile.top_p), (None, Some(0.9)));
        assert_eq!((profile.context, profile.max_output), (4_000, 20_000));
    }

    #[test]
    fn no_answer_is_asked_to_be_longer_than_the_model_can() {
        assert_eq!(Profile::of("gpt-5-nano").max_output, 16_384);
        assert_eq!(Profile::of("qwen3-4b-local").max_output, 4_096);
        assert_eq!(Profile::of("claude-3-haiku-20240307").max_output, 4_096);
    }

    #[test]
    fn bare_claude_names_get_their_provider() {
        assert_eq!(Profile::of("claude-sonnet-4").model, "anthropic/claude-sonnet-4");
        assert_eq!(Profile::of("anthropic/claude-sonnet-4").model, "anthropic/claude-sonnet-4");
    }
}
