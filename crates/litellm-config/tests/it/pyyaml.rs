//! What is written here and what is read here is what PyYAML makes of it.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Mutex,
};

use litellm_config::yaml::{Document, Kind, Map, Node, Resolved};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::venv;

/// One Python for all cases of a test.
struct PyYaml {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl PyYaml {
    fn start() -> Mutex<Self> {
        let mut child = Command::new(venv::python("langfuse-2"))
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/pyyaml_child.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Mutex::new(Self { child, stdin, stdout: BufReader::new(stdout) })
    }

    /// What it reads; `None` where it refuses the text.
    fn read(&mut self, text: &str) -> Option<Value> {
        writeln!(self.stdin, "{}", Value::from(text)).unwrap();
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap();
        answer.get("read").cloned().map(sorted)
    }
}

/// Maps in one order, since Python's is that of the file; numbers in one notation.
fn sorted(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        Value::Object(object) => object
            .into_iter()
            .map(|(name, value)| {
                let value = sorted(value);
                match value {
                    Value::Array(mut pairs) if name == "map" => {
                        pairs.sort_by_key(|pair| pair[0].to_string());
                        (name, pairs.into())
                    }
                    Value::String(number) if name == "float" => {
                        (name, number.parse::<f64>().unwrap().to_string().into())
                    }
                    value => (name, value),
                }
            })
            .collect(),
        other => other,
    }
}

impl Drop for PyYaml {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// The same in the same words, from our reading. `None` where PyYAML must refuse it.
fn told(node: &Node) -> Option<Value> {
    Some(match &node.kind {
        Kind::Scalar(scalar) => match node.resolve().unwrap() {
            Resolved::Str => json!({"str": scalar.text}),
            Resolved::Null => Value::Null,
            Resolved::Bool(value) => value.into(),
            Resolved::Int(value) => json!({"int": value.to_string()}),
            Resolved::Float(value) => json!({"float": value.to_string()}),
            Resolved::Timestamp => json!({"date": true}),
            Resolved::Merge => json!({"str": "<<"}),
            Resolved::Refused => return None,
        },
        Kind::List(list) => list.items.iter().map(told).collect::<Option<Vec<_>>>()?.into(),
        Kind::Map(map) => map_told(map)?,
    })
}

fn map_told(map: &Map) -> Option<Value> {
    let mut pairs: Vec<(String, Value)> = Vec::new();
    let mut add = |key: &Node, value: &Node| -> Option<()> {
        let (key, value) = (told(key)?, told(value)?);
        let name = key.to_string();
        pairs.retain(|(kept, _)| *kept != name);
        pairs.push((name, json!([key, value])));
        Some(())
    };
    let is_merge = |key: &Node| key.resolve() == Some(Resolved::Merge);
    for (_, value) in map.entries.iter().filter(|(key, _)| is_merge(key)) {
        let maps = value.as_list().unwrap_or(std::slice::from_ref(value));
        for map in maps.iter().rev() {
            map.as_map()?.strings().into_iter().try_for_each(|(_, key, value)| add(key, value))?;
        }
    }
    for (key, value) in map.entries.iter().filter(|(key, _)| !is_merge(key)) {
        add(key, value)?;
    }
    let mut values: Vec<Value> = pairs.into_iter().map(|(_, pair)| pair).collect();
    values.sort_by_key(|pair| pair[0].to_string());
    Some(json!({"map": values}))
}

/// Texts that some reader of YAML takes for something else.
const AWKWARD: &[&str] = &[
    "",
    " ",
    "~",
    "null",
    "Null",
    "yes",
    "no",
    "on",
    "off",
    "y",
    "N",
    "true",
    "False",
    "TRUE",
    "1",
    "007",
    "0o7",
    "08",
    "0x1F",
    "0b11",
    "1_000",
    "1:30",
    "190:20:30",
    "190:20:30.15",
    "1e3",
    "1e-6",
    "1.0e3",
    "1.0e+3",
    ".5",
    "5.",
    ".inf",
    "-.INF",
    ".nan",
    "2024-06-01",
    "2024-06-01T10:00:00Z",
    "2024-13-45",
    "=",
    "<<",
    "-",
    "- a",
    "?",
    "? a",
    ":",
    ": a",
    "a: b",
    "a:b",
    "a #b",
    "#a",
    "&a",
    "*a",
    "!a",
    "!!str a",
    "|",
    ">",
    "'",
    "\"",
    "'a'",
    "\"a\"",
    "%a",
    "@a",
    "`a`",
    "[",
    "]",
    "{",
    "}",
    ",",
    "[a]",
    "{a: b}",
    "a,b",
    "---",
    "...",
    "--- a",
    "a\tb",
    "\ta",
    "a\t",
    "a\nb",
    "a\n",
    "\n",
    "\n\na",
    " a",
    "a ",
    "a\r\nb",
    "\u{85}",
    "\u{a0}",
    "\u{2028}",
    "\u{feff}",
    "\u{7f}",
    "\u{1b}[0m",
    "ünïcode",
    "日本語",
    "😀",
    "\\",
    "\\n",
    "C:\\dir",
    "os.environ/NAME",
    "https://a.example/v1",
    "sk-1234",
    "gpt-4o-mini",
    "${VAR}",
    "$VAR",
    "0.0.0.0",
    "1.2.3",
    "+1",
    "-1",
    "+",
    "-.5",
    "0",
    "00",
    "0_",
    "_",
    "12e03",
    "1E5",
    "0x",
    "0b",
    "!",
    "nan",
    "inf",
    "NULL",
    "None",
    "a\u{0}b",
];

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(AWKWARD).prop_map(str::to_owned),
        (proptest::sample::select(AWKWARD), proptest::sample::select(AWKWARD))
            .prop_map(|(a, b)| format!("{a}{b}")),
        any::<String>(),
        "[a-z0-9:/#,\\[\\]{}&*!|>'\"%@`~ \\n\\t._-]{0,12}",
        "[0-9+_.:exo-]{1,8}",
    ]
}

fn scalar() -> impl Strategy<Value = Node> {
    prop_oneof![
        4 => text().prop_map(Node::string),
        1 => any::<bool>().prop_map(Node::bool),
        1 => any::<i64>().prop_map(Node::int),
        1 => any::<f64>().prop_map(Node::float),
        1 => (0u32..1_000_000).prop_map(|millionths| Node::float(f64::from(millionths) * 1e-9)),
        1 => Just(Node::null()),
    ]
}

fn comment() -> impl Strategy<Value = Option<String>> {
    prop_oneof![3 => Just(None), 1 => "[ -~]{0,12}".prop_map(|text| Some(format!("{MARK}{text}")))]
}

fn tree() -> impl Strategy<Value = Node> {
    scalar().prop_recursive(4, 24, 5, |inner| {
        let noted = (inner, comment(), any::<bool>())
            .prop_map(|(node, comment, gap)| {
                let node = match comment {
                    Some(text) => node.with_comment(text),
                    None => node,
                };
                if gap { node.with_gap() } else { node }
            })
            .boxed();
        prop_oneof![
            (proptest::collection::vec(noted.clone(), 0..5), any::<bool>()).prop_map(
                |(items, is_flow)| {
                    let mut node = Node::list(items);
                    if let Kind::List(list) = &mut node.kind {
                        list.is_flow = is_flow;
                    }
                    node
                }
            ),
            (proptest::collection::vec((text(), noted), 0..5), any::<bool>()).prop_map(
                |(entries, is_flow)| {
                    let mut map = Map { is_flow, ..Map::default() };
                    entries.into_iter().for_each(|(key, value)| map.set(&key, value));
                    Node::map(map)
                }
            ),
        ]
    })
}

/// The comments that the trees above are given, none of which is like their values.
fn comments(text: &str) -> usize {
    text.matches(MARK).count()
}

/// In every comment.
const MARK: &str = "§";

fn document(root: Node) -> Document {
    Document { root: Some(root), end: Vec::new() }
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

#[test]
fn pyyaml_reads_back_what_was_meant() {
    let python = PyYaml::start();
    let mut runner = proptest::test_runner::TestRunner::new(config(4_000));
    let tested = runner.run(&tree(), |root| {
        let meant = told(&root);
        let text = document(root).render();
        let read = python.lock().unwrap().read(&text);
        prop_assert_eq!(&read, &meant, "{}", text);
        // What was written is read the same here, and written the same again.
        let again = Document::parse(&text)
            .map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
        let reread = again.root.as_ref().map_or(Some(Value::Null), told);
        prop_assert_eq!(&reread, &meant, "{}", text);
        // A comment between two dashes may move to the line above; none is lost.
        let once = again.render();
        prop_assert_eq!(comments(&once), comments(&text), "{}", text);
        Ok(())
    });
    tested.unwrap();
}

#[test]
fn every_awkward_text_survives_as_value_key_and_item() {
    let python = PyYaml::start();
    for text in AWKWARD {
        let map =
            Map::default().with(text, Node::list([Node::string(*text), Node::strings([*text])]));
        let root = Node::map(map.with("last", Node::string(*text)));
        let meant = told(&root);
        let written = document(root).render();
        assert_eq!(python.lock().unwrap().read(&written), meant, "{text:?} as\n{written}");
    }
}

#[test]
fn a_bare_scalar_is_what_pyyaml_takes_it_for() {
    let python = PyYaml::start();
    let mut runner = proptest::test_runner::TestRunner::new(config(4_000));
    let bare = prop_oneof![
        proptest::sample::select(AWKWARD).prop_map(str::to_owned),
        "[0-9+_.:exEoTZ -]{1,10}",
        "[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([T ][0-9]{1,2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{0,3})?Z?)?",
        "[+-]?[0-9_]{0,4}(:[0-9]{1,2}){0,2}\\.?[0-9_]{0,3}([eE][+-]?[0-9]{1,2})?",
        "(yes|no|on|off|true|false|null|Yes|NO|On|oFF|~|y|n)",
    ];
    let tested = runner.run(&bare, |bare| {
        let text = format!("key: {bare}\nafter: x\n");
        let read = python.lock().unwrap().read(&text);
        // Where one of both refuses the syntax, there is nothing to compare; where PyYAML reads, so must we.
        let here =
            Document::parse(&text).ok().and_then(|document| document.root.as_ref().and_then(told));
        if read.is_some() && !bare.contains(['\u{85}', '\u{2028}', '\u{2029}']) {
            prop_assert_eq!(here, read, "{}", text);
        }
        Ok(())
    });
    tested.unwrap();
}

#[test]
fn what_litellm_ships_means_the_same_after_it_was_read_and_written() {
    let python = PyYaml::start();
    let files = ["langfuse-2", "langfuse-3"].iter().flat_map(|set| crate::examples::shipped(set));
    let mut count = 0;
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let document = Document::parse(&text).unwrap();
        let mut python = python.lock().unwrap();
        let meant = python.read(&text);
        assert!(meant.is_some(), "{}", path.display());
        assert_eq!(document.root.as_ref().and_then(told), meant, "{}", path.display());
        let written = document.render();
        assert_eq!(python.read(&written), meant, "{}:\n{written}", path.display());
        count += 1;
    }
    assert!(count > 30, "only {count} files");
}
