//! A name, a version or a key that YAML 1.1 does not read as a string.
//!
//! A bare number as model_name ends the proxy (exit code 3, TypeError); a bare date as api_version or a number as
//! api_key drops the model, with one ERROR in the log, and every request for it gets 400.

use crate::yaml::{Node, Resolved};
use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "not-a-string",
    level: Level::Error,
    summary: "a name, a version or a key that YAML 1.1 does not read as a string",
    happens: "a bare number as model_name ends the proxy (exit code 3, TypeError); a bare date as api_version or a number as api_key drops the model, with one ERROR in the log, and every request for it gets 400",
    mend: "put it in quotes",
    check,
};

/// What has to be a string.
const PARAMS: &[&str] = &[
    "model",
    "api_base",
    "base_url",
    "api_key",
    "api_version",
    "custom_llm_provider",
    "organization",
];
const INFO: &[&str] = &["base_model", "mode", "id"];

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    for model in &subject.models {
        let name = model.node.as_map().and_then(|map| map.get("model_name"));
        let name = name.map(|node| ("model_name".to_owned(), node));
        let params = PARAMS
            .iter()
            .filter_map(|key| Some((format!("litellm_params.{key}"), model.param(key)?)));
        let info =
            INFO.iter().filter_map(|key| Some((format!("model_info.{key}"), model.info_of(key)?)));
        for (key, node) in name.into_iter().chain(params).chain(info) {
            told(node, &model.path(&key), findings);
        }
    }
    for key in ["master_key", "database_url", "custom_auth"] {
        if let Some(node) = subject.setting("general_settings", key) {
            told(node, &format!("general_settings.{key}"), findings);
        }
    }
}

fn told(node: &Node, path: &str, findings: &mut Findings) {
    let what = match node.resolve() {
        Some(Resolved::Bool(_)) => "a switch",
        Some(Resolved::Int(_) | Resolved::Float(_)) => "a number",
        Some(Resolved::Timestamp) => "a date",
        Some(Resolved::Refused) => "a date or a number that does not exist",
        _ => return,
    };
    let text = node.text().unwrap_or_default();
    // A key is not repeated, even one that is only digits.
    let shown = if path.ends_with("key") { "it".to_owned() } else { format!("`{text}`") };
    let finding = findings.at(node, path, format!("{shown} is read as {what}, not as a string"));
    if node.alias.is_none() && node.tag.is_none() {
        finding.fix(node.place.range(), format!("\"{text}\""));
    }
}
