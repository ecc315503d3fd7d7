//! The conversation: ask the model, run the tools it calls, tell it the results, until it answers.

mod dispatch;
mod fork;

use std::time::Instant;

use crate::{
    model::{
        ChatRequest, Completion, Message, ModelClient, ModelError, ToolCall, ToolDefinition, Usage,
        profile::Profile,
    },
    progress::{Progress, shorten},
    skills::Skills,
    tool::{Arguments, Registry},
    trace::Trace,
    transcript::{Event, Transcript},
};

/// Said to a model that answered with nothing at all. Small models do that after a tool's result.
const NUDGE: &str = "Your last message was empty. Go on with the task, or give your final answer.";

/// What a session works with.
#[derive(Clone, Copy)]
pub struct Parts<'a> {
    /// The model.
    pub model: &'a ModelClient,
    /// How it is asked.
    pub profile: &'a Profile,
    /// What it can do.
    pub tools: &'a Registry,
    /// The skills that it may use.
    pub skills: Option<&'a Skills>,
    /// What every call of the model carries for traces.
    pub trace: &'a Trace,
    /// Where everything is written down.
    pub transcript: &'a Transcript,
    /// Where a person can watch.
    pub progress: &'a Progress,
}

/// How a prompt ended, without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The model gave an answer: [`Session::answer`].
    Answered,
    /// It still called tools when its turns were used up. Its last calls were carried out.
    TurnsUsedUp,
}

/// Counts of a session so far; they stay right when its work is dropped in the middle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests that were answered.
    pub turns: u32,
    /// Calls of tools that were started.
    pub tool_calls: u32,
    /// Tokens.
    pub usage: Usage,
}

/// One conversation. Prompts can be put to it one after the other.
pub struct Session<'a> {
    parts: Parts<'a>,
    definitions: Vec<ToolDefinition>,
    messages: Vec<Message>,
    tally: Tally,
    /// The count of turns at which the work on the present prompt ends.
    turn_limit: u32,
    answer: String,
}

impl<'a> Session<'a> {
    /// A conversation that begins with instructions.
    pub fn new(parts: Parts<'a>, instructions: String) -> Self {
        Session::with_tally(parts, instructions, Tally::default())
    }

    fn with_tally(parts: Parts<'a>, instructions: String, tally: Tally) -> Self {
        let definitions = parts.tools.definitions(parts.profile.brief);
        let mut session = Session {
            parts,
            definitions,
            messages: Vec::new(),
            tally,
            turn_limit: 0,
            answer: String::new(),
        };
        session.note(Event::Tools { turn: tally.turns, tools: session.definitions.clone() });
        session.note_message("system", &instructions);
        session.messages.push(Message::System { content: instructions });
        session
    }

    /// What the conversation begins with.
    fn instructions(&self) -> &str {
        match self.messages.first() {
            Some(Message::System { content }) => content,
            _ => "",
        }
    }

    /// Counts so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// The text of the model's last message that had any.
    pub fn answer(&self) -> &str {
        &self.answer
    }

    /// Takes the answer, so that it is given once.
    pub fn take_answer(&mut self) -> String {
        std::mem::take(&mut self.answer)
    }

    /// Works on a prompt with at most `max_turns` requests. May be dropped at any point.
    pub async fn work(&mut self, prompt: &str, max_turns: u32) -> Result<Ending, ModelError> {
        self.say(prompt);
        self.answer.clear();
        self.turn_limit = self.tally.turns.saturating_add(max_turns);
        let mut nudged = false;
        while self.tally.turns < self.turn_limit {
            let calls = self.turn().await?;
            if !calls.is_empty() {
                self.run_tools(&calls).await;
                nudged = false;
            } else if !self.last_was_empty() {
                return Ok(Ending::Answered);
            } else if nudged {
                return Err(ModelError::Empty { model: self.parts.profile.model.clone() });
            } else {
                // An empty message has no place in a conversation: some servers refuse it.
                self.messages.pop();
                self.say(NUDGE);
                nudged = true;
            }
        }
        Ok(Ending::TurnsUsedUp)
    }

    fn say(&mut self, text: &str) {
        self.note_message("user", text);
        self.messages.push(Message::User { content: text.to_owned() });
    }

    /// Asks once and takes in the answer; returns the calls in it.
    async fn turn(&mut self) -> Result<Vec<ToolCall>, ModelError> {
        let turn = self.tally.turns + 1;
        self.note(Event::Request { turn, messages: self.messages.len() });
        let start = Instant::now();
        let request = ChatRequest::new(self.parts.profile, &self.messages, &self.definitions)
            .with_metadata(self.parts.trace.metadata());
        let completion = self.parts.model.complete(&request, |retried| {
            self.parts
                .progress
                .line(&format!("attempt {} failed: {}", retried.attempt, retried.error));
            let (attempt, error) = (retried.attempt, retried.error);
            self.note(Event::Retry { turn, attempt, error, delay_ms: millis(retried.delay) });
        });
        let completion = completion.await?;
        self.tally.turns = turn;
        self.take_in(turn, completion, millis(start.elapsed()))
    }

    fn take_in(
        &mut self,
        turn: u32,
        completion: Completion,
        elapsed: u64,
    ) -> Result<Vec<ToolCall>, ModelError> {
        let Completion { text, reasoning, tool_calls, finish_reason, usage } = completion;
        if let Some(usage) = usage {
            self.tally.usage += usage;
            self.note(Event::Usage { turn, usage });
        }
        self.note(Event::Message {
            turn,
            role: "assistant".into(),
            content: text.clone(),
            reasoning,
            tool_calls: tool_calls.clone(),
            finish_reason: finish_reason.clone(),
            elapsed_ms: Some(elapsed),
        });
        if finish_reason.as_deref() == Some("length") {
            self.parts
                .progress
                .line(&format!("[{turn}] the answer was cut: it reached the token limit"));
        }
        if !text.trim().is_empty() {
            self.answer.clone_from(&text);
            if !tool_calls.is_empty() {
                self.parts.progress.line(&format!("[{turn}] {}", shorten(&text, 120)));
            }
        }
        let content = Some(text).filter(|text| !text.is_empty());
        let sendable = tool_calls.iter().map(sendable).collect();
        self.messages.push(Message::Assistant { content, tool_calls: sendable });
        Ok(tool_calls)
    }

    fn last_was_empty(&self) -> bool {
        let Some(Message::Assistant { content, .. }) = self.messages.last() else { return false };
        content.as_deref().is_none_or(|text| text.trim().is_empty())
    }

    /// Writes down that one of several prompts has been worked on.
    pub fn note_prompt_end(&self, prompt: u32, cost_usd: f64) {
        self.note(Event::PromptEnd { prompt, turns: self.tally.turns, cost_usd });
    }

    fn note_message(&self, role: &str, content: &str) {
        self.note(Event::Message {
            turn: self.tally.turns,
            role: role.to_owned(),
            content: content.to_owned(),
            reasoning: String::new(),
            tool_calls: Vec::new(),
            finish_reason: None,
            elapsed_ms: None,
        });
    }

    fn note(&self, event: Event) {
        if let Err(error) = self.parts.transcript.write(event) {
            self.parts.progress.line(&format!("warning: the transcript ends here: {error}"));
        }
    }
}

/// A call as it is sent back: servers refuse a conversation that holds broken arguments. The transcript has what
/// the model wrote, and the model is told what was wrong with it.
fn sendable(call: &ToolCall) -> ToolCall {
    let mut call = call.clone();
    if call.function.arguments.trim().is_empty()
        || Arguments::parse(&call.function.arguments).is_err()
    {
        call.function.arguments = "{}".into();
    }
    call
}

pub(crate) fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_arguments_are_not_sent_back() {
        assert_eq!(sendable(&ToolCall::new("a", "Read", "{\"x")).function.arguments, "{}");
        assert_eq!(sendable(&ToolCall::new("a", "Read", "")).function.arguments, "{}");
        assert_eq!(
            sendable(&ToolCall::new("a", "Read", "{\"x\": 1}")).function.arguments,
            "{\"x\": 1}"
        );
    }
}
