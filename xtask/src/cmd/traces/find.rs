//! Traces of every version of Langfuse: version 4 has observations alone.

use futures::TryStreamExt as _;
use langfuse_client::{ApiVersion, Client, ObservationFilter, SessionId, TraceFilter, TraceId};

use super::view::{ObservationRow, TraceRow};

/// The newest traces, at most `limit`.
pub(crate) async fn newest(
    client: &Client,
    session: Option<&str>,
    name: Option<&str>,
    limit: usize,
) -> anyhow::Result<Vec<TraceRow>> {
    let session = session.map(SessionId::new);
    if client.api().await? == ApiVersion::V4 {
        let root = Some(true);
        let filter =
            ObservationFilter { session_id: session, root, ..ObservationFilter::default() };
        let mut rows = client.observations(filter);
        let mut found = Vec::new();
        while found.len() < limit
            && let Some(observation) = rows.try_next().await?
        {
            let row = TraceRow::of_observation(&observation);
            found.extend(row.filter(|row| name.is_none() || row.name.as_deref() == name));
        }
        return Ok(found);
    }
    let filter = TraceFilter {
        session_id: session,
        name: name.map(str::to_owned),
        order_by: Some("timestamp.desc".to_owned()),
        ..TraceFilter::default()
    };
    let mut rows = client.traces(filter);
    let mut found = Vec::new();
    while found.len() < limit
        && let Some(trace) = rows.try_next().await?
    {
        found.push(TraceRow::from(&trace));
    }
    Ok(found)
}

/// A trace and its observations, oldest first; none where there is no such trace.
pub(crate) async fn whole(
    client: &Client,
    id: &TraceId,
) -> anyhow::Result<Option<(TraceRow, Vec<ObservationRow>)>> {
    let listed = client.observations(ObservationFilter::of_trace(id.clone()));
    let mut listed: Vec<_> = listed.try_collect().await?;
    listed.sort_by_key(|observation| observation.start_time);
    let row = if client.api().await? == ApiVersion::V4 {
        listed.first().and_then(TraceRow::of_observation)
    } else {
        match client.trace(id).await {
            Ok(trace) => Some(TraceRow::from(&trace)),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        }
    };
    Ok(row.map(|row| (row, listed.iter().map(ObservationRow::from).collect())))
}
