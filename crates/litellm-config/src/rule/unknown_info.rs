//! A key in model_info that is nearly one of LiteLLM's.
//!
//! The proxy starts and says nothing; the key is without effect: prices and base models misspelt so make the cost
//! 0 or wrong.

use crate::{known, yaml::Map};
use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "unknown-info",
    level: Level::Warning,
    summary: "a key in model_info that is nearly one of LiteLLM's",
    happens: "the proxy starts and says nothing; the key is without effect: prices and base models misspelt so make the cost 0 or wrong",
    mend: "mend its name",
    check,
};

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    for model in &subject.models {
        // Other keys are welcome: /model/info hands them on.
        for (key, node, _) in model.info.map(Map::strings).unwrap_or_default() {
            if known::MODEL_INFO.has(key)
                || known::LITELLM_PARAMS.has(key)
                || key == "scale_to_zero"
            {
                continue;
            }
            if let Some(meant) = known::MODEL_INFO.meant(key) {
                let path = model.path(&format!("model_info.{key}"));
                let message = format!("`{key}` is without effect; is `{meant}` meant?");
                let finding = findings.at(node, path, message);
                if model.info_of(meant).is_none() {
                    finding.fix(node.place.range(), meant);
                }
            }
        }
    }
}
