//! What an agent may use up besides turns and time.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// What the agent of each trial may use up besides turns and time, and what its model costs. The agent keeps to it and
/// counts by the model's own figures, so one answer may pass a limit; see `docs/agent.md`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Allowance {
    /// Tokens of all requests and answers together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    /// USD for all requests and answers together; needs a price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_cost_usd: Option<f64>,
    /// What the model's tokens cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
}

impl Allowance {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// USD for a million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Price {
    /// Of prompts.
    pub input: f64,
    /// Of answers.
    pub output: f64,
    /// Of the part of prompts that came from a cache; that of prompts where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached: Option<f64>,
}

/// Text that is no price.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not IN,OUT or IN,OUT,CACHED in USD for a million tokens")]
pub struct InvalidPrice(String);

impl FromStr for Price {
    type Err = InvalidPrice;

    fn from_str(text: &str) -> Result<Self, InvalidPrice> {
        let invalid = || InvalidPrice(text.to_owned());
        let number = |part: &str| part.trim().parse::<f64>().map_err(|_| invalid());
        let numbers = text.split(',').map(number).collect::<Result<Vec<_>, _>>()?;
        if numbers.iter().any(|number| !number.is_finite() || *number < 0.0) {
            return Err(invalid());
        }
        match numbers[..] {
            [input, output] => Ok(Self { input, output, cached: None }),
            [input, output, cached] => Ok(Self { input, output, cached: Some(cached) }),
            _ => Err(invalid()),
        }
    }
}

/// As it is parsed: `10,20` or `10,20,1`.
impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.input, self.output)?;
        self.cached.map_or(Ok(()), |cached| write!(f, ",{cached}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_read_as_it_is_written() {
        for text in ["10,20", "0.05,0.4,0.005"] {
            assert_eq!(text.parse::<Price>().unwrap().to_string(), text);
        }
        for bad in ["", "1", "1,2,3,4", "1,-2", "1,x", "1,inf", "1,NaN"] {
            assert!(bad.parse::<Price>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_allowance_is_stored_as_it_always_was() {
        let price = Some("0.05,0.4".parse().unwrap());
        let whole = Allowance { max_tokens: Some(9), max_cost_usd: Some(0.5), price };
        let stored = serde_json::to_string(&whole).unwrap();
        let wanted = r#"{"max_tokens":9,"max_cost_usd":0.5,"price":{"input":0.05,"output":0.4}}"#;
        assert_eq!(stored, wanted);
        assert_eq!(serde_json::from_str::<Allowance>(wanted).unwrap(), whole);
        assert!(serde_json::from_str::<Allowance>("{}").unwrap().is_empty());
    }
}
