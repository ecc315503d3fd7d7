//! Runs the calls of one message: in the model's order, those that only read side by side.

use std::time::Instant;

use super::{Session, calls::Call, millis};
use crate::{
    model::Message,
    progress::shorten,
    skills::SKILL,
    tool::{Arguments, ToolOutput, marked, text::cut_middle},
    transcript::Event,
};

/// Calls that only read which run at once. More would mostly wait for the same disk.
const AT_ONCE: usize = 8;

/// Calls of one message that are run. A model that makes more has lost its way; OpenAI's API allows as many tools.
const MOST_CALLS: usize = 128;

impl Session<'_> {
    /// Runs the calls and adds their results to the conversation, in the order of the calls.
    ///
    /// A call that changes something runs alone, after everything before it and before everything after it, so the
    /// results are those of running the calls one by one.
    pub(super) async fn run_tools(&mut self, calls: &[Call]) {
        let turn = self.tally().turns;
        let (calls, surplus) = calls.split_at(calls.len().min(MOST_CALLS));
        for group in groups(calls, |call| self.parts.tools.is_read_only(&call.name)) {
            self.parts.ledger.add_calls(group.len());
            let outputs = match group {
                [call] if self.forks(call).is_some() => vec![self.run_fork(turn, call).await],
                group => {
                    futures::future::join_all(group.iter().map(|call| self.run(turn, call))).await
                }
            };
            for (call, content) in group.iter().zip(outputs) {
                self.messages.push(Message::Tool { tool_call_id: call.id.clone(), content });
            }
        }
        for call in surplus {
            let content = self.refuse(turn, call);
            self.messages.push(Message::Tool { tool_call_id: call.id.clone(), content });
        }
    }

    /// Every call needs a result, also one that is not run.
    fn refuse(&self, turn: u32, call: &Call) -> String {
        self.note_call(turn, call);
        let told = format!("Error: not run: only the first {MOST_CALLS} calls of a message are");
        self.take_result(turn, call, ToolOutput::error(told), false, Instant::now())
    }

    /// Runs a call and returns what the model is told.
    async fn run(&self, turn: u32, call: &Call) -> String {
        self.note_call(turn, call);
        let start = Instant::now();
        let output = self.parts.tools.call(&call.name, &call.arguments).await;
        // The text of a skill comes from the one who gives the task: it is meant to instruct.
        let is_users = call.name == SKILL && !output.is_error;
        self.take_result(turn, call, output, is_users, start)
    }

    pub(super) fn note_call(&self, turn: u32, call: &Call) {
        let gist = Arguments::parse(&call.arguments)
            .map_or_else(|_| call.arguments.clone(), |it| it.gist());
        self.parts.progress.line(&format!("[{turn}] {} {}", call.name, shorten(&gist, 100)));
        self.note(Event::ToolCall {
            turn,
            id: call.id.clone(),
            name: call.name.clone(),
            arguments: call.arguments.clone(),
            repairs: call.repairs.clone(),
        });
    }

    /// Puts a result into the form in which the model is told, and writes it down. What is not the user's is marked.
    pub(super) fn take_result(
        &self,
        turn: u32,
        call: &Call,
        output: ToolOutput,
        is_users: bool,
        start: Instant,
    ) -> String {
        if output.is_error {
            let last = output.text.trim_end().lines().last().unwrap_or_default();
            let failure = format!("[{turn}] {} failed: {}", call.name, shorten(last, 100));
            self.parts.progress.line(&failure);
        }
        let content = cut_middle(&output.text, self.context.longest_result());
        let content = if is_users { content } else { marked::as_data(&content) };
        let ToolOutput { text, is_error, full } = output;
        let full = full.unwrap_or_else(|| marked::Full::of(text.as_bytes()));
        self.note(Event::ToolResult {
            turn,
            id: call.id.clone(),
            name: call.name.clone(),
            output: content.clone(),
            is_error,
            full_bytes: full.bytes,
            full_sha256: full.sha256,
            elapsed_ms: millis(start.elapsed()),
        });
        content
    }
}

/// Splits calls into groups that may run at once: neighbours that only read, and single others.
fn groups(calls: &[Call], reads: impl Fn(&Call) -> bool) -> Vec<&[Call]> {
    let runs = calls.chunk_by(|one, next| reads(one) && reads(next));
    runs.flat_map(|run| run.chunks(AT_ONCE)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ToolCall;

    fn call(name: &str) -> Call {
        Call::read(ToolCall::new("", name, ""), &[], false)
    }

    #[test]
    fn writes_are_fences() {
        let calls = ["r", "r", "w", "w", "r"].map(call);
        let sizes: Vec<usize> =
            groups(&calls, |it| it.name == "r").iter().map(|it| it.len()).collect();
        assert_eq!(sizes, [2, 1, 1, 1]);
    }

    #[test]
    fn many_reads_are_split() {
        let calls = vec![call("r"); AT_ONCE + 1];
        let sizes: Vec<usize> = groups(&calls, |_| true).iter().map(|it| it.len()).collect();
        assert_eq!(sizes, [AT_ONCE, 1]);
    }
}
