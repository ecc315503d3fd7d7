//! As much of a shell as tests need.
//!
//! Commands `echo`, `cat`, `printenv`, `pwd`, `test -f`, `sleep`, `exit`, `true`, `false`, joined by
//! `;` or `&&`, with `> file` and `>&2`. Words are split at spaces; there are no quotes.

use std::time::Duration;

use super::{Program, WORKSPACE};

/// Runs `sh -c COMMAND`.
pub async fn run(program: &Program) -> i32 {
    let [_, flag, script, ..] = &program.argv[..] else { return 2 };
    if flag != "-c" {
        return 2;
    }
    let mut code = 0;
    for command in script.split(';') {
        for part in command.split("&&") {
            let words: Vec<&str> = part.split_whitespace().collect();
            if words.first() == Some(&"exit") {
                return words.get(1).and_then(|word| word.parse().ok()).unwrap_or(code);
            }
            code = one(program, &words).await;
            if code != 0 {
                break;
            }
        }
    }
    code
}

async fn one(program: &Program, words: &[&str]) -> i32 {
    let (words, target) = match words {
        [words @ .., ">", file] => (words, Target::File(file)),
        [words @ .., ">&2"] => (words, Target::Stderr),
        words => (words, Target::Stdout),
    };
    let said = match words {
        ["echo", rest @ ..] => Some(format!("{}\n", rest.join(" ")).into_bytes()),
        ["cat", file] => program.read(file),
        ["printenv", name] => program.env.get(*name).map(|value| format!("{value}\n").into()),
        ["pwd"] => Some(format!("{WORKSPACE}\n").into()),
        ["test", "-f", file] => program.read(file).map(|_| Vec::new()),
        ["sleep", time] => {
            tokio::time::sleep(Duration::from_secs(time.parse().unwrap_or_default())).await;
            Some(Vec::new())
        }
        ["true"] | [] => Some(Vec::new()),
        ["false"] => None,
        other => {
            program.complain(format!("sh: {}: not found\n", other[0]));
            return 127;
        }
    };
    let Some(said) = said else { return 1 };
    match target {
        Target::Stdout => program.print(said),
        Target::Stderr => program.complain(said),
        Target::File(file) => program.write(file, said),
    }
    0
}

enum Target<'a> {
    Stdout,
    Stderr,
    File(&'a str),
}
