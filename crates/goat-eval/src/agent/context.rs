//! How much of the model's context window the conversation takes.
//!
//! The server's own count of the last request is the base; only what came after it is estimated, at the ratio of
//! tokens to bytes that the server's counts have shown.

use crate::model::{Completion, Message, TooLong, ToolDefinition, Usage, profile::Profile};

/// Tokens of a byte before the server has counted anything. English text has about 0.25, code more; too many is
/// the safe side.
const FIRST_RATIO: f64 = 0.3;

/// Bytes that a message costs beside its texts: roles, marks of the template.
const FRAME: usize = 16;

/// Tokens of an answer that no server calls too many.
const SHORT_ANSWER: u64 = 1_024;

/// How often a refusal may correct the figures within a conversation.
const CORRECTIONS: u32 = 6;

/// The account of a conversation.
#[derive(Clone, Debug)]
pub(super) struct Context {
    window: u64,
    max_output: u64,
    ratio: f64,
    /// Bytes of the definitions of tools.
    tools: usize,
    /// The server's count of a prompt, and how many messages that had.
    counted: Option<(u64, usize)>,
    corrections: u32,
}

impl Context {
    pub(super) fn new(profile: &Profile, definitions: &[ToolDefinition]) -> Self {
        Context {
            window: profile.context,
            max_output: profile.max_output,
            ratio: FIRST_RATIO,
            tools: definitions.iter().map(|it| it.to_wire().to_string().len()).sum(),
            counted: None,
            corrections: 0,
        }
    }

    /// Tokens of the window.
    pub(super) fn window(&self) -> u64 {
        self.window
    }

    /// Tokens of a prompt with these messages.
    pub(super) fn prompt(&self, messages: &[Message]) -> u64 {
        match self.counted {
            Some((tokens, count)) if count <= messages.len() => {
                tokens.saturating_add(self.tokens(bytes(&messages[count..])))
            }
            _ => self.tokens(bytes(messages) + self.tools),
        }
    }

    /// Tokens of this much text.
    pub(super) fn tokens(&self, bytes: usize) -> u64 {
        (bytes as f64 * self.ratio).ceil() as u64
    }

    /// Bytes of text in this many tokens.
    pub(super) fn bytes(&self, tokens: u64) -> usize {
        (tokens as f64 / self.ratio) as usize
    }

    /// The server has counted the request of these messages.
    pub(super) fn counted(&mut self, messages: &[Message], usage: Usage) {
        self.calibrate(messages, usage.input_tokens);
        self.counted = Some((usage.input_tokens, messages.len()));
    }

    /// Messages have changed: what was counted is no longer what is sent.
    pub(super) fn forget_count(&mut self) {
        self.counted = None;
    }

    /// Tokens that are kept free for the answer.
    pub(super) fn reserve(&self) -> u64 {
        self.max_output.min(self.window / 4)
    }

    /// Above this many tokens room is made.
    pub(super) fn high(&self) -> u64 {
        self.window.saturating_sub(self.reserve()).saturating_sub(self.window / 32)
    }

    /// Down to this many. Far below, so that the next time is far away: each time costs the server's cache.
    pub(super) fn low(&self) -> u64 {
        self.high() / 10 * 6
    }

    /// Tokens that an answer to such a prompt may have. Some are left for the error of the estimate.
    pub(super) fn answer_room(&self, prompt: u64) -> u64 {
        let left = self.window.saturating_sub(prompt).saturating_sub(self.window / 64);
        left.clamp(self.reserve().clamp(1, 256), self.max_output.max(1))
    }

    /// Characters that one tool's result may have: no result takes more than a quarter of the window.
    pub(super) fn longest_result(&self) -> usize {
        self.bytes(self.window / 4).max(1_000)
    }

    /// Tokens of a request and its answer, for a server that does not count.
    pub(super) fn guess(&self, messages: &[Message], completion: &Completion) -> Usage {
        let calls = completion.tool_calls.iter();
        let calls: usize =
            calls.map(|it| it.function.name.len() + it.function.arguments.len()).sum();
        let answer = completion.text.len() + completion.reasoning.len() + calls;
        Usage {
            input_tokens: self.prompt(messages),
            output_tokens: self.tokens(answer),
            cached_tokens: 0,
            estimated: true,
        }
    }

    /// Whether a refusal may still be answered with a shorter conversation.
    pub(super) fn may_learn(&self) -> bool {
        self.corrections < CORRECTIONS
    }

    /// A server refused the messages as too long; its figures are better than ours.
    pub(super) fn learn(&mut self, messages: &[Message], figures: TooLong) {
        self.corrections += 1;
        let estimate = self.prompt(messages);
        match figures.window.filter(|it| *it > 0) {
            Some(window) => self.window = window,
            // Where it does not say, the answer that was asked for may be too long, or the prompt.
            None if self.max_output > SHORT_ANSWER && estimate < self.window / 2 => {
                self.max_output = (self.max_output / 4).max(SHORT_ANSWER);
            }
            None => self.window = self.window.min(estimate),
        }
        if let Some(prompt) = figures.prompt {
            self.calibrate(messages, prompt);
            self.counted = Some((prompt, messages.len()));
        } else if figures.window.is_some() && estimate < self.high() {
            // It should have fitted by our account, so our account is wrong.
            self.ratio = (self.ratio * 1.25).min(1.0);
            self.counted = None;
        }
    }

    fn calibrate(&mut self, messages: &[Message], tokens: u64) {
        let bytes = bytes(messages) + self.tools;
        if bytes > 1_000 {
            self.ratio = (tokens as f64 / bytes as f64).clamp(0.1, 1.0);
        }
    }
}

/// Bytes of messages, as far as they cost tokens.
pub(super) fn bytes(messages: &[Message]) -> usize {
    messages.iter().map(size).sum()
}

pub(super) fn size(message: &Message) -> usize {
    let text = match message {
        Message::System { content } | Message::User { content } | Message::Tool { content, .. } => {
            content.len()
        }
        Message::Assistant { content, tool_calls } => {
            let calls = tool_calls.iter();
            content.as_deref().unwrap_or_default().len()
                + calls
                    .map(|it| it.function.name.len() + it.function.arguments.len() + FRAME)
                    .sum::<usize>()
        }
    };
    text + FRAME
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(window: u64) -> Context {
        let mut profile = Profile::of("m");
        profile.context = window;
        Context::new(&profile, &[])
    }

    fn user(length: usize) -> Message {
        Message::User { content: "x".repeat(length) }
    }

    #[test]
    fn the_servers_count_is_the_base_and_the_rest_is_estimated_at_its_ratio() {
        let mut context = context(100_000);
        let mut messages = vec![user(9_984)];
        assert_eq!(context.prompt(&messages), 3_000);
        context.counted(&messages, Usage { input_tokens: 5_000, ..Usage::default() });
        assert_eq!(context.prompt(&messages), 5_000);
        messages.push(user(984));
        assert_eq!(context.prompt(&messages), 5_500);
        context.forget_count();
        assert_eq!(context.prompt(&messages), 5_500);
    }

    #[test]
    fn an_answer_is_never_asked_to_be_longer_than_what_is_left() {
        let context = context(8_192);
        assert_eq!(context.reserve(), 2_048);
        assert!(context.low() < context.high() && context.high() < 8_192 - 2_048);
        assert_eq!(context.answer_room(1_000), 8_192 - 1_000 - 128);
        assert_eq!(context.answer_room(8_192), 256);
    }

    #[test]
    fn refusals_correct_the_figures() {
        let mut learning = context(128_000);
        let messages = [user(9_984)];
        learning.learn(&messages, TooLong { window: Some(8_192), prompt: Some(9_000) });
        assert_eq!((learning.window(), learning.prompt(&messages)), (8_192, 9_000));
        let mut blind = context(128_000);
        blind.learn(&messages, TooLong::default());
        blind.learn(&messages, TooLong::default());
        assert_eq!((blind.max_output, blind.window()), (1_024, 128_000));
        blind.learn(&messages, TooLong::default());
        assert!(blind.window() == 3_000 && blind.prompt(&messages) > blind.high());
        for _ in 0..CORRECTIONS {
            blind.learn(&messages, TooLong::default());
        }
        assert!(!blind.may_learn());
    }
}
