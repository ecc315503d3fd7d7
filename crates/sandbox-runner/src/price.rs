//! Files of prices, as LiteLLM writes them.

use std::{collections::BTreeMap, path::Path};

use eval_types::Price;
use serde::Deserialize;

use crate::{Error, Result};

/// The names of LiteLLM's price map (`model_prices_and_context_window.json`) and of its `/model/info`, read 2026-11.
#[derive(Deserialize)]
struct Entry {
    input_cost_per_token: Option<f64>,
    output_cost_per_token: Option<f64>,
    cache_read_input_token_cost: Option<f64>,
}

/// What a file says that a model costs, by the whole of its name or by its last part; none where it does not say.
pub fn read(path: &Path, model: &str) -> Result<Option<Price>> {
    let bytes =
        std::fs::read(path).map_err(|source| Error::ReadFile { path: path.to_owned(), source })?;
    let wrong = |source| Error::NotPrices { path: path.to_owned(), source };
    let entries: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(&bytes).map_err(wrong)?;
    let last = model.rsplit('/').next().unwrap_or(model);
    let Some(entry) = [model, last].iter().find_map(|name| entries.get(*name)) else {
        return Ok(None);
    };
    let entry = Entry::deserialize(entry).map_err(wrong)?;
    let million = |cost: f64| cost * 1_000_000.0;
    let both = entry.input_cost_per_token.zip(entry.output_cost_per_token);
    Ok(both.map(|(input, output)| Price {
        input: million(input),
        output: million(output),
        cached: entry.cache_read_input_token_cost.map(million),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_found_by_its_name_or_the_last_part_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("prices.json");
        let text = r#"{"gpt-5-nano": {"input_cost_per_token": 5e-8, "output_cost_per_token": 4e-7,
                       "mode": "chat"}, "half": {"input_cost_per_token": 1}, "odd": {"input_cost_per_token": "x"}}"#;
        std::fs::write(&path, text).unwrap();
        let price = read(&path, "azure/gpt-5-nano").unwrap().unwrap();
        assert!((price.input - 0.05).abs() < 1e-9 && (price.output - 0.4).abs() < 1e-9);
        assert_eq!((read(&path, "half").unwrap(), read(&path, "none").unwrap()), (None, None));
        assert!(matches!(read(&path, "odd"), Err(Error::NotPrices { .. })));
        assert!(matches!(read(&directory.path().join("no"), "x"), Err(Error::ReadFile { .. })));
    }
}
