//! What a run may use up besides turns and time.

use super::{Ending, Tally};
use crate::model::price::Price;

/// Limits of a whole run. They are checked before each request, and an answer is asked to be short enough to stay
/// within them; only the server's own count afterwards can show that one was passed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Tokens of prompts and answers together.
    pub max_tokens: Option<u64>,
    /// USD.
    pub max_cost: Option<f64>,
    /// What tokens cost; needed for `max_cost`.
    pub price: Option<Price>,
}

impl Limits {
    /// Tokens that an answer to a prompt of about `prompt` tokens may have, or the limit that allows none.
    pub fn room(&self, tally: &Tally, prompt: u64) -> Result<u64, Ending> {
        let tokens = self.max_tokens.map_or(u64::MAX, |most| {
            most.saturating_sub(tally.usage.total()).saturating_sub(prompt)
        });
        if tokens == 0 {
            return Err(Ending::TokensUsedUp);
        }
        let money = self.affordable(tally, prompt).unwrap_or(u64::MAX);
        if money == 0 { Err(Ending::CostUsedUp) } else { Ok(tokens.min(money)) }
    }

    /// Tokens of an answer that the rest of the money pays for. That the prompt may be cheaper in part, from a
    /// cache, is not counted on.
    fn affordable(&self, tally: &Tally, prompt: u64) -> Option<u64> {
        let (most, price) = (self.max_cost?, self.price?);
        let left = most - price.of(tally.usage) - prompt as f64 * price.input / 1_000_000.0;
        if left <= 0.0 {
            return Some(0);
        }
        Some(if price.output > 0.0 { (left * 1_000_000.0 / price.output) as u64 } else { u64::MAX })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Usage;

    fn spent(input_tokens: u64, output_tokens: u64) -> Tally {
        let usage = Usage { input_tokens, output_tokens, ..Usage::default() };
        Tally { usage, ..Tally::default() }
    }

    #[test]
    fn tokens_count_with_the_prompt_that_is_about_to_be_sent() {
        let limits = Limits { max_tokens: Some(1_000), ..Limits::default() };
        assert_eq!(limits.room(&spent(0, 0), 300), Ok(700));
        assert_eq!(limits.room(&spent(400, 200), 300), Ok(100));
        assert_eq!(limits.room(&spent(400, 200), 400), Err(Ending::TokensUsedUp));
        assert_eq!(Limits::default().room(&spent(1, 1), 1), Ok(u64::MAX));
    }

    #[test]
    fn money_counts_at_the_price_of_each_kind() {
        let price = Some(Price { input: 1.0, output: 10.0, cached: 0.1 });
        let limits = Limits { max_cost: Some(0.01), price, max_tokens: None };
        assert_eq!(limits.room(&spent(0, 0), 0), Ok(1_000));
        assert_eq!(limits.room(&spent(1_000, 500), 1_000), Ok(300));
        assert_eq!(limits.room(&spent(9_000, 100), 1), Err(Ending::CostUsedUp));
    }
}
