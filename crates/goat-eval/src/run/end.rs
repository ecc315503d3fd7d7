//! How a run ended, as its exit code and in words.

use std::time::Duration;

use super::stop::Cause;
use crate::{
    agent::{Ending, Tally},
    error::{Error, one_line},
    exit_code,
};

/// How the work on the prompts ended.
#[derive(Debug)]
pub(super) enum End {
    /// By itself.
    Work(Ending),
    /// By something that does not work.
    Failed(Error),
    /// From outside.
    Stopped(Cause),
}

impl End {
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            End::Work(Ending::Answered) => exit_code::ANSWERED,
            End::Work(Ending::TurnsUsedUp) => exit_code::TURNS_USED_UP,
            End::Work(Ending::TokensUsedUp) => exit_code::TOKENS_USED_UP,
            End::Work(Ending::CostUsedUp) => exit_code::COST_USED_UP,
            End::Failed(error) => error.exit_code(),
            End::Stopped(cause) => cause.exit_code(),
        }
    }

    /// Why there is no answer; none where there is one.
    pub(super) fn error(&self, tally: Tally) -> Option<String> {
        let seconds = Duration::as_secs_f64;
        Some(match self {
            End::Work(Ending::Answered) => return None,
            End::Work(Ending::TurnsUsedUp) => format!("no answer within {} turns", tally.turns),
            // The next request counts beforehand, so that the limit is never passed knowingly.
            End::Work(Ending::TokensUsedUp) if tally.turns == 0 => {
                "the first request alone would need more than the tokens allowed".to_owned()
            }
            End::Work(Ending::TokensUsedUp) => {
                format!("no answer within the tokens allowed; {} used", tally.usage.total())
            }
            End::Work(Ending::CostUsedUp) if tally.turns == 0 => {
                "the first request alone would cost more than is allowed".to_owned()
            }
            End::Work(Ending::CostUsedUp) => "no answer within the cost allowed".to_owned(),
            End::Failed(error) => one_line(error),
            End::Stopped(Cause::TimedOut(limit)) => {
                format!("no answer within {} seconds", seconds(limit))
            }
            End::Stopped(Cause::Signal { name, .. }) => format!("ended by {name}"),
        })
    }

    /// Whether what the model said last counts as an answer: also what there is when turns, tokens, money or time are
    /// over; nothing after a signal or an error.
    pub(super) fn has_answer(&self) -> bool {
        matches!(self, End::Work(_) | End::Stopped(Cause::TimedOut(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_allows_no_request_is_told_apart_from_one_that_is_used_up() {
        let error = |ending, turns| {
            let tally = Tally { turns, ..Tally::default() };
            End::Work(ending).error(tally).unwrap_or_default()
        };
        insta::assert_snapshot!(error(Ending::TokensUsedUp, 0), @"the first request alone would need more than the tokens allowed");
        insta::assert_snapshot!(error(Ending::TokensUsedUp, 1), @"no answer within the tokens allowed; 0 used");
        insta::assert_snapshot!(error(Ending::CostUsedUp, 0), @"the first request alone would cost more than is allowed");
        insta::assert_snapshot!(error(Ending::CostUsedUp, 1), @"no answer within the cost allowed");
    }
}
