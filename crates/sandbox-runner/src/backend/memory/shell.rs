//! As much of a shell as tests need.
//!
//! Commands `echo`, `cat`, `cd`, `printenv`, `pwd`, `test -f`, `rm -rf`, `mkfifo`, `sleep`, `exit`,
//! `true`, `false`, joined by `;`, line ends, `&&` or `||`, with `> file` and `>&2`. Words are split at
//! spaces; there are no quotes. `cd` only asks whether the directory is there, `mkfifo` removes what
//! was there: a pipe is no file.

use std::time::Duration;

use super::{Program, WORKSPACE};

/// Runs `sh -c COMMAND`.
pub async fn run(program: &Program) -> i32 {
    let [_, flag, script, ..] = &program.argv[..] else { return 2 };
    if flag != "-c" {
        return 2;
    }
    let mut code = 0;
    for command in script.split([';', '\n']) {
        for (part, runs_after) in parts(command) {
            if runs_after.is_some_and(|success| success != (code == 0)) {
                continue;
            }
            let words: Vec<&str> = part.split_whitespace().collect();
            if words.first() == Some(&"exit") {
                return words.get(1).and_then(|word| word.parse().ok()).unwrap_or(code);
            }
            code = one(program, &words).await;
        }
    }
    code
}

/// The commands of a list, each with what the one before must have come to: success after `&&`.
fn parts(command: &str) -> Vec<(&str, Option<bool>)> {
    let (mut parts, mut rest, mut after) = (Vec::new(), command, None);
    while let Some(at) = rest.find("&&").into_iter().chain(rest.find("||")).min() {
        parts.push((&rest[..at], after));
        after = Some(rest[at..].starts_with('&'));
        rest = &rest[at + 2..];
    }
    parts.push((rest, after));
    parts
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
        ["cd", directory] => program.enters(directory).then(Vec::new),
        ["rm", "-rf", path] => {
            program.remove(path);
            Some(Vec::new())
        }
        ["mkfifo", path] => {
            program.remove(path);
            Some(Vec::new())
        }
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
