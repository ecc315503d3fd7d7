//! MCP servers that nobody here wrote, over every transport, and servers that misbehave.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{
    endings::runs,
    foreign::{Listening, everything, filesystem},
    support::{Agent, Finished, KEY, Model, Reply, wait_for},
};

fn call(name: &'static str, arguments: Value) -> (&'static str, String) {
    (name, arguments.to_string())
}

/// An agent with these servers.
fn agent(model: &Model, servers: &Value) -> Agent {
    let agent = Agent::new(model).prompt("go");
    let path = agent.files.path().join("mcp.json");
    std::fs::write(&path, servers.to_string()).unwrap();
    agent.args(&["--mcp-config", &path.display().to_string()])
}

async fn run(model: &Model, servers: &Value) -> Finished {
    agent(model, servers).run().await
}

fn names(request: &Value) -> Vec<&str> {
    let tools = request["tools"].as_array().unwrap();
    tools.iter().map(|tool| tool["function"]["name"].as_str().unwrap()).collect()
}

fn statuses(run: &Finished) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    run.events_of("mcp").iter().map(|it| (text(&it["server"]), text(&it["status"]))).collect()
}

/// Tools, results of every kind and resources of `server-everything`, however it is reached.
async fn everything_works(entry: Value, transport: &str) {
    let model = Model::start([
        Reply::Calls(
            "",
            vec![
                call("mcp__everything__echo", json!({"message": "grüezi"})),
                call("mcp__everything__get-sum", json!({"a": 2, "b": 40})),
                call("mcp__everything__get-tiny-image", json!({})),
                call("mcp__everything__get-structured-content", json!({"location": "New York"})),
                call("mcp__everything__get-resource-reference", json!({"resourceType": "Text", "resourceId": 1})),
                call("mcp__everything__get-sum", json!({"a": "x"})),
                call("ListMcpResources", json!({})),
                call("ReadMcpResource", json!({"server_name": "everything", "uri": "demo://resource/static/document/features.md"})),
                call("ReadMcpResource", json!({"server_name": "nothing", "uri": "x"})),
            ],
        ),
        Reply::Text("done"),
    ])
    .await;
    let run = run(&model, &json!({"everything": entry})).await;
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "done"), "{}", run.stderr);
    assert!(
        run.stderr.contains(&format!("connected MCP server: everything ({transport}, ")),
        "{}",
        run.stderr
    );
    let requests = model.requests();
    let echo = requests[0].body["tools"].as_array().unwrap().iter();
    let echo = echo
        .map(|tool| &tool["function"])
        .find(|it| it["name"] == "mcp__everything__echo")
        .unwrap();
    assert_eq!(echo["parameters"]["properties"]["message"]["type"], "string");
    assert!(names(&requests[0].body).ends_with(&["ListMcpResources", "ReadMcpResource"]));
    let results = requests[1].tool_results();
    assert_eq!(results[0], "Echo: grüezi");
    assert!(results[1].contains("42"), "{}", results[1]);
    assert!(results[2].contains("[image of type image/png, "), "{}", results[2]);
    assert!(results[3].contains("temperature"), "{}", results[3]);
    assert!(results[4].contains("demo://resource/dynamic/text/1"), "{}", results[4]);
    let errors = run.events_of("tool_result");
    assert_eq!(errors[5]["is_error"], true, "{}", errors[5]);
    assert!(results[6].contains("demo://resource/static/document/features.md ("), "{}", results[6]);
    assert!(results[6].contains("demo://resource/dynamic/text/{resourceId} ("), "{}", results[6]);
    assert!(
        results[7].starts_with("[demo://resource/static/document/features.md]\n#"),
        "{}",
        results[7]
    );
    assert_eq!(results[8], "Error: there is no MCP server `nothing`; those reached: everything");
    let connected = &run.events_of("mcp")[0];
    assert_eq!(
        (&connected["transport"], &connected["implementation"]),
        (&json!(transport), &json!("mcp-servers/everything 2.0.0"))
    );
    assert!(
        requests[0].body["messages"][0]["content"]
            .as_str()
            .unwrap()
            .contains("# What the MCP server everything says\n<tool_output ")
    );
}

#[tokio::test]
async fn a_foreign_server_works_over_stdio() {
    everything_works(everything(), "stdio").await;
}

#[tokio::test]
async fn a_foreign_server_works_over_streamable_http() {
    let server = Listening::start("streamableHttp").await;
    let url = format!("http://127.0.0.1:{}/mcp", server.port);
    everything_works(json!({"type": "http", "url": url}), "http").await;
}

#[tokio::test]
async fn a_foreign_server_works_over_the_old_stream_of_events() {
    let server = Listening::start("sse").await;
    let url = format!("http://127.0.0.1:{}/sse", server.port);
    everything_works(json!({"type": "sse", "url": url}), "sse").await;
}

#[tokio::test]
async fn several_servers_work_side_by_side_and_one_that_fails_is_a_warning() {
    let model = Model::start([
        Reply::Calls(
            "",
            vec![
                call("mcp__work_files__read_text_file", json!({"path": "a.txt"})),
                call("mcp__everything__echo", json!({"message": "hi"})),
                call("mcp__work_files__read_text_file", json!({"path": "/etc/passwd"})),
            ],
        ),
        Reply::Text("done"),
    ])
    .await;
    let agent = Agent::new(&model).prompt("go").file("a.txt", "inside\n");
    let servers = json!({"mcpServers": {
        "work files": filesystem(agent.workspace.path()),
        "missing": {"command": "/no/such/program"},
        "ends": {"command": "sh", "args": ["-c", "echo no licence >&2; exit 3"]},
        "silent": {"url": "http://127.0.0.1:9/mcp"},
        "everything": everything(),
    }});
    std::fs::write(agent.path("mcp.json"), servers.to_string()).unwrap();
    let path = agent.path("mcp.json").display().to_string();
    let run = agent.args(&["-mcp-config", &path]).run().await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let results = model.requests()[1].tool_results();
    assert_eq!((results[0].as_str(), results[1].as_str()), ("inside\n", "Echo: hi"));
    assert!(results[2].contains("outside allowed directories"), "{}", results[2]);
    let warned = |words: &[&str]| {
        run.stderr.lines().any(|line| words.iter().all(|word| line.contains(word)))
    };
    assert!(
        warned(&["MCP server missing: cannot start `/no/such/program`", "No such file"]),
        "{}",
        run.stderr
    );
    assert!(warned(&["MCP server ends: it ended (exit status: 3): no licence"]), "{}", run.stderr);
    assert!(warned(&["MCP server silent: Connection refused"]), "{}", run.stderr);
}

#[tokio::test]
async fn servers_get_allowed_variables_and_never_the_models_key() {
    let model = Model::start([
        Reply::Calls("", vec![call("mcp__everything__get-env", json!({}))]),
        Reply::Text("done"),
    ])
    .await;
    let mut entry = everything();
    entry["env"] = json!({"FROM_CONFIG": "${SERVICE_TOKEN}", "PLAIN": "${ELSE:-fallback}"});
    let run = agent(&model, &json!({"everything": entry}))
        .env("SERVICE_TOKEN", "token-of-a-service")
        .env("COPY_OF_KEY", KEY)
        .args(&["--mcp-env", "SERVICE_TOKEN,ELSE"])
        .run()
        .await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let told = &model.requests()[1].tool_results()[0];
    let environment: Value = serde_json::from_str(
        told.split_once('{').map(|(_, it)| format!("{{{it}")).unwrap().as_str(),
    )
    .unwrap();
    assert_eq!(
        (&environment["FROM_CONFIG"], &environment["PLAIN"]),
        (&json!("token-of-a-service"), &json!("fallback"))
    );
    assert!(
        environment.get("OPENAI_API_KEY").is_none() && environment.get("COPY_OF_KEY").is_none()
    );
    assert!(!run.everything().contains(KEY) && !run.everything().contains("token-of-a-service"));
}

#[tokio::test]
async fn a_config_that_cannot_be_used_ends_the_run_at_once() {
    let model = Model::start([]).await;
    let allowed = run(&model, &json!({"a": {"command": "x", "args": ["${HOME}"]}})).await;
    assert_eq!(allowed.code, Some(1));
    assert!(
        allowed
            .stderr
            .ends_with("mcp.json`: server `a`: `${HOME}` is not allowed: name it with --mcp-env\n"),
        "{}",
        allowed.stderr
    );
    let empty = run(&model, &json!({})).await;
    assert!(
        empty.code == Some(1) && empty.stderr.ends_with("it names no server\n"),
        "{}",
        empty.stderr
    );
    let key = agent(&model, &json!({"a": {"command": "x", "env": {"K": "${OPENAI_API_KEY}"}}}));
    let key = key.args(&["--mcp-env", "OPENAI_API_KEY"]).run().await;
    assert!(
        key.code == Some(1) && key.stderr.contains("has no value that may be used"),
        "{}",
        key.stderr
    );
    assert!(model.requests().is_empty());
}

/// A server of a few lines of Python. `body` runs for each request with `method` and `request`, and calls `answer`.
fn python(body: &str) -> Value {
    let script = format!(
        "import json, os, sys, time\n\
         def send(value): print(json.dumps({{'jsonrpc': '2.0', **value}}), flush=True)\n\
         tools = [{{'name': 'act', 'inputSchema': {{'type': 'object'}}}}]\n\
         for line in sys.stdin:\n\
         \x20   request = json.loads(line); method = request.get('method'); answer = lambda it: send({{'id': request['id'], 'result': it}})\n\
         \x20   if method == 'initialize': answer({{'protocolVersion': '2024-11-05', 'capabilities': {{'tools': {{'listChanged': True}}}}, 'serverInfo': {{'name': 'p', 'version': '1'}}}})\n\
         \x20   elif method == 'tools/list': answer({{'tools': tools}})\n{body}"
    );
    json!({"command": "python3", "args": ["-c", script]})
}

#[tokio::test]
async fn a_list_of_tools_that_changes_is_asked_for_again() {
    let server = python(
        "\x20   elif method == 'tools/call':\n\
         \x20       tools = [{'name': 'act', 'inputSchema': {'type': 'object'}}, {'name': 'new.tool', 'description': 'n', 'inputSchema': {}}]\n\
         \x20       send({'method': 'notifications/tools/list_changed'}); answer({'content': [{'type': 'text', 'text': request['params']['name']}]})\n",
    );
    let model = Model::start([
        Reply::Calls("", vec![call("mcp__p__act", json!({}))]),
        Reply::Calls("", vec![call("mcp__p__new_tool", json!({}))]),
        Reply::Text("done"),
    ])
    .await;
    let run = run(&model, &json!({"p": server})).await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let requests = model.requests();
    assert!(!names(&requests[0].body).contains(&"mcp__p__new_tool"));
    let offered = names(&requests[1].body);
    assert_eq!(
        offered[offered.len() - 4..],
        ["mcp__p__act", "mcp__p__new_tool", "ListMcpResources", "ReadMcpResource"]
    );
    assert_eq!(requests[2].tool_results(), ["act", "new.tool"]);
    assert_eq!(statuses(&run)[1], ("p".into(), "tools_changed".into()));
    assert!(run.events_of("tools").len() >= 2);
}

#[tokio::test]
async fn a_server_that_dies_is_reported_and_the_run_goes_on() {
    let server = python(
        "\x20   elif method == 'tools/call':\n\x20       print('out of disk', file=sys.stderr); sys.exit(7)\n",
    );
    let act = || Reply::Calls("", vec![call("mcp__p__act", json!({}))]);
    let model = Model::start([act(), act(), Reply::Text("without it")]).await;
    let run = run(&model, &json!({"p": server})).await;
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "without it"), "{}", run.stderr);
    let results = model.requests()[2].tool_results();
    assert_eq!(results[0], "Error: MCP server `p`: it ended (exit status: 7): out of disk");
    assert!(
        results[1].contains("it is gone: it ended (exit status: 7): out of disk"),
        "{}",
        results[1]
    );
    assert!(
        run.stderr.contains("warning: MCP server p: it ended (exit status: 7): out of disk"),
        "{}",
        run.stderr
    );
    assert_eq!(statuses(&run)[1..], [("p".into(), "failed".into())]);
}

#[tokio::test]
async fn a_server_that_floods_is_cut_off_and_the_run_goes_on() {
    let server = python(
        "\x20   elif method == 'tools/call':\n\x20       while True: os.write(1, b'x' * 1000000)\n",
    );
    let model = Model::start([
        Reply::Calls(
            "",
            vec![
                call("mcp__p__act", json!({})),
                call("Bash", json!({"command": "echo still here"})),
            ],
        ),
        Reply::Text("done"),
    ])
    .await;
    let run = run(&model, &json!({"p": server})).await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let results = model.requests()[1].tool_results();
    assert!(
        results[0].contains("it sent more than 128 MiB unasked and was cut off"),
        "{}",
        results[0]
    );
    assert!(results[1].starts_with("still here"), "{}", results[1]);
}

#[tokio::test]
async fn a_server_that_does_not_answer_costs_its_time_and_no_more() {
    let mut server = python("\x20   elif method == 'tools/call': pass\n");
    server["timeout"] = json!(0.3);
    let mut long = everything();
    long["timeout"] = json!(2);
    let model = Model::start([
        Reply::Calls(
            "",
            vec![
                call("mcp__p__act", json!({})),
                // Progress every second keeps it alive beyond its two.
                call(
                    "mcp__everything__trigger-long-running-operation",
                    json!({"duration": 4, "steps": 8}),
                ),
            ],
        ),
        Reply::Text("done"),
    ])
    .await;
    let run = run(&model, &json!({"p": server, "everything": long})).await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let results = model.requests()[1].tool_results();
    assert_eq!(results[0], "Error: MCP server `p`: no answer within 0.3 seconds");
    assert!(results[1].contains("Long running operation completed"), "{}", results[1]);
}

#[tokio::test]
async fn servers_end_with_the_run_also_where_they_do_not_want_to() {
    let stubborn = "import os, signal, sys\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n\
                    open(os.environ['PIDS'], 'w').write(f'{os.getpid()}\\n')\nsys.stdin.read()\nsignal.pause()\n";
    let model = Model::start([Reply::Hangs]).await;
    let silent =
        json!({"p": {"command": "python3", "args": ["-c", stubborn], "env": {"PIDS": "pid"}}});
    let mut agent = agent(&model, &silent);
    let child = agent.spawn();
    // It never greets, so the agent waits for it when the signal comes.
    let server = wait_for(&agent.path("pid")).await;
    let pid = Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let run = agent.finished(child.wait_with_output().await.unwrap());
    assert_eq!(run.code, Some(143), "{}", run.stderr);
    assert!(!runs(&server), "{server} goes on");
    assert_eq!(run.summary()["outcome"], "cancelled");
}
