//! Lists as streams: pages numbered from 1 (versions 2 and 3) and cursors (version 4).
//!
//! A stream asks for the next page only when it is polled for it, ends after the first error, and can be resumed
//! by asking again with a filter on time. Numbered pages shift while rows arrive: for a copy, ask in ascending
//! order over closed windows of time.

use std::{collections::VecDeque, future::Future};

use futures::{
    FutureExt as _, StreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{client::Client, error::Result, http_call::Call};

/// Query parameters of a request.
pub(crate) type Query = Vec<(&'static str, String)>;

/// Rows that every version gives at once.
pub(crate) const PAGE_ROWS: u32 = 100;

/// One numbered page.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Page<T> {
    /// Its rows.
    pub(crate) data: Vec<T>,
    /// Where it stands.
    pub(crate) meta: PageMeta,
}

/// Where a page stands among all.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PageMeta {
    /// Pages in all.
    #[serde(default)]
    pub(crate) total_pages: Option<u64>,
}

/// One page of a list that goes on by cursor.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct CursorPage<T> {
    /// Its rows.
    pub(crate) data: Vec<T>,
    /// How it goes on.
    #[serde(default)]
    pub(crate) meta: CursorMeta,
}

/// How a list goes on.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(crate) struct CursorMeta {
    /// Asks for the next page; absent on the last.
    pub(crate) cursor: Option<String>,
}

/// A list that the client reads: where, and how it goes on.
#[derive(Debug, Clone)]
pub(crate) struct List {
    pub(crate) operation: &'static str,
    pub(crate) segments: Vec<String>,
    pub(crate) query: Query,
    pub(crate) style: Style,
}

/// How a list goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Pages,
    Cursor { rows: u32 },
}

impl List {
    pub(crate) fn pages(operation: &'static str, segments: &[&str], query: Query) -> Self {
        let segments = segments.iter().map(|&segment| segment.to_owned()).collect();
        Self { operation, segments, query, style: Style::Pages }
    }

    pub(crate) fn cursor(
        operation: &'static str,
        segments: &[&str],
        query: Query,
        rows: u32,
    ) -> Self {
        Self { style: Style::Cursor { rows }, ..Self::pages(operation, segments, query) }
    }

    async fn fetch<T: DeserializeOwned>(
        &self,
        client: &Client,
        at: At,
    ) -> Result<(Vec<T>, Option<At>)> {
        let mut query = self.query.clone();
        let segments: Vec<&str> = self.segments.iter().map(String::as_str).collect();
        match self.style {
            Style::Pages => {
                let number = if let At::Page(number) = at { number } else { 1 };
                query.push(("page", number.to_string()));
                query.push(("limit", PAGE_ROWS.to_string()));
                let call = Call::get(client, self.operation, &segments).query(&query);
                let page: Page<T> = call.read(client).await?;
                let last = page.meta.total_pages.is_none_or(|pages| number >= pages);
                let next = (!last && !page.data.is_empty()).then(|| At::Page(number + 1));
                Ok((page.data, next))
            }
            Style::Cursor { rows } => {
                query.push(("limit", rows.to_string()));
                if let At::Cursor(cursor) = at {
                    query.push(("cursor", cursor));
                }
                let call = Call::get(client, self.operation, &segments).query(&query);
                let page: CursorPage<T> = call.read(client).await?;
                Ok((page.data, page.meta.cursor.map(At::Cursor)))
            }
        }
    }
}

/// Where a list is read next.
#[derive(Debug)]
enum At {
    Start,
    Page(u64),
    Cursor(String),
}

/// Rows of a list, page after page.
pub type Rows<T> = BoxStream<'static, Result<T>>;

struct Reading<T> {
    client: Client,
    list: List,
    rows: VecDeque<T>,
    next: Option<At>,
}

enum State<T> {
    Planning(BoxFuture<'static, Result<Reading<T>>>),
    Reading(Reading<T>),
    Done,
}

/// Reads the list that `plan` decides on; `plan` runs when the stream is first polled.
pub(crate) fn rows<T>(
    client: &Client,
    plan: impl Future<Output = Result<List>> + Send + 'static,
) -> Rows<T>
where
    T: DeserializeOwned + Send + 'static,
{
    let client = client.clone();
    let start = async move {
        let list = plan.await?;
        Ok(Reading { client, list, rows: VecDeque::new(), next: Some(At::Start) })
    };
    stream::unfold(State::Planning(start.boxed()), step).boxed()
}

async fn step<T: DeserializeOwned>(state: State<T>) -> Option<(Result<T>, State<T>)> {
    let mut reading = match state {
        State::Planning(start) => match start.await {
            Ok(reading) => reading,
            Err(error) => return Some((Err(error), State::Done)),
        },
        State::Reading(reading) => reading,
        State::Done => return None,
    };
    loop {
        if let Some(row) = reading.rows.pop_front() {
            return Some((Ok(row), State::Reading(reading)));
        }
        let at = reading.next.take()?;
        match reading.list.fetch(&reading.client, at).await {
            Ok((rows, next)) => (reading.rows, reading.next) = (rows.into(), next),
            Err(error) => return Some((Err(error), State::Done)),
        }
    }
}
