//! What an agent says of itself in its summary: read with suspicion, never needed.

use eval_types::TokenUsage;
use serde_json::Value;

/// Claims of an agent about its work.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Claims {
    pub(crate) turns: Option<u32>,
    pub(crate) usage: Option<TokenUsage>,
    /// USD.
    pub(crate) cost_usd: Option<f64>,
    /// Why it stopped, where it says so.
    pub(crate) error: Option<String>,
}

/// Longest text taken from a claim.
const LONGEST: usize = 500;

impl Claims {
    /// Takes what is understood of a summary; anything else is as if it were not there.
    pub(crate) fn parse(summary: &[u8]) -> Self {
        let Ok(summary) = serde_json::from_slice::<Value>(summary) else { return Self::default() };
        let turns = number(&summary, &["turns"]).and_then(|turns| u32::try_from(turns).ok());
        let usage = usage(summary.get("usage").unwrap_or(&summary));
        let error = summary.get("error").and_then(Value::as_str);
        let error = error.map(|error| error.chars().take(LONGEST).collect());
        let cost = summary.get("cost_usd").and_then(Value::as_f64);
        let cost_usd = cost.filter(|cost| cost.is_finite() && *cost >= 0.0);
        Self { turns, usage, cost_usd, error }
    }
}

/// Tokens, under the names of `goat-eval` or of OpenAI's API; none where neither is there.
fn usage(value: &Value) -> Option<TokenUsage> {
    let input = number(value, &["input_tokens", "prompt_tokens"]);
    let output = number(value, &["output_tokens", "completion_tokens"]);
    let cached = number(value, &["cached_tokens"]).unwrap_or_default();
    input.or(output)?;
    let (input, output) = (input.unwrap_or_default(), output.unwrap_or_default());
    Some(TokenUsage { input, cached, output })
}

fn number(value: &Value, names: &[&str]) -> Option<u64> {
    names.iter().find_map(|name| value.get(name)?.as_u64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_understood_and_nonsense_is_not_believed() {
        let claims = Claims::parse(
            br#"{"turns": 3, "usage": {"prompt_tokens": 10, "completion_tokens": 4}, "error": "x"}"#,
        );
        assert_eq!(claims.turns, Some(3));
        assert_eq!(claims.usage, Some(TokenUsage { input: 10, cached: 0, output: 4 }));
        let flat =
            Claims::parse(br#"{"turns": 1, "input_tokens": 5, "output_tokens": 6, "error": null}"#);
        assert_eq!(flat.usage, Some(TokenUsage { input: 5, cached: 0, output: 6 }));
        assert_eq!(Claims::parse(b"\xff{"), Claims::default());
        assert_eq!(Claims::parse(br#"{"turns": -1, "usage": 7}"#).turns, None);
        assert_eq!(Claims::parse(br#"{"cost_usd": 0.25}"#).cost_usd, Some(0.25));
        assert_eq!(Claims::parse(br#"{"cost_usd": -1}"#).cost_usd, None);
    }
}
