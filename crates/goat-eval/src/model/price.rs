//! What tokens cost. A price comes from the one who starts the agent; none is guessed.

use std::{collections::BTreeMap, io, path::Path, str::FromStr};

use serde::Deserialize;

use super::Usage;

/// Tokens that a price is quoted for.
const MILLION: f64 = 1_000_000.0;

/// USD for a million tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    /// Of a prompt.
    pub input: f64,
    /// Of an answer.
    pub output: f64,
    /// Of the part of a prompt that came from a cache.
    pub cached: f64,
}

impl Price {
    /// USD for these tokens.
    pub fn of(&self, usage: Usage) -> f64 {
        let cached = usage.cached_tokens.min(usage.input_tokens);
        let fresh = usage.input_tokens - cached;
        (fresh as f64 * self.input
            + cached as f64 * self.cached
            + usage.output_tokens as f64 * self.output)
            / MILLION
    }
}

/// Text that is no price.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("not IN,OUT or IN,OUT,CACHED in USD for a million tokens")]
pub struct NotAPrice;

impl FromStr for Price {
    type Err = NotAPrice;

    fn from_str(text: &str) -> Result<Self, NotAPrice> {
        let numbers: Result<Vec<f64>, _> = text.split(',').map(|it| it.trim().parse()).collect();
        let numbers = numbers.map_err(|_| NotAPrice)?;
        if numbers.iter().any(|it| !it.is_finite() || *it < 0.0) {
            return Err(NotAPrice);
        }
        match numbers[..] {
            [input, output] => Ok(Price { input, output, cached: input }),
            [input, output, cached] => Ok(Price { input, output, cached }),
            _ => Err(NotAPrice),
        }
    }
}

/// What a file says about one model. The names are those of LiteLLM's price map and of its `/model/info`
/// (`model_prices_and_context_window.json`, read 2026-11); everything else in an entry is ignored.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
pub struct ModelInfo {
    input_cost_per_token: Option<f64>,
    output_cost_per_token: Option<f64>,
    cache_read_input_token_cost: Option<f64>,
    max_input_tokens: Option<f64>,
    max_output_tokens: Option<f64>,
}

impl ModelInfo {
    /// The entry of a model in a file, by the name that is sent, or by its last part.
    pub fn read(path: &Path, model: &str) -> io::Result<Option<Self>> {
        let text = std::fs::read(path)?;
        let entries: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&text)?;
        let last = model.rsplit('/').next().unwrap_or(model);
        let Some(entry) = [model, last].iter().find_map(|name| entries.get(*name)) else {
            return Ok(None);
        };
        Ok(Some(serde_json::from_value(entry.clone())?))
    }

    /// The price, if both of its parts are there.
    pub fn price(&self) -> Option<Price> {
        let input = self.input_cost_per_token? * MILLION;
        let output = self.output_cost_per_token? * MILLION;
        let cached = self.cache_read_input_token_cost.map_or(input, |cost| cost * MILLION);
        Some(Price { input, output, cached })
    }

    /// Tokens of the context window.
    pub fn context(&self) -> Option<u64> {
        self.max_input_tokens.filter(|it| *it >= 1.0).map(|it| it as u64)
    }

    /// Tokens of one answer at most.
    pub fn max_output(&self) -> Option<u64> {
        self.max_output_tokens.filter(|it| *it >= 1.0).map(|it| it as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cached_tokens_have_a_price_of_their_own() {
        let usage = Usage {
            input_tokens: 2_000_000,
            output_tokens: 1_000_000,
            cached_tokens: 1_000_000,
            estimated: false,
        };
        assert_eq!("1,8".parse::<Price>().unwrap().of(usage), 10.0);
        assert_eq!("1,8,0.5".parse::<Price>().unwrap().of(usage), 9.5);
        for bad in ["", "1", "1,2,3,4", "1,-2", "1,inf", "a,b"] {
            assert_eq!(bad.parse::<Price>(), Err(NotAPrice), "{bad}");
        }
    }

    #[test]
    fn files_have_the_form_of_litellm() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("prices.json");
        let entry = r#"{"gpt-x": {"input_cost_per_token": 5e-08, "output_cost_per_token": 4e-07,
            "cache_read_input_token_cost": 5e-09, "max_input_tokens": 272000, "mode": "chat"},
            "other": {"note": 1}}"#;
        std::fs::write(&path, entry).unwrap();
        let info = ModelInfo::read(&path, "azure/gpt-x").unwrap().unwrap();
        let price = info.price().unwrap();
        assert!((price.input - 0.05).abs() < 1e-12 && (price.cached - 0.005).abs() < 1e-12);
        assert_eq!((info.context(), info.max_output()), (Some(272_000), None));
        assert_eq!(ModelInfo::read(&path, "other").unwrap().unwrap().price(), None);
        assert_eq!(ModelInfo::read(&path, "gpt-y").unwrap(), None);
        std::fs::write(&path, "[]").unwrap();
        assert!(ModelInfo::read(&path, "gpt-x").is_err());
    }
}
