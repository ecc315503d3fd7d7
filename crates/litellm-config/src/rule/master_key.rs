//! No master key, or one that everybody knows.
//!
//! The newer proxy does not start (exit code 3); the older one starts, and without a key everybody may call every
//! model and every route of the administration.

use crate::{
    lint::subject::ENV,
    yaml::{Node, Place},
};
use crate::{
    lint::{Findings, Level, Subject},
    rule::Rule,
};

/// The rule.
pub(crate) const RULE: Rule = Rule {
    name: "master-key",
    level: Level::Error,
    summary: "no master key, or one that everybody knows",
    happens: "the newer proxy does not start (exit code 3); the older one starts, and without a key everybody may call every model and every route of the administration",
    mend: "set general_settings.master_key: os.environ/LITELLM_MASTER_KEY and put a long random value there",
    check,
};

/// In LiteLLM's own examples, and in everybody's.
const WIDELY_KNOWN: &[&str] =
    &["sk-1234", "sk-12345", "sk-123456", "sk-master", "1234", "changeme", "secret", "password"];
/// A shorter one can be guessed.
const SHORTEST: usize = 16;

fn check(subject: &Subject<'_>, findings: &mut Findings) {
    let refuses = subject.context.litellm.refuses_weak_master_key()
        && !subject.is_on("general_settings", "dangerously_permit_weak_or_unset_master_key")
        && subject
            .context
            .environment
            .get("LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY")
            .is_none();
    let environment = &subject.context.environment;
    let path = "general_settings.master_key";
    let node = subject.setting("general_settings", "master_key").filter(|node| !node.is_null());
    let text = node.and_then(Node::text);
    let variable = text.map_or(Some("LITELLM_MASTER_KEY"), |text| text.strip_prefix(ENV));
    let value = match variable {
        Some(variable) => environment.get(variable),
        None => text,
    };
    let Some(value) = value else {
        let variable = variable.unwrap_or("LITELLM_MASTER_KEY");
        // An included file or the environment may bring it.
        if subject.top("include").is_some() || node.is_some() && !environment.lacks(variable) {
            return;
        }
        let level =
            if environment.lacks(variable) && refuses { Level::Error } else { Level::Warning };
        let (message, level) = if environment.lacks(variable) {
            (format!("there is no master key: {variable} is not set"), level)
        } else {
            (
                format!("there is no master key, unless {variable} is set where the proxy runs"),
                if refuses { Level::Warning } else { Level::Note },
            )
        };
        match node {
            Some(node) => findings.at(node, path, message).level(level),
            None => findings.whole(path, message).level(level),
        };
        return;
    };
    let place = node.map_or_else(Place::default, |node| node.place);
    if WIDELY_KNOWN.contains(&value) {
        let level = if refuses { Level::Error } else { Level::Warning };
        findings
            .push(place, path.to_owned(), "the master key is one that everybody knows".to_owned())
            .level(level);
    } else if value.chars().count() < SHORTEST {
        let message =
            format!("the master key has {} characters: it can be guessed", value.chars().count());
        findings.push(place, path.to_owned(), message).level(Level::Note);
    }
}
