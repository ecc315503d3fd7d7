//! The model catalogue: which models there are, who serves them, what they cost.
//!
//! It is a data file that users edit (`models.toml` of this crate, or one of their own) and the only source of model
//! names. The keys are described at the file's beginning.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a token costs, in US dollars for a million of them: as providers say it.
pub const TOKENS_OF_A_PRICE: f64 = 1e6;

/// The catalogue.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    /// Who serves models, by name.
    #[serde(rename = "provider")]
    pub providers: BTreeMap<String, Provider>,
    /// The models, in the order of the file.
    #[serde(rename = "model", default)]
    pub models: Vec<Model>,
}

/// Who serves models.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// LiteLLM's prefix.
    pub prefix: String,
    /// The variable with its key.
    pub key: String,
    /// The variable with its address, where there is not one address for everybody.
    pub base: Option<String>,
    /// The version of its API, where it wants one.
    pub api_version: Option<String>,
}

impl Provider {
    /// The variables without which it is not complete.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.key.as_str()).chain(self.base.as_deref())
    }
}

/// A model.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// What callers ask the proxy for.
    pub name: String,
    /// For people.
    #[serde(default)]
    pub summary: String,
    /// `chat` where nothing is said.
    #[serde(default = "chat")]
    pub mode: String,
    /// Tokens of a request.
    pub context: u64,
    /// Tokens of an answer.
    pub max_output: Option<u64>,
    /// Whether it calls tools.
    pub tools: bool,
    /// Who serves it, the best first.
    pub via: Vec<Via>,
}

fn chat() -> String {
    "chat".to_owned()
}

/// One way to a model.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Via {
    /// The provider's name in the catalogue.
    pub provider: String,
    /// What the provider calls it; on Azure the deployment's name.
    pub model: String,
    /// Its name in LiteLLM's price map, where that is not plain from provider and model.
    pub base_model: Option<String>,
    /// US dollars for a million tokens of a request.
    pub input: f64,
    /// US dollars for a million tokens of an answer.
    pub output: f64,
    /// US dollars for a million tokens that the provider had in its cache.
    pub cached_input: Option<f64>,
}

/// Why a catalogue cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogueError {
    /// It is no TOML, or a key is missing, unknown or of another type.
    #[error("the model catalogue is not as it should be")]
    Format(#[from] toml::de::Error),
    /// Two models of one name: callers could not say which.
    #[error("the model catalogue has two models `{0}`")]
    Twice(String),
    /// A provider that is not described.
    #[error(
        "model `{model}` of the catalogue names the provider `{provider}`, which it does not describe"
    )]
    UnknownProvider {
        /// The model.
        model: String,
        /// The provider.
        provider: String,
    },
    /// Nobody serves it.
    #[error("model `{0}` of the catalogue has no `via`")]
    NoWay(String),
    /// Less than nothing, or no number.
    #[error("model `{0}` of the catalogue has a price below 0")]
    Price(String),
}

/// A model of the catalogue with the way that was chosen.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'c> {
    /// The model.
    pub model: &'c Model,
    /// The way.
    pub via: &'c Via,
    /// Who serves it.
    pub provider: &'c Provider,
}

impl Catalogue {
    /// The catalogue of this workspace.
    ///
    /// # Errors
    ///
    /// None that a test of this crate would not have found.
    pub fn builtin() -> Result<Self, CatalogueError> {
        Self::parse(include_str!("../models.toml"))
    }

    /// Reads a catalogue.
    ///
    /// # Errors
    ///
    /// It is no TOML of this form, or names something twice or not at all.
    pub fn parse(text: &str) -> Result<Self, CatalogueError> {
        let catalogue: Self = toml::from_str(text)?;
        for (index, model) in catalogue.models.iter().enumerate() {
            catalogue.check(index, model)?;
        }
        Ok(catalogue)
    }

    fn check(&self, index: usize, model: &Model) -> Result<(), CatalogueError> {
        let name = || model.name.clone();
        if self.models[..index].iter().any(|other| other.name == model.name) {
            return Err(CatalogueError::Twice(name()));
        }
        if model.via.is_empty() {
            return Err(CatalogueError::NoWay(name()));
        }
        for via in &model.via {
            if !self.providers.contains_key(&via.provider) {
                let provider = via.provider.clone();
                return Err(CatalogueError::UnknownProvider { model: name(), provider });
            }
            let prices = [Some(via.input), Some(via.output), via.cached_input];
            if prices.into_iter().flatten().any(|price| price.is_nan() || price < 0.0) {
                return Err(CatalogueError::Price(name()));
            }
        }
        Ok(())
    }

    /// The models that can be served where these variables are set, each by its best way.
    pub fn offers(&self, is_set: impl Fn(&str) -> bool) -> Vec<Offer<'_>> {
        let complete = |provider: &Provider| provider.variables().all(&is_set);
        let offers = self.models.iter().filter_map(|model| {
            model.via.iter().find_map(|via| {
                let provider = self.providers.get(&via.provider)?;
                complete(provider).then_some(Offer { model, via, provider })
            })
        });
        offers.collect()
    }

    /// A model by its name.
    pub fn model(&self, name: &str) -> Option<&Model> {
        self.models.iter().find(|model| model.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::known;

    #[test]
    fn the_catalogue_holds_the_names_that_everything_uses() {
        let catalogue = Catalogue::builtin().unwrap();
        for name in
            ["gpt-5-nano", "gpt-5-mini", "gpt-4o-mini", "llama-3.3-70b", "text-embedding-3-small"]
        {
            assert!(catalogue.model(name).is_some(), "{name}");
        }
    }

    #[test]
    fn every_base_model_is_one_and_every_provider_is_litellm_s() {
        let catalogue = Catalogue::builtin().unwrap();
        for via in catalogue.models.iter().flat_map(|model| &model.via) {
            let base = via.base_model.as_deref();
            assert!(base.is_none_or(|base| known::PRICED.has(base)), "{via:?}");
        }
        for provider in catalogue.providers.values() {
            assert!(known::PROVIDERS.has(&provider.prefix), "{provider:?}");
        }
    }

    #[test]
    fn a_model_comes_by_its_first_complete_provider_or_not_at_all() {
        let catalogue = Catalogue::builtin().unwrap();
        let told = |set: &[&str]| -> Vec<String> {
            let offers = catalogue.offers(|name| set.contains(&name));
            offers.iter().map(|it| format!("{} by {}", it.model.name, it.via.provider)).collect()
        };
        assert!(told(&[]).is_empty());
        assert!(told(&["AZURE_API_KEY"]).is_empty(), "a key without an address is not complete");
        assert_eq!(told(&["AZURE_API_KEY", "AZURE_API_BASE"])[0], "gpt-5-nano by azure");
        let both = told(&["OPENAI_API_KEY", "AZURE_API_KEY", "AZURE_API_BASE"]);
        assert!(
            both.contains(&"gpt-5-nano by azure".to_owned())
                && both.contains(&"gpt-4o by openai".to_owned())
        );
    }

    #[test]
    fn mistakes_are_told() {
        let error = |text: &str| Catalogue::parse(text).unwrap_err();
        let provider = "[provider.p]\nprefix = \"openai\"\nkey = \"K\"\n";
        let model = |via: &str| {
            format!("{provider}[[model]]\nname = \"m\"\ncontext = 1\ntools = true\nvia = [{via}]\n")
        };
        let good = model("{ provider = \"p\", model = \"x\", input = 1.0, output = 1.0 }");
        assert!(Catalogue::parse(&good).is_ok());
        let twice = format!("{good}{}", good.replace(provider, ""));
        assert!(matches!(error(&twice), CatalogueError::Twice(_)));
        assert!(matches!(error(&model("")), CatalogueError::NoWay(_)));
        assert!(matches!(
            error(&good.replace("provider = \"p\"", "provider = \"q\"")),
            CatalogueError::UnknownProvider { .. }
        ));
        assert!(matches!(
            error(&good.replace("input = 1.0", "input = -1.0")),
            CatalogueError::Price(_)
        ));
        assert!(matches!(error(&good.replace("context", "contxt")), CatalogueError::Format(_)));
    }
}
