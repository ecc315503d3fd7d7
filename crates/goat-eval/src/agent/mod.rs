//! The conversation: ask the model, run the tools it calls, tell it the results, until it answers.

mod calls;
mod compact;
mod context;
mod dispatch;
mod fork;
mod limits;
mod room;
mod tally;

use std::{collections::HashSet, time::Instant};

pub use compact::Shortened;
pub use limits::Limits;
pub use tally::{Ledger, Tally};

use calls::Call;
use context::Context;

use crate::{
    mcp::Servers,
    model::{
        ChatRequest, Completion, Message, ModelClient, ModelError, Notice, ToolDefinition,
        profile::Profile,
    },
    progress::{Progress, shorten},
    skills::Skills,
    tool::{Registry, text::cut_middle},
    trace::Trace,
    transcript::{Event, Transcript},
};

/// Said to a model that answered with nothing at all. Small models do that after a tool's result.
const NUDGE: &str = "Your last message was empty. Go on with the task, or give your final answer.";

/// Said to a model whose server says that it calls a tool, without any call: it got lost on the way.
const LOST_CALL: &str = "Your last message ended as if it called a tool, but no call came with it. Call the tool \
    again, or give your final answer.";

/// Characters of a message of the model that stay in the conversation. More is a model that repeats itself.
const LONGEST_MESSAGE: usize = 200_000;

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
    /// The servers whose tools may change.
    pub mcp: Option<&'a Servers>,
    /// What every call of the model carries for traces.
    pub trace: &'a Trace,
    /// What it may use up.
    pub limits: Limits,
    /// What it has used up.
    pub ledger: &'a Ledger,
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
    /// The tokens of the run were used up, or would be by the next request.
    TokensUsedUp,
    /// The money of the run was used up, or would be by the next request.
    CostUsedUp,
}

/// One conversation. Prompts can be put to it one after the other.
pub struct Session<'a> {
    parts: Parts<'a>,
    definitions: Vec<ToolDefinition>,
    messages: Vec<Message>,
    /// Where the prompt that is worked on stands in `messages`.
    prompt: usize,
    context: Context,
    /// Ids of calls so far; some servers give the same one twice.
    ids: HashSet<String>,
    /// The count of turns at which the work on the present prompt ends.
    turn_limit: u32,
    answer: String,
    /// Whether the last message of the model should have held a call and holds none.
    lost_call: bool,
}

impl<'a> Session<'a> {
    /// A conversation that begins with instructions.
    pub fn new(parts: Parts<'a>, instructions: String) -> Self {
        let definitions = parts.tools.definitions(parts.profile.brief);
        let context = Context::new(parts.profile, &definitions);
        let mut session = Session {
            parts,
            definitions,
            messages: Vec::new(),
            turn_limit: 0,
            prompt: 0,
            context,
            ids: HashSet::new(),
            answer: String::new(),
            lost_call: false,
        };
        session
            .note(Event::Tools { turn: session.tally().turns, tools: session.definitions.clone() });
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
        self.parts.ledger.tally()
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
        self.prompt = self.messages.len();
        self.say(prompt);
        self.answer.clear();
        self.turn_limit = self.tally().turns.saturating_add(max_turns);
        let mut nudged = false;
        while self.tally().turns < self.turn_limit {
            let calls = match self.turn().await? {
                Ok(calls) => calls,
                Err(ending) => return Ok(ending),
            };
            if !calls.is_empty() {
                self.run_tools(&calls).await;
                nudged = false;
                continue;
            }
            match (self.last_was_empty(), nudged) {
                (false, _) if nudged || !self.lost_call => return Ok(Ending::Answered),
                (false, _) => self.say(LOST_CALL),
                (true, true) => {
                    return Err(ModelError::Empty { model: self.parts.profile.model.clone() });
                }
                (true, false) => {
                    // An empty message has no place in a conversation: some servers refuse it.
                    self.messages.pop();
                    self.say(NUDGE);
                }
            }
            nudged = true;
        }
        Ok(Ending::TurnsUsedUp)
    }

    fn say(&mut self, text: &str) {
        self.note_message("user", text);
        self.messages.push(Message::User { content: text.to_owned() });
    }

    /// Takes in what is new about MCP servers, so that the next request offers the tools that there are.
    async fn refresh(&mut self) {
        let Some(mcp) = self.parts.mcp else { return };
        let turn = self.tally().turns;
        for news in mcp.refresh(self.parts.tools).await {
            self.parts.progress.line(&news.to_string());
            self.note(Event::Mcp { turn, news });
        }
        let definitions = self.parts.tools.definitions(self.parts.profile.brief);
        if definitions != self.definitions {
            self.note(Event::Tools { turn, tools: definitions.clone() });
            self.definitions = definitions;
        }
    }

    /// Asks once and takes in the answer; returns the calls in it, or the limit that is reached.
    async fn turn(&mut self) -> Result<Result<Vec<Call>, Ending>, ModelError> {
        self.refresh().await;
        self.make_room().await?;
        let turn = self.tally().turns + 1;
        let start = Instant::now();
        let completion = loop {
            let prompt = self.context.prompt(&self.messages);
            let room = match self.parts.limits.room(&self.tally(), prompt) {
                Ok(room) => room.min(self.context.answer_room(prompt)),
                Err(ending) => return Ok(Err(ending)),
            };
            let request = self.request().with_max_output(room);
            match self.ask(turn, &request).await {
                Err(ModelError::TooLong { figures, .. }) if self.context.may_learn() => {
                    self.make_room_after(figures).await?;
                }
                result => break result?,
            }
        };
        self.parts.ledger.set_turns(turn);
        Ok(Ok(self.take_in(turn, completion, millis(start.elapsed()))))
    }

    /// A request with the conversation as it is.
    fn request(&self) -> ChatRequest<'_> {
        ChatRequest::new(self.parts.profile, &self.messages, &self.definitions)
            .with_metadata(self.parts.trace.metadata())
    }

    /// One request, however often it has to be made.
    async fn ask(&self, turn: u32, request: &ChatRequest<'_>) -> Result<Completion, ModelError> {
        let messages = self.messages.len();
        let completion = self.parts.model.complete(request, |notice| match notice {
            Notice::Sent { parameters, sha256 } => {
                self.note(Event::Request { turn, messages, parameters, body_sha256: sha256 });
            }
            Notice::Retried { attempt, error, delay } => {
                self.parts.progress.line(&format!("attempt {attempt} failed: {error}"));
                self.note(Event::Retry { turn, attempt, error, delay_ms: millis(delay) });
            }
            Notice::Adapted { error, change } => {
                self.parts.progress.line(&format!("the server refused ({error}): {change}"));
                self.note(Event::Adapted { turn, error, change });
            }
        });
        completion.await
    }

    /// Adds up the tokens of an answer; where the server does not count, by our own estimate.
    fn count(&mut self, turn: u32, completion: &Completion) {
        let usage =
            completion.usage.unwrap_or_else(|| self.context.guess(&self.messages, completion));
        if !usage.estimated {
            self.context.counted(&self.messages, usage);
        }
        self.parts.ledger.add_usage(usage);
        self.note(Event::Usage { turn, usage });
    }

    fn take_in(&mut self, turn: u32, mut completion: Completion, elapsed: u64) -> Vec<Call> {
        self.count(turn, &completion);
        let written = completion.understand(&self.parts.tools.names());
        let is_cut = completion.finish_reason.as_deref() == Some("length");
        let Completion { text, reasoning, tool_calls, finish_reason, calls_from_text, .. } =
            completion;
        let calls = self.understood(turn, tool_calls, is_cut);
        let calls_a_tool =
            matches!(finish_reason.as_deref(), Some("tool_calls" | "tool_use" | "function_call"));
        self.lost_call = calls_a_tool && calls.is_empty();
        self.note(Event::Message {
            turn,
            role: "assistant".into(),
            content: text.clone(),
            written,
            reasoning,
            tool_calls: calls.iter().map(Call::as_written).collect(),
            calls_from_text,
            finish_reason,
            elapsed_ms: Some(elapsed),
        });
        if is_cut {
            self.parts
                .progress
                .line(&format!("[{turn}] the answer was cut: it reached the token limit"));
        }
        if !text.trim().is_empty() {
            self.answer.clone_from(&text);
            if !calls.is_empty() {
                self.parts.progress.line(&format!("[{turn}] {}", shorten(&text, 120)));
            }
        }
        let content = Some(text).filter(|text| !text.trim().is_empty());
        let content = content.map(|text| cut_middle(&text, LONGEST_MESSAGE));
        let tool_calls = calls.iter().map(Call::sendable).collect();
        self.messages.push(Message::Assistant { content, tool_calls });
        calls
    }

    fn last_was_empty(&self) -> bool {
        let Some(Message::Assistant { content, .. }) = self.messages.last() else { return false };
        content.as_deref().is_none_or(|text| text.trim().is_empty())
    }

    /// Writes down that one of several prompts has been worked on.
    pub fn note_prompt_end(&self, prompt: u32, cost_usd: Option<f64>) {
        self.note(Event::PromptEnd { prompt, turns: self.tally().turns, cost_usd });
    }

    fn note_message(&self, role: &str, content: &str) {
        self.note(Event::Message {
            turn: self.tally().turns,
            role: role.to_owned(),
            content: content.to_owned(),
            written: None,
            reasoning: String::new(),
            tool_calls: Vec::new(),
            calls_from_text: false,
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

pub(crate) fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
