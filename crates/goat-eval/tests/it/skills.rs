//! Skills: offered by name, loaded when called, run apart where they ask for it.

use serde_json::{Value, json};

use crate::support::{Agent, Finished, Model, Reply};

const GREET: &str = "---\nname: greet\ndescription: Greets somebody\nwhen_to_use: someone is new\n\
                     argument-hint: [name] [language]\narguments: [name, language]\n---\nSay hello to $name in $language.\n";
const APART: &str = "---\nname: look\ndescription: Looks around\ncontext: fork\nallowed-tools: Read\n---\nRead $ARGUMENTS.\n";

fn skill(name: &str, args: &str) -> (&'static str, String) {
    ("Skill", json!({"skill": name, "args": args}).to_string())
}

async fn run(model: &Model, files: &[(&str, &str)]) -> Finished {
    let agent = Agent::new(model).prompt("go");
    let folder = agent.files.path().join("skills");
    for (path, text) in files {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let folder = folder.display().to_string();
    agent.file("a.txt", "inside\n").args(&["--skills-dir", &folder]).run().await
}

fn tools(request: &Value) -> Vec<&str> {
    let tools = request["tools"].as_array().unwrap();
    tools.iter().map(|tool| tool["function"]["name"].as_str().unwrap()).collect()
}

/// The content of tool results as it is sent.
fn results(request: &Value) -> Vec<&str> {
    let messages = request["messages"].as_array().unwrap().iter();
    let results = messages.filter(|message| message["role"] == "tool");
    results.map(|message| message["content"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_skill_is_named_beforehand_and_loaded_when_it_is_called() {
    let model =
        Model::start([Reply::Calls("", vec![skill("greet", "Ada French")]), Reply::Text("Salut.")])
            .await;
    let run = run(
        &model,
        &[(".claude/skills/greet/SKILL.md", GREET), (".claude/skills/greet/ref.md", "r")],
    )
    .await;
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "Salut."), "{}", run.stderr);
    let requests = model.requests();
    let offered = &requests[0].body["tools"][8]["function"];
    assert_eq!(offered["name"], "Skill");
    let description = offered["description"].as_str().unwrap();
    assert!(
        description
            .ends_with("\n- greet [name] [language]: Greets somebody Use it when: someone is new"),
        "{description}"
    );
    assert!(!requests[0].body.to_string().contains("Say hello"), "the text comes later");
    let loaded = &requests[1].tool_results()[0];
    assert_eq!(
        results(&requests[1].body),
        [loaded.as_str()],
        "instructions of the user are no data"
    );
    assert!(
        loaded.ends_with("Files in that directory: ref.md\n\nSay hello to Ada in French."),
        "{loaded}"
    );
    let noted = &run.events_of("skills")[0];
    assert_eq!(noted["skills"][0]["name"], "greet");
    assert_eq!(noted["skills"][0]["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(run.events_of("tools")[0]["tools"].as_array().unwrap().len(), 9);
}

#[tokio::test]
async fn a_broken_skill_is_a_warning_with_its_line() {
    let model = Model::start([
        Reply::Calls("", vec![skill("broken", ""), skill("greet", "")]),
        Reply::Text("ok"),
    ])
    .await;
    let broken = "---\nname: broken\ndescription: [never closed\n---\ntext\n";
    let run = run(&model, &[("broken/SKILL.md", broken), ("greet/SKILL.md", GREET)]).await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let first = run.stderr.lines().next().unwrap();
    assert!(
        first.starts_with("goat-eval: warning: ") && first.contains("broken/SKILL.md:"),
        "{first}"
    );
    assert!(run.stderr.contains("goat-eval: loaded 1 skill(s)\n"), "{}", run.stderr);
    let problem = &run.events_of("skills")[0]["problems"][0];
    assert!(problem["line"].as_u64().is_some_and(|line| (3..=4).contains(&line)), "{problem}");
    let results = model.requests()[1].tool_results();
    assert_eq!(results[0], "Error: there is no skill `broken`; the skills are greet");
    assert!(results[1].ends_with("Say hello to $name in $language."), "{}", results[1]);
}

#[tokio::test]
async fn a_skill_may_run_in_a_conversation_of_its_own() {
    let read = ("Read", json!({"file_path": "a.txt"}).to_string());
    let model = Model::start([
        Reply::Calls("", vec![skill("look", "a.txt")]),
        Reply::Calls("", vec![read]),
        Reply::Text("It says inside."),
        Reply::Text("Done."),
    ])
    .await;
    let run = run(&model, &[("look/SKILL.md", APART)]).await;
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "Done."), "{}", run.stderr);
    let requests = model.requests();
    assert_eq!(tools(&requests[1].body), ["Read"], "only what it allows");
    assert_eq!(
        requests[1].body["messages"].as_array().unwrap().len(),
        2,
        "a conversation of its own"
    );
    assert_eq!(requests[3].tool_results(), ["It says inside."]);
    // What a skill answers is a model's; what it instructs is the user's.
    assert!(results(&requests[3].body)[0].starts_with("<tool_output "));
    assert!(!requests[1].body["messages"][1]["content"].as_str().unwrap().contains("tool_output"));
    assert_eq!((&run.summary()["turns"], &run.summary()["tool_calls"]), (&json!(4), &json!(2)));
    let events: Vec<Value> = run.events();
    let at = |kind: &str, id: &str| {
        events.iter().position(|it| it["event"] == kind && it["id"] == id).unwrap()
    };
    let (fork, result) = (at("fork", "call-Skill-0"), at("tool_result", "call-Skill-0"));
    assert!(events[fork..result].iter().any(|it| it["content"] == "It says inside."));
}

#[tokio::test]
async fn a_skill_apart_has_the_turns_that_are_left() {
    let read = || ("Read", json!({"file_path": "a.txt"}).to_string());
    let model = Model::start([
        Reply::Calls("", vec![skill("look", "a.txt")]),
        Reply::Calls("", vec![read()]),
        Reply::Calls("", vec![read()]),
    ])
    .await;
    let agent = Agent::new(&model).prompt("go").file("a.txt", "x").file("SKILL.md", APART);
    let folder = agent.workspace.path().display().to_string();
    let run = agent.args(&["--skills-dir", &folder, "--max-turns", "3"]).run().await;
    assert_eq!((run.code, model.requests().len()), (Some(3), 3), "{}", run.stderr);
    let result = run.events_of("tool_result").pop().unwrap();
    assert_eq!((&result["name"], &result["is_error"]), (&json!("Skill"), &json!(true)));
}

#[tokio::test]
async fn a_missing_directory_of_skills_is_an_error() {
    let model = Model::start([]).await;
    let run = Agent::new(&model).prompt("go").args(&["--skills-dir", "/nowhere"]).run().await;
    assert_eq!(run.code, Some(1));
    assert_eq!(
        run.stderr,
        "goat-eval: cannot read the directory of skills `/nowhere`: No such file or directory (os error 2)\n"
    );
}
