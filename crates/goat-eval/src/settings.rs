//! What a run needs to know, from flags and environment together.

use std::path::PathBuf;

use crate::{
    cli::Arguments,
    error::{Error, Result},
    hardening::Environment,
    model::{
        price::{ModelInfo, Price},
        profile::Profile,
    },
    secret::Secret,
};

/// Where the model is, unless `OPENAI_BASE_URL` says otherwise.
pub const DEFAULT_BASE_URL: &str = "http://localhost:13131/v1";
/// The key that is sent, unless `OPENAI_API_KEY` says otherwise.
pub const DEFAULT_API_KEY: &str = "inspect";
/// The model that is asked, unless `--model` or `EVAL_MODEL` says otherwise.
pub const DEFAULT_MODEL: &str = "inspect";

/// The model endpoint.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The address that ends before `/chat/completions`.
    pub base_url: String,
    /// Sent as bearer token.
    pub api_key: Secret,
    /// The model's name as the user gave it.
    pub model: String,
}

impl Endpoint {
    /// Flags before environment before defaults.
    pub fn new(arguments: &Arguments, environment: &Environment) -> Self {
        let base_url =
            environment.get("OPENAI_BASE_URL").unwrap_or_else(|| DEFAULT_BASE_URL.into());
        let api_key =
            environment.secret("OPENAI_API_KEY").unwrap_or_else(|| Secret::new(DEFAULT_API_KEY));
        let named = arguments.model.clone().filter(|model| !model.is_empty());
        let model =
            named.or_else(|| environment.get("EVAL_MODEL")).unwrap_or_else(|| DEFAULT_MODEL.into());
        Endpoint { base_url: base_of(&base_url), api_key, model }
    }
}

/// The model's profile and its price: flags before files before tables.
pub fn model(
    name: &str,
    arguments: &Arguments,
    environment: &Environment,
) -> Result<(Profile, Option<Price>)> {
    let profile = Profile::of(name);
    let file = arguments.prices.clone().or(environment.get("EVAL_PRICES").map(PathBuf::from));
    let info = match file {
        Some(path) => ModelInfo::read(&path, &profile.model)
            .map_err(|source| Error::Prices { path, source })?,
        None => None,
    };
    let said = environment.get("EVAL_PRICE").and_then(|price| price.parse().ok());
    let price = arguments.price.or(said).or(info.and_then(|info| info.price()));
    let profile = profile.with(info, arguments.overrides);
    if arguments.max_cost.is_some() && price.is_none() {
        return Err(Error::NoPrice { model: profile.model });
    }
    Ok((profile, price))
}

/// The part of an address that every request shares; people paste the whole one too.
fn base_of(url: &str) -> String {
    let url = url.trim().trim_end_matches('/');
    url.strip_suffix("/chat/completions").unwrap_or(url).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_the_contract() {
        let endpoint = Endpoint::new(&Arguments::default(), &Environment::default());
        assert_eq!(endpoint.base_url, "http://localhost:13131/v1");
        assert_eq!((endpoint.api_key.expose(), endpoint.model.as_str()), ("inspect", "inspect"));
    }

    #[test]
    fn a_flag_wins_over_the_environment() {
        let environment = Environment {
            public: vec![
                ("EVAL_MODEL".into(), "a".into()),
                ("OPENAI_BASE_URL".into(), "http://h/v1/chat/completions/".into()),
            ],
            secrets: vec![],
        };
        let arguments = Arguments { model: Some("b".into()), ..Arguments::default() };
        let endpoint = Endpoint::new(&arguments, &environment);
        assert_eq!((endpoint.model.as_str(), endpoint.base_url.as_str()), ("b", "http://h/v1"));
    }
}
