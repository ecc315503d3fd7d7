use super::*;

async fn bash(arguments: &str) -> ToolOutput {
    let folder = tempfile::tempdir().unwrap();
    let path = ("PATH".into(), std::env::var_os("PATH").unwrap_or_default());
    let processes = Arc::new(Processes::new(vec![path, ("GREETING".into(), "hello".into())]));
    let tool = Bash::new(Workspace { cwd: folder.path().into() }, processes);
    let output = tool.call(Arguments::parse(arguments).unwrap()).await.unwrap();
    // What is known of the whole output has a test of its own.
    ToolOutput { full: None, ..output }
}

#[tokio::test]
async fn both_outputs_come_in_order_with_the_exit_code() {
    let output = bash(r#"{"command": "echo out; echo err >&2; printf end; exit 3"}"#).await;
    assert_eq!(output, ToolOutput::error("out\nerr\nend\n[exit code 3]"));
    assert_eq!(bash(r#"{"command": "true"}"#).await, ToolOutput::ok("[no output]"));
    assert_eq!(
        bash(r#"{"command": "kill -9 $$"}"#).await,
        ToolOutput::error("[ended by signal 9]")
    );
}

#[tokio::test]
async fn commands_have_no_input_and_only_the_given_environment() {
    assert_eq!(bash(r#"{"command": "cat"}"#).await.text, "[no output]");
    let environment = bash(r#"{"command": "env | cut -d= -f1 | sort"}"#).await.text;
    let own = ["_", "PWD", "SHLVL", "OLDPWD"];
    let given: Vec<&str> = environment.lines().filter(|name| !own.contains(name)).collect();
    assert_eq!(
        given,
        ["GIT_EDITOR", "GIT_PAGER", "GIT_TERMINAL_PROMPT", "GREETING", "PAGER", "PATH"]
    );
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_stopped_with_its_children() {
    let command =
        r#"{"command": "echo $$; (trap '' TERM; sleep 1000) & sleep 1000", "timeout": "100"}"#;
    let output = bash(command).await;
    assert!(
        output.is_error && output.text.contains("[stopped: not done after 100 ms;"),
        "{}",
        output.text
    );
    let shell: u32 = output.text.lines().next().unwrap().parse().unwrap();
    assert!(descendants::of(shell).is_empty());
    assert!(
        rustix::process::test_kill_process_group(descendants::as_pid(shell).unwrap()).is_err()
            || only_zombies(shell)
    );
}

/// Orphans are reaped by whoever adopts them, which in tests is not this process.
fn only_zombies(group: u32) -> bool {
    let stat = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    let members = stat.filter_map(|stat| {
        let words: Vec<String> =
            stat.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect();
        (words[2] == group.to_string()).then(|| words[0].clone())
    });
    members.into_iter().all(|state| state == "Z")
}

#[tokio::test]
async fn what_stays_behind_does_not_hold_up_the_answer() {
    let output = bash(r#"{"command": "sleep 300 & echo $!"}"#).await;
    let mut lines = output.text.lines();
    let left: u32 = lines.next().unwrap().parse().unwrap();
    assert_eq!(
        lines.next(),
        Some(
            "[something the command started still runs; what it prints from here on is not shown]"
        )
    );
    descendants::signal(0, &[left], rustix::process::Signal::KILL);
}

#[tokio::test]
async fn background_commands_return_at_once_and_leave_a_log() {
    let folder = tempfile::tempdir().unwrap();
    let processes = Arc::new(Processes::new(Vec::new()));
    let tool = Bash::new(Workspace { cwd: folder.path().into() }, Arc::clone(&processes));
    let arguments = r#"{"command": "echo working; exit 4", "run_in_background": true}"#;
    let output = tool.call(Arguments::parse(arguments).unwrap()).await.unwrap();
    let path = output.text.rsplit_once(" is in ").unwrap().1.trim_end_matches('.').to_owned();
    for _ in 0..1_000 {
        if std::fs::read_to_string(&path).unwrap() == "working\n[exit code 4]\n" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the log holds {:?}", std::fs::read_to_string(&path));
}

#[tokio::test]
async fn a_flood_is_cut_in_the_middle() {
    let output = bash(r#"{"command": "echo first; yes | head -c 5000000; echo last"}"#).await;
    assert!(output.text.starts_with("first\ny\ny\ny\n[… the line above comes "), "{}", output.text);
    assert!(output.text.ends_with(" more times …]\nlast\n") && output.text.len() < 500);
    assert!(output.text.contains("of 5000011 bytes cut from the middle"));
}

#[tokio::test]
async fn the_next_command_starts_where_the_last_one_left_off() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let path = ("PATH".into(), std::env::var_os("PATH").unwrap_or_default());
    let tool = Bash::new(Workspace { cwd: root.clone() }, Arc::new(Processes::new(vec![path])));
    let run = async |command: &str| {
        let arguments = json!({"command": command}).to_string();
        let output = tool.call(Arguments::parse(&arguments).unwrap()).await.unwrap();
        output.text.replace(&root.display().to_string(), "/w")
    };
    assert_eq!(run("mkdir -p 'a b' && cd 'a b' && exit 3").await, "[exit code 3]\n[now in /w/a b]");
    assert_eq!(run("pwd; (cd /)").await, "/w/a b\n");
    assert_eq!(run("trap - EXIT; cd /").await, "[no output]");
    assert_eq!(run("pwd").await, "/w/a b\n");
    // Where the directory is gone, the next command starts at the beginning.
    assert_eq!(run("rmdir \"$PWD\"").await, "[no output]");
    assert_eq!(run("pwd").await, "/w\n");
    assert!(run("echo 'unended").await.contains("line 1"));
}

#[tokio::test]
async fn background_commands_can_be_watched_and_ended() {
    let folder = tempfile::tempdir().unwrap();
    let path = ("PATH".into(), std::env::var_os("PATH").unwrap_or_default());
    let processes = Arc::new(Processes::new(vec![path]));
    let workspace = Workspace { cwd: folder.path().into() };
    let start = Bash::new(workspace, Arc::clone(&processes));
    let (look, end) =
        (BashOutput::new(Arc::clone(&processes)), KillShell::new(Arc::clone(&processes)));
    let call = async |tool: &dyn Tool, arguments: &str| match tool
        .call(Arguments::parse(arguments).unwrap())
        .await
    {
        Ok(output) => output.text,
        Err(error) => error.to_string(),
    };
    let command = json!({"command": "echo one; echo two; (trap '' TERM; sleep 1000) & sleep 1000", "run_in_background": true});
    let started = call(&start, &command.to_string()).await;
    assert!(started.starts_with("Started in the background as bash_1 (process "), "{started}");
    let mut seen = String::new();
    for _ in 0..1_000 {
        seen += &call(&look, r#"{"bash_id": "bash_1", "filter": "t"}"#).await;
        if seen.contains("two\n") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(seen.ends_with("two\n[still running]") && !seen.contains("one"), "{seen}");
    let again = call(&look, r#"{"bash_id": "bash_1"}"#).await;
    assert_eq!(again, "[no new output]\n[still running]");
    assert_eq!(call(&end, r#"{"shell_id": "bash_1"}"#).await, "bash_1 was ended.");
    assert!(call(&look, r#"{"bash_id": "bash_1"}"#).await.contains("[ended: ended by signal "));
    assert!(call(&end, r#"{"shell_id": "bash_1"}"#).await.starts_with("bash_1 had already ended"));
    let told = call(&look, r#"{"bash_id": "bash_7"}"#).await;
    assert_eq!(told, "there is no background command `bash_7`; there are: bash_1");
}
