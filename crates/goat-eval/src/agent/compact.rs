//! Makes a conversation shorter. Pure: messages in, messages out.
//!
//! Whatever is changed costs the server's cache of all that follows it, so as little as possible is: old results
//! first and only as many as needed, the newest never, and instructions and the task not at all.

use serde::{Deserialize, Serialize};

use super::context::size;
use crate::{model::Message, tool::text::split_chars};

/// Characters that stay of each end of a shortened text.
const END: usize = 300;

/// A result that was shortened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shortened {
    /// Position of the message, from 0.
    pub message: usize,
    /// The call that it answers.
    pub tool_call_id: String,
    /// Bytes before.
    pub from: usize,
    /// What the model sees from here on.
    pub content: String,
}

/// Shortens results of tools before position `end`, the oldest first, until `surplus` bytes are saved or all are
/// short.
pub(super) fn shorten(messages: &mut [Message], end: usize, surplus: usize) -> Vec<Shortened> {
    let mut saved = 0;
    let mut shortened = Vec::new();
    for (position, message) in messages[..end].iter_mut().enumerate() {
        if saved >= surplus {
            break;
        }
        let Message::Tool { tool_call_id, content } = message else { continue };
        let Some(shorter) = shorter(content, END) else { continue };
        let from = content.len();
        saved += from - shorter.len();
        content.clone_from(&shorter);
        let tool_call_id = tool_call_id.clone();
        shortened.push(Shortened { message: position, tool_call_id, from, content: shorter });
    }
    shortened
}

/// Both ends of a text with a note between them, if that saves anything worth it.
fn shorter(text: &str, end: usize) -> Option<String> {
    let count = text.chars().count();
    if count < 3 * end + 100 {
        return None;
    }
    let (head, _) = split_chars(text, end);
    let (_, tail) = split_chars(text, count - end);
    let left = count - 2 * end;
    Some(format!(
        "{head}\n[… {left} characters left out to save context; call the tool again to see them …]\n{tail}"
    ))
}

/// Where the newest exchange begins: the last message of the model, whose results must stay whole.
pub(super) fn newest(messages: &[Message]) -> usize {
    let last = messages.iter().rposition(|it| matches!(it, Message::Assistant { .. }));
    last.unwrap_or(messages.len())
}

/// Where the part begins that stays as it is when the rest becomes a summary: at a message of the model, as late as
/// needed for the part to have at most `most` bytes, and not before `from`.
pub(super) fn tail(messages: &[Message], from: usize, most: usize) -> usize {
    let mut start = messages.len();
    let mut bytes = 0;
    for (position, message) in messages.iter().enumerate().skip(from).rev() {
        bytes += size(message);
        if bytes > most {
            break;
        }
        if matches!(message, Message::Assistant { .. }) {
            start = position;
        }
    }
    start
}

/// What is said where the model itself could not sum up: which tools were called, and how they began.
pub(super) fn bare_summary(messages: &[Message]) -> String {
    let mut lines: Vec<String> = Vec::new();
    for message in messages {
        let Message::Assistant { content, tool_calls } = message else { continue };
        if let Some(text) = content {
            lines.push(format!("- said: {}", crate::progress::shorten(text, 200)));
        }
        for call in tool_calls {
            let arguments = crate::progress::shorten(&call.function.arguments, 120);
            lines.push(format!("- called {} {arguments}", call.function.name));
        }
    }
    let skipped = lines.len().saturating_sub(40);
    let mut text = lines.split_off(skipped).join("\n");
    if skipped > 0 {
        text = format!("- ({skipped} earlier steps)\n{text}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ToolCall;

    fn exchange(id: &str, length: usize) -> [Message; 2] {
        let call = ToolCall::new(id, "Bash", "{}");
        [
            Message::Assistant { content: None, tool_calls: vec![call] },
            Message::Tool { tool_call_id: id.into(), content: "r".repeat(length) },
        ]
    }

    fn conversation() -> Vec<Message> {
        let mut messages =
            vec![Message::System { content: "s".into() }, Message::User { content: "u".into() }];
        for id in ["a", "b", "c"] {
            messages.extend(exchange(id, 5_000));
        }
        messages
    }

    #[test]
    fn only_as_many_results_are_shortened_as_needed_and_the_newest_never() {
        let mut messages = conversation();
        let before = messages.clone();
        let end = newest(&messages);
        assert_eq!(end, 6);
        let shortened = shorten(&mut messages, end, 4_000);
        assert_eq!(shortened.len(), 1);
        assert_eq!((shortened[0].message, shortened[0].from), (3, 5_000));
        assert!(shortened[0].content.len() < 800);
        assert_eq!(messages[..3], before[..3]);
        assert_eq!(messages[4..], before[4..]);
        let again = shorten(&mut messages, end, usize::MAX);
        assert_eq!(again.iter().map(|it| it.message).collect::<Vec<_>>(), [5]);
        assert!(shorten(&mut messages, end, usize::MAX).is_empty());
    }

    #[test]
    fn the_part_that_stays_begins_at_a_message_of_the_model() {
        let messages = conversation();
        assert_eq!(tail(&messages, 2, 6_000), 6);
        assert_eq!(tail(&messages, 2, 11_000), 4);
        assert_eq!(tail(&messages, 2, 100), messages.len());
        assert_eq!(tail(&messages, 5, usize::MAX), 6);
    }

    #[test]
    fn steps_are_listed_where_there_is_no_summary() {
        assert_eq!(bare_summary(&conversation()).lines().count(), 3);
        let many: Vec<Message> = (0..50).flat_map(|it| exchange(&it.to_string(), 1)).collect();
        assert!(bare_summary(&many).starts_with("- (10 earlier steps)\n"));
    }
}
