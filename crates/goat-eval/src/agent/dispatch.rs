//! Runs the calls of one message: in the model's order, those that only read side by side.

use std::time::Instant;

use super::{Session, millis};
use crate::{
    model::{Message, ToolCall},
    progress::shorten,
    tool::{Arguments, ToolOutput},
    transcript::Event,
};

/// Calls that only read which run at once. More would mostly wait for the same disk.
const AT_ONCE: usize = 8;

impl Session<'_> {
    /// Runs the calls and adds their results to the conversation, in the order of the calls.
    ///
    /// A call that changes something runs alone, after everything before it and before everything after it, so the
    /// results are those of running the calls one by one.
    pub(super) async fn run_tools(&mut self, calls: &[ToolCall]) {
        let turn = self.tally.turns;
        for group in groups(calls, |call| self.parts.tools.is_read_only(&call.function.name)) {
            self.tally.tool_calls += u32::try_from(group.len()).unwrap_or(u32::MAX);
            let outputs = match group {
                [call] if self.forks(call).is_some() => vec![self.run_fork(turn, call).await],
                group => {
                    futures::future::join_all(group.iter().map(|call| self.run(turn, call))).await
                }
            };
            for (call, output) in group.iter().zip(outputs) {
                self.messages
                    .push(Message::Tool { tool_call_id: call.id.clone(), content: output.text });
            }
        }
    }

    async fn run(&self, turn: u32, call: &ToolCall) -> ToolOutput {
        self.note_call(turn, call);
        let start = Instant::now();
        let output = self.parts.tools.call(&call.function.name, &call.function.arguments).await;
        self.note_result(turn, call, &output, start);
        output
    }

    pub(super) fn note_call(&self, turn: u32, call: &ToolCall) {
        let function = &call.function;
        let gist = Arguments::parse(&function.arguments)
            .map_or_else(|_| function.arguments.clone(), |it| it.gist());
        self.parts.progress.line(&format!("[{turn}] {} {}", function.name, shorten(&gist, 100)));
        self.note(Event::ToolCall {
            turn,
            id: call.id.clone(),
            name: function.name.clone(),
            arguments: function.arguments.clone(),
        });
    }

    pub(super) fn note_result(
        &self,
        turn: u32,
        call: &ToolCall,
        output: &ToolOutput,
        start: Instant,
    ) {
        let name = call.function.name.clone();
        if output.is_error {
            let last = output.text.trim_end().lines().last().unwrap_or_default();
            let failure = format!("[{turn}] {name} failed: {}", shorten(last, 100));
            self.parts.progress.line(&failure);
        }
        self.note(Event::ToolResult {
            turn,
            id: call.id.clone(),
            name,
            output: output.text.clone(),
            is_error: output.is_error,
            elapsed_ms: millis(start.elapsed()),
        });
    }
}

/// Splits calls into groups that may run at once: neighbours that only read, and single others.
fn groups(calls: &[ToolCall], reads: impl Fn(&ToolCall) -> bool) -> Vec<&[ToolCall]> {
    let runs = calls.chunk_by(|one, next| reads(one) && reads(next));
    runs.flat_map(|run| run.chunks(AT_ONCE)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_fences() {
        let calls = ["r", "r", "w", "w", "r"].map(|name| ToolCall::new("", name, ""));
        let sizes: Vec<usize> =
            groups(&calls, |it| it.function.name == "r").iter().map(|it| it.len()).collect();
        assert_eq!(sizes, [2, 1, 1, 1]);
    }

    #[test]
    fn many_reads_are_split() {
        let calls = vec![ToolCall::new("", "r", ""); AT_ONCE + 1];
        let sizes: Vec<usize> = groups(&calls, |_| true).iter().map(|it| it.len()).collect();
        assert_eq!(sizes, [AT_ONCE, 1]);
    }
}
