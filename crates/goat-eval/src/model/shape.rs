//! Puts messages into the shape that a server's chat template takes.

use serde_json::{Value, json};

use super::{Message, ToolCall, ToolDefinition, dialect::Dialect};

/// The messages of a request. In the standard's shape, unless the server has refused that.
pub(crate) fn messages(messages: &[Message], tools: &[ToolDefinition], dialect: &Dialect) -> Value {
    let mut shaped: Vec<Message> = messages.to_vec();
    if dialect.single_calls {
        shaped = one_call_each(shaped);
    }
    if dialect.tools_in_prompt {
        shaped = as_text(shaped, tools);
    }
    if dialect.no_system {
        shaped = without_system(shaped);
    }
    shaped.iter().map(|message| wire(message, dialect)).collect()
}

fn wire(message: &Message, dialect: &Dialect) -> Value {
    let mut value = serde_json::to_value(message).unwrap_or_default();
    if dialect.text_always && value["content"].is_null() {
        value["content"] = "".into();
    }
    value
}

/// Gives every call a message of its own, followed by its result.
fn one_call_each(messages: Vec<Message>) -> Vec<Message> {
    let mut shaped = Vec::with_capacity(messages.len());
    let mut rest = messages.into_iter().peekable();
    while let Some(message) = rest.next() {
        let Message::Assistant { content, tool_calls } = message else {
            shaped.push(message);
            continue;
        };
        let mut results = Vec::new();
        while let Some(result) = rest.next_if(|it| matches!(it, Message::Tool { .. })) {
            results.push(result);
        }
        if tool_calls.len() < 2 {
            shaped.push(Message::Assistant { content, tool_calls });
            shaped.append(&mut results);
            continue;
        }
        let mut content = content;
        for call in tool_calls {
            let answers = |it: &Message| matches!(it, Message::Tool { tool_call_id, .. } if *tool_call_id == call.id);
            let result = results.iter().position(answers).map(|at| results.remove(at));
            shaped.push(Message::Assistant { content: content.take(), tool_calls: vec![call] });
            shaped.extend(result);
        }
        shaped.append(&mut results);
    }
    shaped
}

/// Calls and results as text, for a server without tools: the form that Hermes and Qwen models are trained on.
fn as_text(messages: Vec<Message>, tools: &[ToolDefinition]) -> Vec<Message> {
    let mut shaped: Vec<Message> = Vec::with_capacity(messages.len());
    for message in messages {
        match message {
            Message::System { content } if shaped.is_empty() => {
                shaped.push(Message::System { content: content + &description(tools) });
            }
            Message::Assistant { content, tool_calls } => {
                let calls = tool_calls.iter().map(call_text);
                let parts: Vec<String> = content.into_iter().chain(calls).collect();
                let content = Some(parts.join("\n"));
                shaped.push(Message::Assistant { content, tool_calls: Vec::new() });
            }
            Message::Tool { content, .. } => {
                let text = format!("<tool_response>\n{content}\n</tool_response>");
                match shaped.last_mut() {
                    Some(Message::User { content }) if content.starts_with("<tool_response>") => {
                        content.push('\n');
                        content.push_str(&text);
                    }
                    _ => shaped.push(Message::User { content: text }),
                }
            }
            other => shaped.push(other),
        }
    }
    shaped
}

fn call_text(call: &ToolCall) -> String {
    let arguments: Value = serde_json::from_str(&call.function.arguments).unwrap_or_default();
    let call = json!({"name": call.function.name, "arguments": arguments});
    format!("<tool_call>\n{call}\n</tool_call>")
}

fn description(tools: &[ToolDefinition]) -> String {
    let lines: Vec<String> = tools.iter().map(|tool| tool.to_wire().to_string()).collect();
    format!(
        "\n\n# How tools are called\nThe tools, one JSON object a line:\n<tools>\n{}\n</tools>\nTo call one, write its \
         name and arguments as JSON between these tags, and nothing after them:\n<tool_call>\n{{\"name\": NAME, \
         \"arguments\": OBJECT}}\n</tool_call>\nThe result comes between <tool_response> tags.\n",
        lines.join("\n")
    )
}

/// The instructions at the head of the first user message, for templates that know no system role.
fn without_system(messages: Vec<Message>) -> Vec<Message> {
    let mut instructions = String::new();
    let mut shaped = Vec::with_capacity(messages.len());
    for message in messages {
        match message {
            Message::System { content } => {
                instructions.push_str(&content);
                instructions.push_str("\n\n");
            }
            Message::User { content } => {
                shaped
                    .push(Message::User { content: std::mem::take(&mut instructions) + &content });
            }
            other => shaped.push(other),
        }
    }
    shaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation() -> Vec<Message> {
        let calls = vec![ToolCall::new("a", "Read", "{\"x\":1}"), ToolCall::new("b", "Glob", "{}")];
        vec![
            Message::System { content: "s".into() },
            Message::User { content: "u".into() },
            Message::Assistant { content: None, tool_calls: calls },
            Message::Tool { tool_call_id: "a".into(), content: "ra".into() },
            Message::Tool { tool_call_id: "b".into(), content: "rb".into() },
        ]
    }

    #[test]
    fn calls_get_messages_of_their_own() {
        let dialect = Dialect { single_calls: true, text_always: true, ..Dialect::default() };
        let shaped = messages(&conversation(), &[], &dialect);
        let roles: Vec<&str> =
            shaped.as_array().unwrap().iter().map(|it| it["role"].as_str().unwrap()).collect();
        assert_eq!(roles, ["system", "user", "assistant", "tool", "assistant", "tool"]);
        assert_eq!(shaped[4]["tool_calls"][0]["id"], shaped[5]["tool_call_id"]);
        assert_eq!(shaped[2]["content"], "");
    }

    #[test]
    fn without_tools_everything_is_text() {
        let dialect = Dialect { tools_in_prompt: true, no_system: true, ..Dialect::default() };
        let tools = [ToolDefinition {
            name: "Read".into(),
            description: "d".into(),
            parameters: json!({}),
        }];
        let shaped = messages(&conversation(), &tools, &dialect);
        assert_eq!(shaped.as_array().unwrap().len(), 3);
        let first = shaped[0]["content"].as_str().unwrap();
        assert!(first.starts_with("s\n\n#") && first.ends_with("\n\nu"), "{first}");
        assert_eq!(
            shaped[1]["content"],
            "<tool_call>\n{\"name\":\"Read\",\"arguments\":{\"x\":1}}\n</tool_call>\n<tool_call>\n{\"name\":\"Glob\",\"arguments\":{}}\n</tool_call>"
        );
        assert_eq!(
            shaped[2]["content"],
            "<tool_response>\nra\n</tool_response>\n<tool_response>\nrb\n</tool_response>"
        );
    }
}
