//! What the providers do differently, played against the real agent: every file of `fixtures/llm/quirks`.

use std::path::PathBuf;

use llm_replay::{Library, Recording, ReplayConfig, ReplayServer};
use serde_json::Value;

use crate::support::{Agent, Finished, KEY};

/// A file, arguments of the agent, and what has to be in the transcript: a kind of event, a field of it, and a part
/// of that field.
type Quirk =
    (&'static str, &'static [&'static str], &'static [(&'static str, &'static str, &'static str)]);

const HOT: &[&str] = &["--temperature", "0.3"];
const FROM_TEXT: &[(&str, &str, &str)] =
    &[("message", "calls_from_text", "true"), ("tool_result", "output", "goat")];
const LEARNED: &[(&str, &str, &str)] = &[("compaction", "reason", "refused by the server")];
const SHORTENED: &[(&str, &str, &str)] =
    &[("compaction", "shortened", "left out to save context"), ("compaction", "reason", "refused")];
const THOUGHT: &[(&str, &str, &str)] = &[("message", "reasoning", "hm, easy")];
const COUNTED: &[(&str, &str, &str)] =
    &[("usage", "input_tokens", "100"), ("usage", "output_tokens", "10")];

const QUIRKS: &[Quirk] = &[
    (
        "openai-max-completion-tokens",
        &[],
        &[
            ("adapted", "change", "max_completion_tokens"),
            ("request", "parameters", "max_completion_tokens"),
        ],
    ),
    ("openai-temperature", HOT, &[("adapted", "change", "leaves out temperature")]),
    ("litellm-temperature", HOT, &[("adapted", "change", "leaves out temperature")]),
    (
        "azure-stream-options",
        &[],
        &[("adapted", "change", "leaves out stream_options"), ("usage", "estimated", "true")],
    ),
    ("openai-output-limit", &[], &[("adapted", "change", "at most 4096")]),
    ("anthropic-output-limit", &[], &[("adapted", "change", "at most 8192")]),
    ("fastapi-extra-field", &[], &[("adapted", "change", "leaves out stream_options")]),
    (
        "vllm-no-tool-parser",
        &[],
        &[("adapted", "change", "tool_choice none"), ("message", "calls_from_text", "true")],
    ),
    (
        "ollama-no-tools",
        &[],
        &[("adapted", "change", "system message"), ("message", "calls_from_text", "true")],
    ),
    ("llama-single-calls", &[], &[("adapted", "change", "a message of its own")]),
    ("gemma-no-system", &[], &[("adapted", "change", "first user message")]),
    ("groq-tool-use-failed", &[], FROM_TEXT),
    ("groq-tool-use-failed-unreadable", &[], &[("retry", "error", "Failed to call a function")]),
    (
        "hermes-tool-call",
        &[],
        &[
            ("message", "calls_from_text", "true"),
            ("message", "reasoning", "I should look."),
            ("message", "written", "<tool_call>"),
        ],
    ),
    ("qwen-coder-tool-call", &[], FROM_TEXT),
    ("glm-tool-call", &[], FROM_TEXT),
    ("llama-json", &[], FROM_TEXT),
    ("llama-python-tag", &[], FROM_TEXT),
    ("mistral-tool-calls", &[], FROM_TEXT),
    ("deepseek-tool-calls", &[], FROM_TEXT),
    ("anthropic-invoke", &[], FROM_TEXT),
    (
        "gpt-oss-harmony",
        &[],
        &[
            ("message", "calls_from_text", "true"),
            ("message", "reasoning", "I should look."),
            ("tool_call", "repairs", "functions.Bash"),
        ],
    ),
    ("gpt-oss-name", &[], &[("tool_call", "repairs", "Bash<|channel|>commentary")]),
    ("reasoning-content", &[], THOUGHT),
    ("reasoning", &[], THOUGHT),
    ("think-tags", &[], THOUGHT),
    ("calls-without-index", &[], &[("tool_result", "output", "sheep")]),
    ("calls-with-one-index", &[], &[("tool_result", "output", "sheep")]),
    (
        "duplicate-ids",
        &[],
        &[
            ("tool_call", "id", "call_0"),
            ("tool_call", "id", "call_1_2"),
            ("tool_call", "id", "call_2_1"),
        ],
    ),
    ("content-as-parts", &[], COUNTED),
    ("function-call", &[], &[("tool_result", "output", "goat")]),
    ("arguments-as-object", &[], &[("tool_result", "output", "goat")]),
    ("unknown-finish-reason", &[], &[("message", "finish_reason", "abort")]),
    ("stop-with-calls", &[], &[("tool_result", "output", "goat")]),
    ("usage-missing", &[], &[("usage", "estimated", "true")]),
    ("groq-usage", &[], COUNTED),
    ("error-in-stream", &[], &[("retry", "error", "the upstream went away")]),
    ("stream-cut", &[], &[("retry", "error", "ended before the answer did")]),
    ("anthropic-overloaded", &[], &[("retry", "error", "Overloaded")]),
    ("empty-answer", &[], &[("message", "content", "Your last message was empty.")]),
    (
        "malformed-arguments",
        &[],
        &[
            ("tool_call", "repairs", "trailing comma"),
            ("tool_call", "repairs", "code fence"),
            ("tool_call", "repairs", "JSON inside a string"),
            ("tool_call", "repairs", "surplus brackets"),
            ("tool_call", "repairs", "single quotes"),
            ("tool_call", "repairs", "control character"),
            ("message", "tool_calls", "echo goat\\\",}"),
        ],
    ),
    (
        "broken-arguments",
        &[],
        &[("tool_result", "output", "not a JSON object"), ("message", "tool_calls", "touch goa")],
    ),
    (
        "anthropic-finish",
        &[],
        &[("message", "finish_reason", "end_turn"), ("usage", "cached_tokens", "50")],
    ),
    ("context-openai", &[], SHORTENED),
    ("context-azure", &[], SHORTENED),
    ("context-anthropic", &[], SHORTENED),
    ("context-groq", &[], SHORTENED),
    ("context-vllm", &[], SHORTENED),
    ("context-litellm", &[], SHORTENED),
    ("context-vllm-answer", &[], LEARNED),
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/llm/quirks")
}

async fn server() -> ReplayServer {
    let config = ReplayConfig { key: Some(KEY.into()), ..ReplayConfig::new([folder()]) };
    ReplayServer::start(config).await.unwrap()
}

fn prompt_of(name: &str) -> String {
    let recording = Recording::read(&folder().join(format!("{name}.json"))).unwrap();
    match &recording.conversation[0] {
        llm_replay::Entry::User(prompt) => prompt.clone(),
        other => panic!("{name} begins with {other:?}"),
    }
}

fn holds(run: &Finished, event: &str, field: &str, part: &str) -> bool {
    run.events_of(event).iter().any(|it| match &it[field] {
        Value::String(text) => text.contains(part),
        other => other.to_string().contains(part),
    })
}

#[tokio::test]
async fn every_quirk_is_coped_with() {
    let server = server().await;
    let mut failed = Vec::new();
    for (name, arguments, expected) in QUIRKS {
        let run = Agent::at(&server.url()).prompt(&prompt_of(name)).args(arguments).run().await;
        if (run.code, run.stdout.as_str()) != (Some(0), "done") {
            failed.push(format!("{name}: {:?} {:?} {}", run.code, run.stdout, run.stderr));
            continue;
        }
        for (event, field, part) in *expected {
            if !holds(&run, event, field, part) {
                failed.push(format!("{name}: no {event} whose {field} holds {part:?}"));
            }
        }
        assert!(!run.everything().contains(KEY), "{name}");
        assert_eq!(run.leftovers(), Vec::<String>::new(), "{name}");
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn no_file_is_left_out() {
    let library = Library::read(&[folder()]).unwrap();
    let files = library.iter().map(|(name, _)| name.trim_end_matches(".json").to_owned());
    let unknown: Vec<String> = files
        .filter(|name| !name.ends_with("_after"))
        .filter(|name| QUIRKS.iter().all(|(known, ..)| known != name))
        .collect();
    assert!(unknown.is_empty(), "{unknown:?} are not played");
}
