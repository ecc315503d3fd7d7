//! A secret stands in the file itself.
//!
//! It works, and whoever reads the file, its history or an image has the key.

use crate::{
    lint::subject::ENV,
    yaml::{Map, Node},
};
use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "literal-key",
    level: Level::Warning,
    summary: "a secret stands in the file itself",
    happens: "it works, and whoever reads the file, its history or an image has the key",
    mend: "put it into the environment and write os.environ/NAME",
    check,
};

const PARAMS: &[&str] = &[
    "api_key",
    "aws_secret_access_key",
    "aws_session_token",
    "azure_ad_token",
    "client_secret",
    "azure_password",
];

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    for model in &subject.models {
        for key in PARAMS {
            if let Some(node) = model.param(key) {
                told(node, model.path(&format!("litellm_params.{key}")), findings);
            }
        }
    }
    if let Some(node) = subject.setting("general_settings", "master_key") {
        told(node, "general_settings.master_key".to_owned(), findings);
    }
    let variables = subject.block("environment_variables").map(Map::strings).unwrap_or_default();
    for (name, _, node) in variables {
        if name.ends_with("KEY")
            || name.ends_with("SECRET")
            || name.ends_with("TOKEN")
            || name.ends_with("PASSWORD")
        {
            told(node, format!("environment_variables.{name}"), findings);
        }
    }
}

fn told(node: &Node, path: String, findings: &mut Findings) {
    let text = node.text().unwrap_or_default();
    if node.as_str().is_some() && looks_secret(text) {
        let count = text.chars().count();
        // One that a provider gave out is worth money; others may open nothing but this proxy.
        let is_bought = PREFIXES.iter().any(|prefix| text.starts_with(prefix));
        let level = if is_bought { Level::Warning } else { Level::Note };
        let message = format!("a key of {count} characters stands in the file (not shown)");
        findings.at(node, path, message).level(level);
    }
}

/// Prefixes of real keys.
const PREFIXES: &[&str] = &[
    "sk-proj-", "sk-ant-", "sk-or-", "gsk_", "AIza", "AKIA", "hf_", "xai-", "pplx-", "r8_",
    "nvapi-", "sk-lf-", "ghp_", "ya29.",
];

/// Whether it may be a real key: `dummy`, `sk-1234`, `not-needed` and `your-api-key-here` are not.
fn looks_secret(text: &str) -> bool {
    let length = text.chars().count();
    if text.starts_with(ENV) || text.contains(['$', '<', '>', ' ', '{', '*']) || length < 16 {
        return false;
    }
    let lower = text.to_ascii_lowercase();
    let placeholder = [
        "your",
        "xxx",
        "fake",
        "dummy",
        "example",
        "placeholder",
        "changeme",
        "change-me",
        "not-needed",
        "test",
        "1234",
        "my-",
        "my_",
        "none",
        "replace",
        "key-here",
        "anything",
        "insert",
        "...",
    ];
    if placeholder.iter().any(|word| lower.contains(word)) {
        return false;
    }
    let digits = text.chars().filter(char::is_ascii_digit).count();
    let letters = text.chars().filter(char::is_ascii_alphabetic).count();
    let varied = text.chars().collect::<std::collections::BTreeSet<_>>().len() >= 10;
    let is_prefixed = PREFIXES.iter().any(|prefix| text.starts_with(prefix));
    varied && (is_prefixed || (length >= 20 && digits >= 3 && letters >= 6))
}
