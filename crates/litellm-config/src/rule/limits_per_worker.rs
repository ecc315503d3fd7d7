//! Limits that are kept in memory, with more than one worker.
//!
//! Each worker counts for itself: budgets and rates are as many times as high as there are workers.

use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "limits-per-worker",
    level: Level::Warning,
    summary: "limits that are kept in memory, with more than one worker",
    happens: "each worker counts for itself: budgets and rates are as many times as high as there are workers",
    mend: "run one worker, or divide the limits",
    check,
};

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    let workers = subject.context.workers.or_else(|| {
        subject
            .context
            .environment
            .get("DEFAULT_NUM_WORKERS_LITELLM_PROXY")
            .and_then(|text| text.parse().ok())
    });
    let Some(workers) = workers.filter(|workers| *workers > 1) else { return };
    let shared = subject.setting("router_settings", "redis_host").is_some()
        || subject.setting("router_settings", "redis_url").is_some()
        || subject.has_database();
    if shared {
        return;
    }
    let custom_auth = subject.setting("general_settings", "custom_auth");
    let limited = subject.models.iter().find_map(|model| {
        Some((model.path("litellm_params.max_budget"), model.param("max_budget")?))
    });
    let found = limited.or_else(|| Some(("general_settings.custom_auth".to_owned(), custom_auth?)));
    if let Some((path, node)) = found {
        findings.at(node, path, format!("{workers} workers each keep this limit for themselves"));
    }
}
