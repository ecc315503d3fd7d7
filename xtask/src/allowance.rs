//! What commands let agents use up besides turns and time.

use std::path::PathBuf;

use eval_types::{Allowance, Price};

use crate::exit::UsageError;

/// Limits of each trial on the command line.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Limits of each trial")]
pub(crate) struct AllowanceArgs {
    /// Tokens of all requests and answers together
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_tokens: Option<u64>,
    /// Cost of all requests and answers together; needs a price
    #[arg(long, value_name = "USD", value_parser = sum)]
    pub(crate) max_cost: Option<f64>,
    /// What the model costs: USD for a million tokens of prompts, of answers, and of prompts from a cache
    #[arg(long, value_name = "IN,OUT[,CACHED]", conflicts_with = "prices")]
    pub(crate) price: Option<Price>,
    /// The same from a file: JSON by model, as LiteLLM writes it
    #[arg(long, value_name = "FILE")]
    pub(crate) prices: Option<PathBuf>,
}

fn sum(text: &str) -> Result<f64, String> {
    let number = text.strip_prefix('$').unwrap_or(text).parse().ok();
    let number = number.filter(|sum: &f64| sum.is_finite() && *sum > 0.0);
    number.ok_or_else(|| "a sum in USD above 0 is needed".to_owned())
}

impl AllowanceArgs {
    /// What they say of a model.
    pub(crate) fn read(&self, model: &str) -> anyhow::Result<Allowance> {
        let listed = match &self.prices {
            Some(path) => sandbox_runner::price::read(path, model)?,
            None => None,
        };
        let price = self.price.or(listed);
        if self.max_cost.is_some() && price.is_none() {
            let text = match &self.prices {
                Some(path) => format!("--max-cost: {} has no price of {model}", path.display()),
                None => {
                    "--max-cost needs what the model costs: give --price IN,OUT or --prices FILE"
                        .to_owned()
                }
            };
            return Err(UsageError(text).into());
        }
        Ok(Allowance { max_tokens: self.max_tokens, max_cost_usd: self.max_cost, price })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_in_money_needs_a_price_and_takes_it_from_either_place() {
        let directory = tempfile::tempdir().unwrap();
        let prices = directory.path().join("prices.json");
        std::fs::write(
            &prices,
            r#"{"m": {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}}"#,
        )
        .unwrap();
        let limited = AllowanceArgs { max_cost: Some(0.5), ..AllowanceArgs::default() };
        let said = limited.read("m").unwrap_err().to_string();
        assert!(said.starts_with("--max-cost needs"), "{said}");
        let listed = AllowanceArgs { prices: Some(prices), ..limited.clone() };
        assert_eq!(listed.read("m").unwrap().price, Some("1,2".parse().unwrap()));
        assert!(listed.read("other").unwrap_err().to_string().ends_with("has no price of other"));
        let said = AllowanceArgs { price: Some("3,4".parse().unwrap()), ..limited };
        assert_eq!(said.read("other").unwrap().price, Some("3,4".parse().unwrap()));
        for bad in ["", "0", "-1", "x", "inf"] {
            assert!(sum(bad).is_err(), "{bad}");
        }
        assert_eq!(sum("$0.5"), Ok(0.5));
    }
}
