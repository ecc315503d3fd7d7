//! How much models take: a small table by name. Flags and files overrule it, and an error that tells the truth
//! does so for the rest of a run (`dialect`).
//!
//! Source: the price map packaged in LiteLLM 1.102.4 (`max_input_tokens`, `max_output_tokens`), read 2026-11-26; for
//! models served by ourselves (`…-local`) the `--max-model-len` that Goat's deployments are started with.

/// Tokens that a model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Of prompt and answer together.
    pub context: u64,
    /// Of one answer at most.
    pub max_output: u64,
}

/// What is assumed of a model that nobody described. Too much is corrected by the first refusal, too little never.
pub const UNKNOWN: Sizes = sizes(128_000, 16_384);

/// Part of a name, in order of precedence.
const TABLE: [(&str, Sizes); 27] = [
    ("gpt-oss-20b-local", sizes(32_768, 16_384)),
    ("gpt-oss-120b-local", sizes(32_768, 16_384)),
    ("-local", sizes(8_192, 4_096)),
    ("gpt-oss", sizes(131_072, 65_536)),
    ("gpt-5", sizes(272_000, 128_000)),
    ("gpt-4.1", sizes(1_047_576, 32_768)),
    ("gpt-4o", sizes(128_000, 16_384)),
    ("gpt-4-turbo", sizes(128_000, 4_096)),
    ("gpt-4", sizes(8_192, 4_096)),
    ("gpt-3.5-turbo", sizes(16_385, 4_096)),
    ("o4-mini", sizes(200_000, 100_000)),
    ("o3", sizes(200_000, 100_000)),
    ("o1", sizes(200_000, 100_000)),
    ("claude-3-haiku", sizes(200_000, 4_096)),
    ("claude-3-5", sizes(200_000, 8_192)),
    ("claude-opus-4-1", sizes(200_000, 32_000)),
    ("claude-opus-4-2", sizes(200_000, 32_000)),
    ("claude", sizes(200_000, 64_000)),
    ("llama-4-scout", sizes(131_072, 8_192)),
    ("llama-4", sizes(131_072, 8_192)),
    ("llama-3", sizes(131_072, 32_768)),
    ("mixtral", sizes(32_768, 8_192)),
    ("qwen3", sizes(131_000, 32_768)),
    ("qwen", sizes(32_768, 8_192)),
    ("deepseek", sizes(131_072, 8_192)),
    ("gemini", sizes(1_048_576, 65_535)),
    ("mistral", sizes(131_072, 16_384)),
];

const fn sizes(context: u64, max_output: u64) -> Sizes {
    Sizes { context, max_output }
}

/// The sizes of a model, by its name.
pub fn of(model: &str) -> Sizes {
    let name = model.to_ascii_lowercase();
    let last = name.rsplit('/').next().unwrap_or(&name);
    // Names as short as `o1` count only at the beginning, or they would be found anywhere.
    let fits =
        |part: &str| if part.len() < 4 { last.starts_with(part) } else { name.contains(part) };
    TABLE.iter().find(|(part, _)| fits(part)).map_or(UNKNOWN, |(_, sizes)| *sizes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_description_wins() {
        assert_eq!(of("qwen3-4b-local").context, 8_192);
        assert_eq!(of("gpt-oss-20b-local").context, 32_768);
        assert_eq!(of("groq/openai/gpt-oss-20b").context, 131_072);
        assert_eq!(of("azure/gpt-4o-mini").max_output, 16_384);
        assert_eq!(of("openai/o3").context, 200_000);
        assert_eq!(of("foo1/model"), UNKNOWN);
    }

    #[test]
    fn every_row_can_be_reached() {
        for (part, sizes) in TABLE {
            assert_eq!(of(part), sizes, "{part} is hidden by a row above it");
        }
    }
}
