//! ${NAME} or $NAME, which LiteLLM does not replace.
//!
//! The proxy starts and says nothing; the text with its dollar sign is sent as the key or used as the address.

use crate::yaml::Node;
use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "literal-variable",
    level: Level::Error,
    summary: "${NAME} or $NAME, which LiteLLM does not replace",
    happens: "the proxy starts and says nothing; the text with its dollar sign is sent as the key or used as the address",
    mend: "write os.environ/NAME, alone in its value",
    check,
};

const KEYS: &[&str] = &[
    "api_key",
    "api_base",
    "base_url",
    "api_version",
    "model",
    "aws_access_key_id",
    "aws_secret_access_key",
    "vertex_credentials",
];

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    for model in &subject.models {
        for key in KEYS {
            if let Some(node) = model.param(key) {
                told(node, model.path(&format!("litellm_params.{key}")), findings);
            }
        }
    }
    for key in ["master_key", "database_url"] {
        if let Some(node) = subject.setting("general_settings", key) {
            told(node, format!("general_settings.{key}"), findings);
        }
    }
}

fn told(node: &Node, path: String, findings: &mut Findings) {
    let text = node.text().unwrap_or_default();
    let Some(name) = variable(text) else { return };
    let finding = findings.at(
        node,
        path,
        format!("the variable {name} is not put in: the text stays as it is"),
    );
    let is_whole = text == format!("${{{name}}}") || text == format!("${name}");
    if is_whole && node.alias.is_none() {
        finding.fix(node.place.range(), format!("os.environ/{name}"));
    }
}

/// `NAME` of `${NAME}`, wherever it stands, or of `$NAME`, where it looks like a variable's.
fn variable(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once('$')?;
    let in_braces = rest.strip_prefix('{');
    let rest = in_braces.unwrap_or(rest);
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    let name = &rest[..end];
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let looks_like_one = name.len() > 2 && !name.contains(|c: char| c.is_ascii_lowercase());
    (is_name && (in_braces.is_some() || looks_like_one)).then_some(name)
}
