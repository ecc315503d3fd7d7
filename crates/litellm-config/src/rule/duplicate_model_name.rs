//! Two entries of the same model_name serve different models.
//!
//! The proxy starts and spreads the requests over both at random, whether that is meant or not.

use crate::{
    lint::subject::{Model, Provider},
    yaml::Map,
};
use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "duplicate-model-name",
    level: Level::Warning,
    summary: "two entries of the same model_name serve different models",
    happens: "the proxy starts and spreads the requests over both at random, whether that is meant or not",
    mend: "give one of them another name; where it is meant, give both a weight, or write '# litellm-lint: allow duplicate-model-name' above",
    check,
};

/// Whoever writes one of these means several deployments.
const SIGNS: &[&str] = &[
    "weight",
    "rpm",
    "tpm",
    "order",
    "max_parallel_requests",
    "tags",
    "region_name",
    "max_budget",
];

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    let routed = [
        "routing_strategy",
        "enable_pre_call_checks",
        "model_group_retry_policy",
        "enable_tag_filtering",
        "cooldown_time",
    ]
    .iter()
    .any(|key| subject.setting("router_settings", key).is_some());
    for (index, model) in subject.models.iter().enumerate() {
        let Some(name) = model.name().filter(|name| !name.contains('*')) else { continue };
        let Some(first) = subject.models[..index].iter().find(|other| other.name() == Some(name))
        else {
            continue;
        };
        let node = model.node.as_map().and_then(|map| map.get("model_name")).unwrap_or(model.node);
        let path = model.path("model_name");
        if is_same(first, model) {
            findings.at(
                node,
                path,
                format!(
                    "`{name}` stands in line {} already, and is the same",
                    first.node.place.line
                ),
            );
        } else if !routed
            && !shows_intent(first)
            && !shows_intent(model)
            && !is_same_family(first, model)
        {
            let (one, other) = (first.model().unwrap_or("?"), model.model().unwrap_or("?"));
            findings.at(
                node,
                path,
                format!("`{name}` is `{one}` in line {} and `{other}` here", first.node.place.line),
            );
        }
    }
}

fn is_same(one: &Model<'_>, other: &Model<'_>) -> bool {
    let told = |model: &Model<'_>| {
        let mut params: Vec<_> = model
            .params
            .map(Map::strings)
            .unwrap_or_default()
            .into_iter()
            .map(|(key, _, value)| (key.to_owned(), value.text().map(str::to_owned)))
            .collect();
        params.sort();
        params
    };
    told(one) == told(other)
}

fn shows_intent(model: &Model<'_>) -> bool {
    SIGNS.iter().any(|key| model.param(key).is_some())
        || ["id", "access_groups", "team_id", "tier"].iter().any(|key| model.info_of(key).is_some())
}

/// The same model in two places: another address, another key, another provider of it. Azure's and Bedrock's names are
/// those of deployments and say nothing.
fn is_same_family(one: &Model<'_>, other: &Model<'_>) -> bool {
    let last = |model: &Model<'_>| {
        model.bare_model().map(|it| it.rsplit('/').next().unwrap_or(it).to_ascii_lowercase())
    };
    let deployed = |model: &Model<'_>| {
        matches!(
            model.provider(),
            Provider::Known("azure" | "bedrock" | "sagemaker" | "azure_ai" | "vertex_ai")
        )
    };
    last(one) == last(other)
        || deployed(one)
        || deployed(other)
        || (one.has_base() && other.has_base() && one.base() != other.base())
}
