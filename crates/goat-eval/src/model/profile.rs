//! What differs between models, by their names.

use crate::prompt::{BRIEF, SYSTEM, SystemPrompt};

/// How a model is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// The name that is sent.
    pub model: String,
    /// Sent where the model needs another than its own default.
    pub temperature: Option<f64>,
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
        let model = if model.starts_with("claude-") {
            format!("anthropic/{model}")
        } else {
            model.to_owned()
        };
        Profile {
            model,
            temperature: steady.then_some(0.3),
            says_tool_choice: steady,
            brief: small,
        }
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
    fn bare_claude_names_get_their_provider() {
        assert_eq!(Profile::of("claude-sonnet-4").model, "anthropic/claude-sonnet-4");
        assert_eq!(Profile::of("anthropic/claude-sonnet-4").model, "anthropic/claude-sonnet-4");
    }
}
