//! Models and servers that do what they should not, drawn at random: whatever comes, the agent ends in order, prints
//! no key and leaves nothing behind.

use std::time::{Duration, Instant};

use proptest::{
    collection::vec,
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::{Value, json};

use crate::{
    replay::rebuilt,
    support::{Agent, Finished, KEY, Model, Reply},
};

/// Conversations of one test.
const CASES: usize = 48;

/// Conversations at once.
const AT_ONCE: usize = 6;

/// Text with everything that has a meaning somewhere.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,80}",
        "\\PC{0,40}",
        Just("<tool_call>{\"name\": \"Bash\", \"arguments\": {\"command\": \"echo hi\"}}</tool_call>".to_owned()),
        Just("<tool_call><tool_call>{{{".to_owned()),
        Just("<think>".repeat(200)),
        Just("</think></think>".to_owned()),
        Just("<|channel|>final<|message|>".to_owned()),
        Just("<|python_tag|>[[[[".to_owned()),
        Just("<function=".to_owned()),
        Just("[TOOL_CALLS]".to_owned()),
        Just("\u{0}\u{1b}[2J\u{7}".to_owned()),
        Just("same line\n".repeat(20_000)),
        Just("{\"name\": \"Read\", \"parameters\": {}}".to_owned()),
    ]
}

fn arguments() -> impl Strategy<Value = String> {
    let command = prop_oneof![
        Just("sleep 300 & echo $!"),
        Just("setsid sh -c 'trap \"\" TERM HUP; sleep 300' >/dev/null 2>&1 &"),
        Just("yes | head -c 3000000"),
        Just("head -c 100000 /dev/urandom"),
        Just("exec 1>&- 2>&-; exit 7"),
        Just("kill -9 $$"),
        Just("cd /nowhere || cd sub || mkdir -p sub; pwd"),
        Just("rm -rf sub"),
        Just("env; cat /proc/$PPID/environ; cat /proc/self/environ"),
        Just("trap '' EXIT; nohup sleep 300 >/dev/null 2>&1 & disown"),
    ];
    let background = command.clone();
    prop_oneof![
        command.prop_map(|it| json!({"command": it, "timeout": 2000}).to_string()),
        background.prop_map(|it| json!({"command": it, "run_in_background": true}).to_string()),
        Just("{\"command\": [\"ls\"]}".to_owned()),
        Just("{\"file_path\": \"/dev/zero\"}".to_owned()),
        Just(
            "{\"file_path\": \"x\", \"content\": \"y\", \"offset\": -1, \"limit\": 1e99}"
                .to_owned()
        ),
        Just("{\"pattern\": \"(a*)*b\", \"path\": \"/proc\", \"head_limit\": 3}".to_owned()),
        Just("{\"bash_id\": \"bash_99999999999999999999\"}".to_owned()),
        Just("[".repeat(50_000)),
        Just("{\"a\":".repeat(50_000)),
        Just("\"".repeat(1_001)),
        "\\PC{0,60}",
    ]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec!["Bash", "Read", "Write", "Edit", "Grep", "Glob", "BashOutput", "KillShell"])
            .prop_map(str::to_owned),
        1 => Just(String::new()),
        1 => "\\PC{1,20}",
    ]
}

/// A piece of a stream, right or wrong.
fn chunk() -> impl Strategy<Value = Value> {
    let index = prop_oneof![
        Just(json!(0)),
        Just(json!(1)),
        Just(json!(-1)),
        Just(json!("x")),
        Just(json!(u64::MAX)),
        Just(Value::Null)
    ];
    let id = prop_oneof![
        Just(json!("same")),
        Just(json!("")),
        Just(Value::Null),
        Just(json!(7)),
        Just(json!({"x": 1}))
    ];
    let call = (index, id, name(), arguments()).prop_map(|(index, id, name, arguments)| {
        json!({"index": index, "id": id, "function": {"name": name, "arguments": arguments}})
    });
    let delta = prop_oneof![
        text().prop_map(|it| json!({"content": it})),
        text().prop_map(|it| json!({"reasoning_content": it, "content": null})),
        text().prop_map(|it| json!({"content": [{"type": "text", "text": it}, 5, null]})),
        vec(call, 0..4).prop_map(|it| json!({"tool_calls": it})),
        Just(json!({"tool_calls": "no"})),
        Just(json!({"tool_calls": {"function": null}})),
        Just(json!([])),
        Just(Value::Null),
    ];
    let finish = prop_oneof![
        Just(Value::Null),
        Just(json!("stop")),
        Just(json!("length")),
        Just(json!("tool_calls")),
        Just(json!(3)),
        Just(json!("insane"))
    ];
    prop_oneof![
        8 => (delta, finish).prop_map(|(delta, finish)| json!({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})),
        1 => Just(json!({"choices": "none", "usage": {"prompt_tokens": -5, "completion_tokens": 1e300}})),
        1 => Just(json!({"usage": {"prompt_tokens": u64::MAX, "completion_tokens": u64::MAX}})),
        1 => Just(json!([1, 2, 3])),
        1 => Just(json!({"error": {"message": "no", "code": "429"}})),
    ]
}

fn reply() -> impl Strategy<Value = Reply> {
    let wordings = prop::sample::select(vec![
        "prompt is too long: 1 tokens > 0 maximum",
        "This model's maximum context length is 18446744073709551615 tokens, your request has 99999999999999999999 input tokens",
        "Unsupported parameter: 'max_tokens', use 'max_completion_tokens' instead",
        "temperature stream stream_options tools messages model are not supported",
        "max_tokens must be less than or equal to 0",
        "this model only supports single tool-calls at once, system role not supported, content is null",
    ]);
    let status = prop::sample::select(vec![400u16, 401, 404, 413, 422, 429, 500, 503]);
    prop_oneof![
        10 => vec(chunk(), 0..8).prop_map(Reply::Chunks),
        2 => (name(), arguments()).prop_filter("pieces are cut at bytes", |(_, it)| it.is_ascii()).prop_map(|(name, it)| Reply::Calls("", vec![(name.leak(), it)])),
        1 => (status, wordings).prop_map(|(status, it)| Reply::Status(status, json!({"error": {"message": it}}), true)),
        1 => vec(any::<u8>(), 0..300).prop_map(|it| Reply::Raw(200, "text/event-stream", it)),
        1 => vec(any::<u8>(), 0..300).prop_map(|it| Reply::Raw(200, "application/json", it)),
        1 => Just(Reply::Raw(200, "text/event-stream", b"data: ".repeat(500_000))),
        1 => Just(Reply::Raw(200, "application/json", "[".repeat(1_000_000).into_bytes())),
        1 => Just(Reply::Raw(503, "text/html", b"<html>\xff</html>".to_vec())),
        1 => Just(Reply::Breaks("half")),
    ]
}

async fn converse(replies: Vec<Reply>) {
    let shown = format!("{replies:?}");
    let shown: String = shown.chars().take(3_000).collect();
    let model = Model::start(replies).await;
    let limits = ["--timeout", "20", "--max-turns", "8", "--context-tokens", "20000"];
    let start = Instant::now();
    let run = Agent::new(&model).prompt("misbehave").args(&limits).run().await;
    assert!(start.elapsed() < Duration::from_secs(60), "{shown}");
    assert!(matches!(run.code, Some(0 | 3 | 4 | 5)), "{:?} {}\n{shown}", run.code, run.stderr);
    assert!(!run.stderr.contains("panicked"), "{}\n{shown}", run.stderr);
    assert_eq!(run.events().pop().unwrap()["event"], "end", "{shown}");
    assert_eq!(run.summary()["exit_code"], run.code.unwrap(), "{shown}");
    assert!(!run.everything().contains(KEY), "{shown}");
    assert_eq!(run.leftovers(), Vec::<String>::new(), "{shown}");
    assert_replayable(&run, &model, &shown);
    // Whatever was sent was sound: the server of the tests complains otherwise.
    assert!(!run.everything().contains("test server: arguments"), "{}\n{shown}", run.stderr);
    assert!(!run.everything().contains("test server: a result"), "{}\n{shown}", run.stderr);
}

/// The transcript alone gives every request again, byte for byte, unless the server has asked for another form of
/// messages.
fn assert_replayable(run: &Finished, model: &Model, shown: &str) {
    let events = run.events();
    let reshaped = ["message of its own", "system message", "first user message", "empty text"];
    let is_reshaped = |it: &Value| {
        reshaped.iter().any(|words| it["change"].as_str().unwrap_or_default().contains(words))
    };
    if events.iter().any(is_reshaped) {
        return;
    }
    let mut sent: Vec<Value> = model.requests().into_iter().map(|it| it.body).collect();
    // A request that is made again after a failure is the same one.
    sent.dedup();
    let mut rebuilt = rebuilt(&events);
    rebuilt.dedup();
    // What was about to be sent when the time was over never arrived.
    rebuilt.truncate(sent.len().max(rebuilt.len() - 1));
    assert_eq!(rebuilt, sent, "{shown}");
}

#[tokio::test]
async fn whatever_a_model_does_the_agent_ends_in_order() {
    let seed = std::env::var("GOAT_SEED").ok().and_then(|it| it.parse().ok()).unwrap_or(5u8);
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let conversations: Vec<Vec<Reply>> =
        (0..CASES).map(|_| vec(reply(), 1..6).new_tree(&mut runner).unwrap().current()).collect();
    for group in conversations.chunks(AT_ONCE) {
        futures::future::join_all(group.iter().cloned().map(converse)).await;
    }
}
