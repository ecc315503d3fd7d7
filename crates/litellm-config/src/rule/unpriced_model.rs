//! Base_model is not in LiteLLM's price map, and the entry has no prices.
//!
//! The proxy starts and says nothing; every call of the model costs 0, also for budgets and in the traces.

use crate::{
    known::{self, nearest},
    lint::subject::{ENV, Model, Provider},
};
use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "unpriced-model",
    level: Level::Warning,
    summary: "base_model is not in LiteLLM's price map, and the entry has no prices",
    happens: "the proxy starts and says nothing; every call of the model costs 0, also for budgets and in the traces",
    mend: "name a base_model of the price map, or write input_cost_per_token and output_cost_per_token",
    check,
};

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    for model in &subject.models {
        let place = [
            ("model_info", model.info_of("base_model")),
            ("litellm_params", model.param("base_model")),
        ];
        let Some((block, node)) = place.into_iter().find_map(|(block, node)| Some((block, node?)))
        else {
            continue;
        };
        let Some(base) = node.text() else { continue };
        let keys = [
            "input_cost_per_token",
            "output_cost_per_token",
            "input_cost_per_second",
            "tiered_pricing",
            "input_cost_per_character",
            "output_cost_per_image",
        ];
        let has_price =
            keys.iter().any(|key| model.param(key).is_some() || model.info_of(key).is_some());
        if has_price || is_priced(base, model) || base.starts_with(ENV) {
            continue;
        }
        let finding = findings.at(
            node,
            model.path(&format!("{block}.base_model")),
            format!("LiteLLM has no price for `{base}`"),
        );
        if let Some(meant) = nearest(base, known::PRICED.all()) {
            finding.message += &format!("; is `{meant}` meant?");
        }
    }
}

fn is_priced(base: &str, model: &Model<'_>) -> bool {
    let with_provider = match model.provider() {
        Provider::Known(provider) => known::PRICED.has(&format!("{provider}/{base}")),
        _ => false,
    };
    let without = base.split_once('/').is_some_and(|(_, rest)| known::PRICED.has(rest));
    known::PRICED.has(base) || with_provider || without
}
