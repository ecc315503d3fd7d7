//! When and how a session makes its conversation shorter: old results first, then a summary by the model.

use super::{
    Session,
    compact::{self, Shortened},
    context,
};
use crate::{
    model::{Message, ModelError, TooLong},
    progress::shorten,
    tool::marked,
    transcript::Event,
};

/// What the model is asked for when results alone can't be made shorter.
const SUMMARISE: &str = "The conversation is about to exceed the context window. Do not go on with the task now. Write a \
    summary for yourself, from which you can go on without the earlier messages: what the task is, what was done and \
    found (with paths, names and figures), what works and what does not, and what comes next. Text only, no tools.";

/// Tokens of a summary at most.
const LONGEST_SUMMARY: u64 = 2_048;

/// Stands above a summary.
const HEADING: &str = "[Earlier messages were replaced by this summary, to save context:]";

/// Why room is made.
#[derive(Clone, Copy, Debug)]
enum Reason {
    /// By our account the next request comes near the limit.
    Near,
    /// The server refused.
    Refused,
}

impl Session<'_> {
    /// Makes room before the limit is reached.
    pub(super) async fn make_room(&mut self) -> Result<(), ModelError> {
        if self.context.prompt(&self.messages) <= self.context.high() {
            return Ok(());
        }
        self.compact(Reason::Near).await
    }

    /// Makes room after the server has refused, with what it said about its limit.
    pub(super) async fn make_room_after(&mut self, figures: TooLong) -> Result<(), ModelError> {
        self.context.learn(&self.messages, figures);
        // Where only prompt and answer together may have been too much, a shorter answer is tried.
        let prompt = self.context.prompt(&self.messages);
        if prompt <= self.context.high() {
            self.note_compaction(Reason::Refused, prompt, Vec::new(), None);
            return Ok(());
        }
        self.compact(Reason::Refused).await
    }

    async fn compact(&mut self, reason: Reason) -> Result<(), ModelError> {
        let before = self.context.prompt(&self.messages);
        let newest = compact::newest(&self.messages);
        let shortened = self.shorten_results(newest);
        if !shortened.is_empty() {
            self.note_compaction(reason, before, shortened, None);
        }
        if self.context.prompt(&self.messages) > self.context.high() {
            self.replace_by_summary(reason).await?;
        }
        // The newest results alone are too much.
        if self.context.prompt(&self.messages) > self.context.high() {
            let before = self.context.prompt(&self.messages);
            let shortened = self.shorten_results(self.messages.len());
            if !shortened.is_empty() {
                self.note_compaction(reason, before, shortened, None);
            }
        }
        Ok(())
    }

    fn shorten_results(&mut self, end: usize) -> Vec<Shortened> {
        let surplus = self.context.prompt(&self.messages).saturating_sub(self.context.low());
        let bytes = self.context.bytes(surplus);
        let shortened = compact::shorten(&mut self.messages, end, bytes);
        if !shortened.is_empty() {
            self.context.forget_count();
        }
        shortened
    }

    /// Replaces all but the instructions, the task and the newest messages by a summary.
    async fn replace_by_summary(&mut self, reason: Reason) -> Result<(), ModelError> {
        let before = self.context.prompt(&self.messages);
        let task = self.prompt;
        let start =
            compact::tail(&self.messages, task + 1, self.context.bytes(self.context.low() / 2));
        let start = start.min(compact::newest(&self.messages)).max(task + 1);
        // Nothing but the task and the newest exchange: there is nothing to sum up.
        if start <= 2 || self.messages[1..start].iter().all(|it| matches!(it, Message::User { .. }))
        {
            return Ok(());
        }
        let summary = match self.summary().await {
            Some(summary) => summary,
            None => compact::bare_summary(&self.messages[1..start]),
        };
        let Message::User { content } = &self.messages[task] else { return Ok(()) };
        // One message for both: some templates refuse two of the user in a row.
        let prompt = content.split(HEADING).next().unwrap_or_default().trim_end();
        // A summary is made of what tools have returned, so it is no more the user's than that.
        let replacement = format!("{prompt}\n\n{HEADING}\n{}", marked::as_data(summary.trim()));
        let replaced = start - 1;
        self.messages.splice(1..start, [Message::User { content: replacement.clone() }]);
        self.prompt = 1;
        self.context.forget_count();
        self.note_compaction(reason, before, Vec::new(), Some((replaced, replacement)));
        Ok(())
    }

    /// Asks the model, with the same beginning as every request, so that the server's cache helps. `None` where it
    /// can't or won't.
    async fn summary(&mut self) -> Option<String> {
        let turn = self.tally().turns + 1;
        self.messages.push(Message::User { content: SUMMARISE.to_owned() });
        let prompt = self.context.prompt(&self.messages);
        let result = match self.parts.limits.room(&self.tally(), prompt) {
            Ok(room) if prompt.saturating_add(LONGEST_SUMMARY / 4) < self.context.window() => {
                let most = room.min(LONGEST_SUMMARY).min(self.context.answer_room(prompt));
                let request = self.request().without_calls().with_max_output(most);
                self.note(Event::Summarise { turn, instruction: SUMMARISE.to_owned() });
                Some(self.ask(turn, &request).await)
            }
            _ => None,
        };
        self.messages.pop();
        let mut completion = match result? {
            Ok(completion) => completion,
            Err(error) => {
                let error = error.to_string();
                self.parts.progress.line(&format!("no summary: {}", shorten(&error, 120)));
                return None;
            }
        };
        let usage =
            completion.usage.unwrap_or_else(|| self.context.guess(&self.messages, &completion));
        self.parts.ledger.add_usage(usage);
        self.note(Event::Usage { turn, usage });
        completion.understand(&[]);
        Some(completion.text).filter(|text| !text.trim().is_empty())
    }

    fn note_compaction(
        &self,
        reason: Reason,
        before: u64,
        shortened: Vec<Shortened>,
        replaced: Option<(usize, String)>,
    ) {
        let after = self.context.prompt(&self.messages);
        let what = match (&replaced, shortened.len()) {
            (Some((count, _)), _) => format!("{count} messages became a summary"),
            (None, 0) => "the answer may be shorter".to_owned(),
            (None, count) => format!("{count} results were shortened"),
        };
        let line = format!("context: {what}; about {before} tokens are {after}");
        self.parts.progress.line(&line);
        let (replaced, summary) = replaced.unzip();
        self.note(Event::Compaction {
            turn: self.tally().turns + 1,
            reason: match reason {
                Reason::Near => "near the limit".to_owned(),
                Reason::Refused => "refused by the server".to_owned(),
            },
            window: self.context.window(),
            tokens_before: before,
            tokens_after: after,
            bytes_after: context::bytes(&self.messages),
            shortened,
            replaced,
            summary,
        });
    }
}
