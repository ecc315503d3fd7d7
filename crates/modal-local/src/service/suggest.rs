//! Names that a client may have meant, for "did you mean" after a failed look-up.

use modal_proto::client::object_suggest_request::ObjectSuggestKind;
use modal_proto::client::{ObjectSuggestRequest, ObjectSuggestResponse, ObjectSuggestion};
use tonic::Status;

use crate::ctx::Ctx;

/// Suggestions where the client names no limit.
const DEFAULT_LIMIT: usize = 3;
/// Names that differ more are other names.
const MIN_LIKENESS: f64 = 0.6;

/// Apps by name. Of other kinds nothing is suggested.
pub(super) async fn object_suggest(
    ctx: &Ctx,
    request: ObjectSuggestRequest,
) -> Result<ObjectSuggestResponse, Status> {
    if request.kind() != ObjectSuggestKind::App {
        return Ok(ObjectSuggestResponse::default());
    }
    let environment = ctx.environments.resolve(&request.environment_name).await?;
    let apps = ctx.apps.list(&environment).await?;
    let names = apps.into_iter().filter(|app| app.stopped_at.is_none()).filter_map(|app| app.name);
    let limit = match request.limit {
        0 => DEFAULT_LIMIT,
        limit => limit as usize,
    };
    let suggestion = |app_name| ObjectSuggestion { app_name, ..ObjectSuggestion::default() };
    let suggestions = likely(&request.query, names, limit).into_iter().map(suggestion).collect();
    Ok(ObjectSuggestResponse { suggestions })
}

/// The names that are most like `query`, best first.
fn likely(query: &str, names: impl Iterator<Item = String>, limit: usize) -> Vec<String> {
    let rate = |name: String| (strsim::jaro_winkler(query, &name), name);
    let mut rated: Vec<_> = names.map(rate).filter(|(rate, _)| *rate >= MIN_LIKENESS).collect();
    rated.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    rated.dedup();
    rated.truncate(limit);
    rated.into_iter().map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_alike_come_first() {
        let names = ["goat-sandbox", "goat-services", "other", "goat-sandbox"];
        let likely = |query| likely(query, names.iter().map(|it| (*it).to_owned()), 2);
        assert_eq!(likely("goat-sanbox"), ["goat-sandbox", "goat-services"]);
        assert!(likely("zzz").is_empty());
    }
}
