//! Skills and MCP servers in a sandbox, from the command line to the record.

use std::{fs, path::Path};

use it::Machine;
use serde_json::Value;

const TASKS: &str = "fixtures/benchmarks/extras.json";
const SKILLS: &str = "fixtures/skills";
const SERVERS: &str = "fixtures/mcp/words.json";

/// Every file below a directory.
fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn a_replayed_conversation_uses_a_skill_and_a_tool_of_a_server() {
    let machine = Machine::new();
    let arguments = ["eval", "--target", "local", "--batch", TASKS, "--output", "json"];
    let extras = ["--skills-dir", SKILLS, "--mcp-config", SERVERS];
    let run = machine.succeed(&[&arguments[..], &extras].concat());
    let summary: Value = serde_json::from_str(&run).unwrap();
    let result = &summary["results"][0];
    assert_eq!(result["outcome"], "passed", "{result}");
    assert_eq!((&summary["mode"], &summary["skills_dir"]), (&"skills+mcp".into(), &SKILLS.into()));
    assert_eq!(summary["mcp_config"], SERVERS);
    assert_eq!((&result["skills_enabled"], &result["mcp_enabled"]), (&true.into(), &true.into()));
    let stderr = result["stderr"].as_str().unwrap();
    assert!(stderr.contains("loaded 1 skill(s)"), "{stderr}");
    assert!(stderr.contains("connected MCP server: words (stdio, 1 tools)"), "{stderr}");
    let kept = files(&machine.state().join("results"));
    let named = |name: &str| kept.iter().any(|path| path.ends_with(name));
    assert!(named("greeting-skills-mcp.json"), "{kept:?}");
    let transcript = kept
        .iter()
        .find(|path| {
            path.display().to_string().contains("greeting-skills-mcp")
                && path.ends_with("transcript.jsonl")
        })
        .unwrap_or_else(|| panic!("{kept:?}"));
    let transcript = fs::read_to_string(transcript).unwrap();
    for wanted in [
        r#""event":"skills","directory":"/opt/skills""#,
        r#""server":"words","status":"connected","transport":"stdio""#,
        r#""name":"mcp__words__word""#,
        r#""tags":["variant:skills-mcp","model:gpt-5-nano","epoch:1"]"#,
    ] {
        assert!(transcript.contains(wanted), "{wanted} is missing in:\n{transcript}");
    }
}

#[test]
fn a_program_that_the_image_lacks_ends_the_run_before_it_begins() {
    let machine = Machine::new();
    let config = machine.path().join("servers.json");
    fs::write(&config, r#"{"graph": {"command": "graph-database-server"}}"#).unwrap();
    let config = config.display().to_string();
    let output =
        machine.run(&["eval", "--target", "local", "--prompt", "x", "--mcp-config", &config]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(
        stderr.contains("MCP server `graph` needs `graph-database-server`, which the sandbox's image does not have"),
        "{stderr}"
    );
}

#[test]
fn the_agent_leaves_nothing_behind() {
    let machine = Machine::new();
    let said = machine.succeed(&["soak", "agent", "--tasks", "3"]);
    assert!(said.contains("3 replayed tasks"), "{said}");
}
