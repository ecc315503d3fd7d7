//! What tokens of tasks have spent, kept on disk.
//!
//! LiteLLM says in each answer what it cost; the door adds that up for each token and takes none whose budget is
//! spent. LiteLLM's own count is in memory, and forgotten when the proxy starts anew. A call under way when the
//! budget runs out is finished, so a token may overspend by what it asks for at the same time.

mod cost;
mod journal;
mod metered;
mod refusal;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use goat_keys::Claims;
use http_body_util::BodyExt as _;

use self::cost::Said;
use self::journal::Journal;
pub(crate) use self::journal::Spent;
pub(super) use self::metered::Metered;
pub(super) use self::refusal::as_final;
use super::answer::Answer;
use crate::log::Log;

/// US dollars that an answer counts for which does not say what it cost: more than a cheap call, so that a budget
/// ends, whatever a route leaves out.
const UNPRICED_USD: f64 = 0.01;

/// The books of a door. Clones are the same books.
#[derive(Clone)]
pub(crate) struct Budgets {
    journal: Arc<Mutex<Journal>>,
    log: Log,
}

impl Budgets {
    /// Reads what earlier processes wrote; tokens that have expired are forgotten.
    pub(crate) fn open(directory: &Path, log: Log) -> io::Result<Self> {
        Ok(Self { journal: Arc::new(Mutex::new(Journal::open(directory)?)), log })
    }

    /// What the token has spent, where that is its whole budget or more.
    pub(crate) fn overdrawn(&self, claims: &Claims) -> Option<f64> {
        let spent = self.locked().of(claims);
        claims.budget_usd.is_some_and(|budget| spent >= budget).then_some(spent)
    }

    /// Counts an answer when its last byte has passed. One that nobody reads any more is read to its end here.
    pub(crate) fn meter(&self, answer: Answer, claims: Claims) -> Answer {
        let said = Said::by(&answer);
        let budgets = self.clone();
        let count = move |tail: &[u8], _is_whole| {
            if let Some(usd) = said.cost(tail, UNPRICED_USD) {
                budgets.count(&claims, usd);
            }
        };
        answer.map(|body| Metered::new(body, Box::new(count)).boxed_unsync())
    }

    /// What was spent by run and task.
    pub(crate) fn spent(&self) -> Vec<Spent> {
        self.locked().by_task()
    }

    fn count(&self, claims: &Claims, usd: f64) {
        if let Err(error) = self.locked().add(claims, usd) {
            self.log
                .say(format!("what task {} spent is kept in memory alone: {error}", claims.task));
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
