//! A model's calls, as it wrote them and as they are understood.

use super::Session;
use crate::{
    model::{ToolCall, repair},
    tool::Arguments,
};

/// One call.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    /// What its result refers to; unlike any other of the conversation.
    pub(super) id: String,
    /// The tool's name and the arguments as the model wrote them.
    pub(super) written: (String, String),
    /// The same as they are understood.
    pub(super) name: String,
    pub(super) arguments: String,
    /// What was mended.
    pub(super) repairs: Vec<String>,
}

impl Call {
    /// Reads a call; `is_cut` says that the answer reached its token limit.
    pub(super) fn read(call: ToolCall, known: &[String], is_cut: bool) -> Self {
        let written = (call.function.name, call.function.arguments);
        let mut repairs = Vec::new();
        let name = match repair::name(&written.0, known) {
            Some(name) => name.to_owned(),
            None => written.0.clone(),
        };
        if name != written.0 {
            repairs.push(format!("name `{}`", written.0));
        }
        let arguments = match repair::arguments(&written.1, is_cut) {
            Some(repaired) => {
                repairs.extend(repaired.repairs.into_iter().map(str::to_owned));
                repaired.arguments
            }
            None => written.1.clone(),
        };
        Call { id: call.id, written, name, arguments, repairs }
    }

    /// For the transcript.
    pub(super) fn as_written(&self) -> ToolCall {
        ToolCall::new(&self.id, &self.written.0, &self.written.1)
    }

    /// As it is sent back: servers refuse a conversation that holds broken arguments, or a name with other
    /// characters than these. The model is told what was wrong with it.
    pub(super) fn sendable(&self) -> ToolCall {
        let is_broken =
            self.arguments.trim().is_empty() || Arguments::parse(&self.arguments).is_err();
        let arguments = if is_broken { "{}" } else { &self.arguments };
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
        let name: String = self.name.chars().take(64).map(plain).collect();
        ToolCall::new(&self.id, if name.is_empty() { "unnamed" } else { &name }, arguments)
    }
}

impl Session<'_> {
    /// The calls of one message, mended where possible, each with an id of its own.
    pub(super) fn understood(
        &mut self,
        turn: u32,
        calls: Vec<ToolCall>,
        is_cut: bool,
    ) -> Vec<Call> {
        let known = self.parts.tools.names();
        let mut understood = Vec::with_capacity(calls.len());
        for (position, call) in calls.into_iter().enumerate() {
            let mut call = Call::read(call, &known, is_cut);
            if call.id.is_empty() || self.ids.contains(&call.id) {
                call.id = self.new_id(turn, position);
            }
            self.ids.insert(call.id.clone());
            understood.push(call);
        }
        understood
    }

    fn new_id(&self, turn: u32, position: usize) -> String {
        let base = format!("call_{turn}_{}", position + 1);
        let more = (2..).map(|count| format!("{base}_{count}"));
        let mut free = std::iter::once(base.clone()).chain(more);
        free.find(|id| !self.ids.contains(id)).unwrap_or(base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_arguments_are_not_sent_back() {
        let sent = |arguments: &str| {
            let call = Call::read(ToolCall::new("a", "Read", arguments), &["Read".into()], false);
            call.sendable().function.arguments
        };
        assert_eq!(sent("{\"x"), "{}");
        assert_eq!(sent(""), "{}");
        assert_eq!(sent("{\"x\": 1}"), "{\"x\": 1}");
        assert_eq!(sent("{\"x\": 1,}"), "{\"x\":1}");
    }

    #[test]
    fn names_can_be_sent_back_whatever_the_model_wrote() {
        let sent = |name: &str| {
            let call = Call::read(ToolCall::new("a", name, "{}"), &["Read".into()], false);
            call.sendable().function.name
        };
        assert_eq!(sent("functions.Read"), "Read");
        assert_eq!(sent("do it, now!"), "do_it__now_");
        assert_eq!(sent(""), "unnamed");
        assert_eq!(sent(&"x".repeat(100)).len(), 64);
    }
}
