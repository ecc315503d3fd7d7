//! A default temperature for a model that takes none.
//!
//! Each request fails with 400 UnsupportedParamsError inside the proxy; with drop_params the field is left out.

use crate::{lint::subject::Provider, yaml::Node};
use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "temperature-default",
    level: Level::Error,
    summary: "a default temperature for a model that takes none",
    happens: "each request fails with 400 UnsupportedParamsError inside the proxy; with drop_params the field is left out",
    mend: "take temperature out, or set litellm_settings.drop_params: true",
    check,
};

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    if subject.is_on("litellm_settings", "drop_params") {
        return;
    }
    for model in &subject.models {
        let Some(node) = model.param("temperature") else { continue };
        let own = model.param("drop_params").and_then(Node::as_bool) == Some(true);
        let dropped =
            model.param("additional_drop_params").and_then(Node::as_list).unwrap_or_default();
        let is_dropped = dropped.iter().any(|it| it.text() == Some("temperature"));
        let bare = model.bare_model().unwrap_or_default();
        let takes_none = matches!(model.provider(), Provider::Known("openai" | "azure"))
            && bare.starts_with("gpt-5")
            && !bare.contains("chat")
            // From 5.1 on some take it where they do not reason.
            && !bare.starts_with("gpt-5.");
        if takes_none && !own && !is_dropped && node.as_number() != Some(1.0) {
            findings.at(
                node,
                model.path("litellm_params.temperature"),
                format!("`{bare}` takes no temperature but 1"),
            );
        }
    }
}
