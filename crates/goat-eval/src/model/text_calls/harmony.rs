//! The harmony format of GPT OSS: messages with a channel, `analysis`, `commentary` or `final`; a message `to=` a
//! function is a call. (Format: OpenAI's harmony guide, read 2026-11.)

use crate::model::Completion;

const MESSAGE: &str = "<|message|>";
const ENDS: [&str; 4] = ["<|end|>", "<|return|>", "<|call|>", "<|start|>"];

/// Whether a text is in this format.
pub(super) fn is(text: &str) -> bool {
    text.contains("<|channel|>") && text.contains(MESSAGE)
}

/// Puts the text's messages where they belong.
pub(super) fn take_out(completion: &mut Completion) {
    let text = std::mem::take(&mut completion.text);
    let mut calls = Vec::new();
    let mut rest = text.as_str();
    for _ in 0..super::MOST {
        let Some((header, after)) = rest.split_once(MESSAGE) else { break };
        let end = ENDS.iter().filter_map(|mark| after.find(mark)).min().unwrap_or(after.len());
        let (content, tail) = after.split_at(end);
        rest = tail;
        let recipient = header.split_once("to=").map(|(_, to)| to);
        let recipient = recipient.and_then(|to| to.split([' ', '<', '\n']).next());
        match recipient.filter(|to| !to.is_empty() && *to != "assistant") {
            Some(to) => calls.push((to.to_owned(), content.trim().to_owned())),
            None if header.contains("analysis") => add(&mut completion.reasoning, content),
            None => add(&mut completion.text, content),
        }
    }
    if completion.tool_calls.is_empty() && !calls.is_empty() {
        completion.set_text_calls(calls);
    }
}

fn add(text: &mut String, more: &str) {
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(more.trim());
}
