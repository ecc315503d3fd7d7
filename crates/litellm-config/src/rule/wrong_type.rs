//! A number or a switch that is neither.
//!
//! Max_budget ends the proxy (exit code 3); a price drops the model; a time-out makes every request fail with
//! 500; temperature is sent upstream as it is; other settings wait in silence until they are used.

use crate::{
    lint::subject::ENV,
    yaml::{Kind, Node, Resolved},
};
use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "wrong-type",
    level: Level::Error,
    summary: "a number or a switch that is neither",
    happens: "max_budget ends the proxy (exit code 3); a price drops the model; a time-out makes every request fail with 500; temperature is sent upstream as it is; other settings wait in silence until they are used",
    mend: "write a number (seconds, US dollars) or true or false",
    check,
};

const NUMBERS: &[&str] = &[
    "timeout",
    "stream_timeout",
    "max_retries",
    "num_retries",
    "temperature",
    "top_p",
    "max_tokens",
    "rpm",
    "tpm",
    "max_parallel_requests",
    "max_budget",
    "input_cost_per_token",
    "output_cost_per_token",
    "input_cost_per_second",
    "cooldown_time",
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "weight",
    "order",
];
const PRICES: &[&str] = &[
    "input_cost_per_token",
    "output_cost_per_token",
    "input_cost_per_second",
    "output_cost_per_second",
    "max_tokens",
    "max_input_tokens",
    "max_output_tokens",
];
const SETTINGS: &[(&str, &[&str])] = &[
    ("litellm_settings", &["max_budget", "num_retries", "request_timeout", "allowed_fails"]),
    (
        "router_settings",
        &[
            "num_retries",
            "timeout",
            "stream_timeout",
            "cooldown_time",
            "allowed_fails",
            "retry_after",
            "max_fallbacks",
            "default_max_parallel_requests",
        ],
    ),
    (
        "general_settings",
        &[
            "max_parallel_requests",
            "global_max_parallel_requests",
            "max_request_size_mb",
            "max_response_size_mb",
            "health_check_interval",
        ],
    ),
];
const SWITCHES: &[(&str, &[&str])] = &[
    (
        "litellm_settings",
        &["drop_params", "set_verbose", "cache", "modify_params", "enable_post_custom_auth_checks"],
    ),
    ("router_settings", &["disable_cooldowns", "enable_pre_call_checks", "set_verbose"]),
    (
        "general_settings",
        &[
            "disable_model_info_refresh",
            "custom_auth_run_common_checks",
            "store_model_in_db",
            "background_health_checks",
        ],
    ),
];

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    for model in &subject.models {
        for key in NUMBERS {
            if let Some(node) = model.param(key) {
                number(node, model.path(&format!("litellm_params.{key}")), findings);
            }
        }
        for key in PRICES {
            if let Some(node) = model.info_of(key) {
                number(node, model.path(&format!("model_info.{key}")), findings);
            }
        }
    }
    for (block, key) in
        SETTINGS.iter().flat_map(|(block, keys)| keys.iter().map(move |key| (*block, *key)))
    {
        if let Some(node) = subject.setting(block, key) {
            number(node, format!("{block}.{key}"), findings);
        }
    }
    for (block, key) in
        SWITCHES.iter().flat_map(|(block, keys)| keys.iter().map(move |key| (*block, *key)))
    {
        if let Some(node) = subject.setting(block, key) {
            switch(node, format!("{block}.{key}"), findings);
        }
    }
}

/// LiteLLM makes a number of a string that is one, as `"300"` or `1e-6`.
fn number(node: &Node, path: String, findings: &mut Findings) {
    let text = match &node.kind {
        Kind::Scalar(scalar) => scalar.text.as_str(),
        _ => {
            findings.at(node, path, "it is not a number");
            return;
        }
    };
    let is_number = node.as_number().is_some() || text.trim().parse::<f64>().is_ok();
    if is_number || node.is_null() || text.starts_with(ENV) {
        return;
    }
    let finding = findings.at(node, path, format!("`{text}` is not a number"));
    if let Some(seconds) = seconds(text) {
        finding.mend(format!("write the seconds: {seconds}"));
    }
}

/// `5m` as seconds.
fn seconds(text: &str) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(split);
    let factor = match unit.trim() {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

fn switch(node: &Node, path: String, findings: &mut Findings) {
    let Some(Resolved::Str) = node.resolve() else { return };
    let text = node.text().unwrap_or_default();
    if text.starts_with(ENV) || text.starts_with("os.getenv") {
        return;
    }
    let lower = text.to_ascii_lowercase();
    let meant = match lower.as_str() {
        "true" | "yes" | "on" | "1" => Some("true"),
        "false" | "no" | "off" | "0" => Some("false"),
        _ => None,
    };
    let finding = findings.at(node, path, format!("\"{text}\" is a text; any text counts as true"));
    finding.level(Level::Warning);
    if let (Some(meant), None) = (meant, &node.alias) {
        finding.fix(node.place.range(), meant);
    }
}
