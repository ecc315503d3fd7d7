//! An api_base that ends in a route, or of a vLLM server without /v1.
//!
//! The proxy adds /chat/completions to what stands there: a route makes it .../chat/completions/chat/completions,
//! a missing /v1 a 404 of the server; a 404 also puts the model out for 5 seconds, answered with 429.

use crate::{
    lint::subject::{ENV, Model, Provider},
    yaml::Node,
};
use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "api-base-path",
    level: Level::Error,
    summary: "an api_base that ends in a route, or of a vLLM server without /v1",
    happens: "the proxy adds /chat/completions to what stands there: a route makes it .../chat/completions/chat/completions, a missing /v1 a 404 of the server; a 404 also puts the model out for 5 seconds, answered with 429",
    mend: "end api_base in /v1",
    check,
};

const ROUTES: &[&str] =
    &["/chat/completions", "/completions", "/embeddings", "/responses", "/messages"];

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    for model in &subject.models {
        let Provider::Known(provider) = model.provider() else { continue };
        if !matches!(provider, "openai" | "hosted_vllm" | "text-completion-openai" | "openai_like")
        {
            continue;
        }
        let (Some((host, path)), Some(node)) =
            (model.base(), model.param("api_base").or_else(|| model.param("base_url")))
        else {
            continue;
        };
        let text = node.text().unwrap_or_default();
        let is_literal = !text.starts_with(ENV) && node.alias.is_none();
        let trimmed = path.trim_end_matches('/');
        if let Some(route) = ROUTES.iter().find(|route| trimmed.ends_with(*route)) {
            let finding = findings.at(
                node,
                model.path("litellm_params.api_base"),
                format!("it ends in the route `{route}`"),
            );
            if is_literal {
                let base = text.trim_end_matches('/').strip_suffix(route).unwrap_or(text);
                finding.fix(node.place.range(), format!("\"{base}\""));
            }
        } else if trimmed.is_empty() {
            no_version(model, node, provider, host, is_literal, findings);
        }
    }
}

fn no_version(
    model: &Model<'_>,
    node: &Node,
    provider: &str,
    host: &str,
    is_literal: bool,
    findings: &mut Findings,
) {
    let is_vllm = provider == "hosted_vllm" || model.is_sleeping();
    // These answer without /v1 too.
    let lenient = [
        "api.deepseek.com",
        "api.perplexity.ai",
        "exampleopenaiendpoint",
        "models.github.ai",
        "openai.azure.com",
    ];
    if !is_vllm && (lenient.iter().any(|it| host.contains(it)) || provider != "openai") {
        return;
    }
    let level = if is_vllm { Level::Error } else { Level::Warning };
    let finding =
        findings.at(node, model.path("litellm_params.api_base"), "it has no /v1 at its end");
    finding.level(level);
    if is_vllm && is_literal {
        let base = node.text().unwrap_or_default().trim_end_matches('/');
        finding.fix(node.place.range(), format!("\"{base}/v1\""));
    }
}
