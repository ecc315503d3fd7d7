//! Calls and thoughts that a model wrote into its text, because its server has no parser for them.
//!
//! Read where a model was trained to write them: Hermes and Qwen (`<tool_call>` with JSON), Qwen Coder and GLM
//! (`<tool_call>` with tags), Llama (`<|python_tag|>`, `<function=NAME>`, a bare object with name and parameters),
//! Mistral (`[TOOL_CALLS]`), DeepSeek, Anthropic's `<invoke>`, and the harmony format of GPT OSS. A call counts only
//! where it cannot be anything else: marked as one, or being all of the text and naming a tool that there is.

mod harmony;
mod marked;

use serde_json::Value;

use super::{Completion, ToolCall, lenient, repair};

/// Bytes of a text beyond which it is looked at no further: no call and no thought needs so many.
const LONGEST: usize = 256 << 10;

/// Thoughts, calls or messages of a text that are looked at.
const MOST: usize = 128;

/// Moves thoughts out of the text, and calls too if no call came as one. `tools` are the names that are offered.
fn take_out(completion: &mut Completion, tools: &[String]) {
    if completion.text.len() > LONGEST {
        return;
    }
    if harmony::is(&completion.text) {
        harmony::take_out(completion);
    }
    let mut rounds = 0..MOST;
    while rounds.next().is_some() && take_thought(completion) {}
    if !completion.tool_calls.is_empty() || tools.is_empty() {
        return;
    }
    let found = marked::find(&completion.text)
        .or_else(|| bare(&completion.text, tools).map(|calls| (String::new(), calls)));
    if let Some((text, calls)) = found {
        completion.text = text;
        completion.set_text_calls(calls);
    }
}

impl Completion {
    /// Takes thoughts and calls out of the text; returns the text as it was, if it has changed.
    pub fn understand(&mut self, tools: &[String]) -> Option<String> {
        let written = self.text.clone();
        take_out(self, tools);
        (written != self.text).then_some(written)
    }

    fn set_text_calls(&mut self, calls: Vec<(String, String)>) {
        self.calls_from_text = true;
        let numbered = calls.into_iter().enumerate();
        self.tool_calls = numbered
            .map(|(at, (name, arguments))| {
                ToolCall::new(format!("call_{}", at + 1), name, arguments)
            })
            .collect();
    }
}

/// Takes `<think>…</think>` from the beginning, if it is there; the opening tag may be part of the template and so be
/// missing.
fn take_thought(completion: &mut Completion) -> bool {
    for tag in ["think", "thinking", "reasoning"] {
        let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
        let text = completion.text.trim_start();
        let (thought, rest) = match text.strip_prefix(&open) {
            Some(inside) => match inside.split_once(&close) {
                Some((thought, rest)) => (thought, rest),
                None => (inside, ""),
            },
            None => match text.split_once(&close) {
                // Before a closing tag alone there are only thoughts, unless the text speaks of tags.
                Some((thought, rest)) if !thought.contains(&open) && !thought.contains('`') => {
                    (thought, rest)
                }
                _ => continue,
            },
        };
        if !completion.reasoning.is_empty() && !thought.trim().is_empty() {
            completion.reasoning.push('\n');
        }
        completion.reasoning.push_str(thought.trim());
        completion.text = rest.trim_start().to_owned();
        return true;
    }
    false
}

/// A text that is nothing but objects with the name of a tool and its arguments.
fn bare(text: &str, tools: &[String]) -> Option<Vec<(String, String)>> {
    let text = text.trim();
    let text = text.strip_prefix("```json").or_else(|| text.strip_prefix("```")).unwrap_or(text);
    let mut rest = text.trim().trim_end_matches("```").trim_end();
    if !rest.starts_with(['{', '[']) {
        return None;
    }
    let mut calls = Vec::new();
    while !rest.is_empty() {
        let (value, _, end) = lenient::read(rest)?;
        let values = match value {
            Value::Array(values) => values,
            value => vec![value],
        };
        for value in values {
            let (name, arguments) = call_of(&value)?;
            repair::name(&name, tools)?;
            calls.push((name, arguments));
        }
        rest =
            rest[end..].trim_start_matches(|c: char| c.is_whitespace() || matches!(c, ';' | ','));
    }
    (!calls.is_empty()).then_some(calls)
}

/// Name and arguments of `{"name": …, "arguments" | "parameters": {…}}`, also inside `"function"`.
fn call_of(value: &Value) -> Option<(String, String)> {
    let value = value.get("function").filter(|it| it.is_object()).unwrap_or(value);
    let name = ["name", "tool", "tool_name"].iter().find_map(|key| value[*key].as_str())?;
    let arguments =
        ["arguments", "parameters", "args", "input"].iter().find_map(|key| value.get(*key))?;
    let arguments = match arguments {
        Value::String(text) => text.clone(),
        Value::Object(_) => arguments.to_string(),
        _ => return None,
    };
    Some((name.to_owned(), arguments))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        let tools = ["Bash", "Read"].map(str::to_owned);
        let mut completion = Completion { text: text.to_owned(), ..Completion::default() };
        take_out(&mut completion, &tools);
        let calls: Vec<String> = completion
            .tool_calls
            .iter()
            .map(|call| format!("{}({})", call.function.name, call.function.arguments))
            .collect();
        format!("{:?} {:?} {}", completion.text, completion.reasoning, calls.join(" "))
    }

    #[test]
    fn every_family_is_understood() {
        let cases = [
            "I look.\n<tool_call>\n{\"name\": \"Bash\", \"arguments\": {\"command\": \"ls\"}}\n</tool_call>",
            "<tool_call>{\"name\": \"Bash\", \"arguments\": {\"command\": \"ls\"}}</tool_call><tool_call>{\"name\": \"Read\", \"arguments\": \"{}\"}",
            "<tool_call>\n<function=Bash>\n<parameter=command>\nls\n  -la\n</parameter>\n<parameter=timeout>\n5\n</parameter>\n</function>\n</tool_call>",
            "<tool_call>Bash\n<arg_key>command</arg_key>\n<arg_value>ls</arg_value>\n</tool_call>",
            "{\"name\": \"Bash\", \"parameters\": {\"command\": \"ls\"}}",
            "<|python_tag|>{\"name\": \"Bash\", \"parameters\": {\"command\": \"ls\"}}; {\"name\": \"Read\", \"parameters\": {}}<|eom_id|>",
            "<function=Bash>{\"command\": \"ls\"}</function>",
            "[TOOL_CALLS][{\"name\": \"Bash\", \"arguments\": {\"command\": \"ls\"}}]",
            "[TOOL_CALLS]Bash[ARGS]{\"command\": \"ls\"}",
            "<function_calls>\n<invoke name=\"Bash\">\n<parameter name=\"command\">ls</parameter>\n</invoke>\n</function_calls>",
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>Bash\n```json\n{\"command\": \"ls\"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
            "<|channel|>analysis<|message|>I should look.<|end|><|start|>assistant<|channel|>commentary to=functions.Bash <|constrain|>json<|message|>{\"command\": \"ls\"}<|call|>",
            "<|channel|>analysis<|message|>Easy.<|end|><|start|>assistant<|channel|>final<|message|>Four.<|return|>",
            "```json\n{\"name\": \"Bash\", \"arguments\": {\"command\": \"ls\"}}\n```",
            "<think>hm</think>\n\n<tool_call>{\"name\": \"Bash\", \"arguments\": {}}</tool_call>",
        ];
        insta::assert_snapshot!(cases.map(read).join("\n"), @r##"
        "I look." "" Bash({"command":"ls"})
        "" "" Bash({"command":"ls"}) Read({})
        "" "" Bash({"command":"ls\n  -la","timeout":"5"})
        "" "" Bash({"command":"ls"})
        "" "" Bash({"command":"ls"})
        "" "" Bash({"command":"ls"}) Read({})
        "" "" Bash({"command": "ls"})
        "" "" Bash({"command":"ls"})
        "" "" Bash({"command": "ls"})
        "" "" Bash({"command":"ls"})
        "" "" Bash({"command": "ls"})
        "" "I should look." functions.Bash({"command": "ls"})
        "Four." "Easy." 
        "" "" Bash({"command":"ls"})
        "" "hm" Bash({})
        "##);
    }

    #[test]
    fn thoughts_are_told_from_the_answer() {
        assert_eq!(read("<think>\nhm\n</think>\n\nFour."), r#""Four." "hm" "#);
        assert_eq!(read("hm</think>Four."), r#""Four." "hm" "#);
        assert_eq!(read("<think>never done"), r#""" "never done" "#);
        assert_eq!(read("Use `</think>` to end it."), r#""Use `</think>` to end it." "" "#);
    }

    #[test]
    fn an_answer_about_calls_is_an_answer() {
        for text in [
            "The object {\"name\": \"Bash\", \"parameters\": {}} calls a tool.",
            "{\"name\": \"Goat\", \"parameters\": {}}",
            "{\"name\": \"Bash\", \"version\": 5}",
            "[1, 2]",
            "Write:\n```\n<tool_call>{\"name\": \"Bash\", \"arguments\": {}}</tool_call>\n```",
            "The tag <tool_call> opens a call.",
            "",
        ] {
            assert_eq!(read(text), format!("{text:?} \"\" "), "{text}");
        }
    }
}
