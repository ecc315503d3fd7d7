//! Listings that come in pages, newest first, each page before the last item of the one before it.

use modal_proto::client::ListPagination;

use crate::{clock, error::Result};

/// The most a server puts into one page.
const SIZE: i32 = 100;

/// An item and when it was made, which is where the next page starts.
pub(crate) struct Item<T> {
    pub(crate) created_at: f64,
    pub(crate) value: T,
}

/// All items of a listing. The first page starts at this machine's clock, as Modal's clients do; a short page is the last.
pub(crate) async fn collect<T>(
    mut fetch: impl AsyncFnMut(ListPagination) -> Result<Vec<Item<T>>>,
) -> Result<Vec<T>> {
    let mut all = Vec::new();
    let mut before = clock::unix_seconds();
    loop {
        let items = fetch(ListPagination { max_objects: SIZE, created_before: before }).await?;
        let is_last = items.len() < SIZE as usize;
        let oldest = items.last().map(|item| item.created_at);
        all.extend(items.into_iter().map(|item| item.value));
        match oldest {
            Some(oldest) if !is_last && oldest < before => before = oldest,
            _ => return Ok(all),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pages_follow_each_other_until_a_short_one() {
        let mut asked = Vec::new();
        let all = collect(async |page: ListPagination| {
            asked.push(page.created_before);
            let newest = if asked.len() == 1 { 250 } else { page.created_before as i32 - 1 };
            let items = (0..SIZE.min(newest)).map(|n| f64::from(newest - n));
            Ok(items.map(|created_at| Item { created_at, value: created_at as i32 }).collect())
        })
        .await
        .unwrap();
        assert_eq!((all.len(), all.first(), all.last()), (250, Some(&250), Some(&1)));
        assert_eq!(asked[1..], [151.0, 51.0]);
    }

    #[tokio::test]
    async fn a_server_that_repeats_a_page_does_not_keep_us_for_ever() {
        let now = clock::unix_seconds() + 1000.0;
        let page = |_| (0..SIZE).map(|_| Item { created_at: now, value: () }).collect();
        assert_eq!(collect(async |p: ListPagination| Ok(page(p))).await.unwrap().len(), 100);
    }
}
