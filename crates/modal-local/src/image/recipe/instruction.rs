//! One logical line, as an instruction.

use super::here_document::{self, HereDocument};
use super::{Command, Copy, Instruction, Problem, words};

/// Parses the text of one instruction and the here-documents below it.
pub(super) fn parse(line: &str, documents: &[HereDocument]) -> Result<Instruction, Problem> {
    let (keyword, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let rest = rest.trim();
    match keyword.to_ascii_uppercase().as_str() {
        "FROM" => from(rest),
        "RUN" => run(rest, documents),
        "ENV" => env(rest),
        "WORKDIR" => Ok(Instruction::Workdir(required(rest, "WORKDIR", "a directory")?)),
        "COPY" => copy(rest, documents, false),
        "ADD" => copy(rest, documents, true),
        "CMD" => Ok(Instruction::Cmd(command(rest))),
        "ENTRYPOINT" => Ok(Instruction::Entrypoint(command(rest))),
        "ARG" => arg(rest),
        "SHELL" => match json_strings(rest) {
            Some(argv) if !argv.is_empty() => Ok(Instruction::Shell(argv)),
            _ => Err(Problem::Arguments("SHELL", "a JSON list: SHELL [\"/bin/bash\", \"-c\"]")),
        },
        "USER" => Ok(Instruction::User(required(rest, "USER", "a user")?)),
        "LABEL" | "EXPOSE" | "VOLUME" | "STOPSIGNAL" | "HEALTHCHECK" | "MAINTAINER" => {
            Ok(Instruction::Ignored)
        }
        "ONBUILD" => Err(Problem::Unsupported("ONBUILD")),
        _ => Err(Problem::UnknownInstruction(keyword.chars().take(40).collect())),
    }
}

fn required(text: &str, instruction: &'static str, what: &'static str) -> Result<String, Problem> {
    if text.is_empty() { Err(Problem::Arguments(instruction, what)) } else { Ok(text.to_owned()) }
}

/// `image [AS alias]`; a platform is accepted, because there is only one here.
fn from(rest: &str) -> Result<Instruction, Problem> {
    let (flags, rest) = flags(rest);
    if let Some(flag) = flags.iter().find(|flag| flag.name != "platform") {
        return Err(flag.refused("FROM"));
    }
    let words: Vec<&str> = rest.split_whitespace().collect();
    match words[..] {
        [image] => Ok(Instruction::From { image: image.to_owned(), alias: None }),
        [image, keyword, alias] if keyword.eq_ignore_ascii_case("as") => {
            Ok(Instruction::From { image: image.to_owned(), alias: Some(alias.to_owned()) })
        }
        _ => Err(Problem::Arguments("FROM", "one image, and `AS name` if it is to have a name")),
    }
}

fn run(rest: &str, documents: &[HereDocument]) -> Result<Instruction, Problem> {
    let (flags, rest) = flags(rest);
    if let Some(flag) = flags.first() {
        return Err(flag.refused("RUN"));
    }
    required(rest, "RUN", "a command")?;
    Ok(match documents {
        [] => Instruction::Run(command(rest)),
        [only] if here_document::mark(rest).is_some() => script(only),
        several => Instruction::Run(Command::Shell(with_documents(rest, several))),
    })
}

/// A here-document alone is what is run: by what its first line names, else by the shell.
fn script(document: &HereDocument) -> Instruction {
    if document.text.starts_with("#!") {
        return Instruction::Script(document.clone());
    }
    Instruction::Run(Command::Shell(document.text.clone()))
}

/// A command that reads here-documents: the shell knows them, and replaces variables itself.
fn with_documents(command: &str, documents: &[HereDocument]) -> String {
    documents.iter().fold(command.to_owned(), |text, document| {
        format!("{text}\n{}{}", document.text, document.name)
    })
}

/// Both forms: `ENV a=b c="d e"`, and the old `ENV a the rest`.
fn env(rest: &str) -> Result<Instruction, Problem> {
    const NEEDS: Problem = Problem::Arguments("ENV", "NAME=value");
    let first = rest.split_whitespace().next().ok_or(NEEDS)?;
    if !first.contains('=') {
        let (name, value) = rest.split_once([' ', '\t']).ok_or(NEEDS)?;
        return Ok(Instruction::Env(vec![(name.to_owned(), value.trim().to_owned())]));
    }
    let pair = |word: String| match word.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(NEEDS),
    };
    words::split(rest)?.into_iter().map(pair).collect::<Result<_, _>>().map(Instruction::Env)
}

fn arg(rest: &str) -> Result<Instruction, Problem> {
    let text = required(rest, "ARG", "a name")?;
    let (name, default) = match text.split_once('=') {
        Some((name, default)) => (name.to_owned(), Some(default.to_owned())),
        None => (text, None),
    };
    Ok(Instruction::Arg { name, default })
}

fn copy(rest: &str, documents: &[HereDocument], add: bool) -> Result<Instruction, Problem> {
    let name = if add { "ADD" } else { "COPY" };
    let (flags, rest) = flags(rest);
    let mut copy = Copy {
        add,
        from: None,
        chown: None,
        chmod: None,
        sources: Vec::new(),
        documents: documents.to_vec(),
        target: String::new(),
    };
    for flag in flags {
        match flag.name {
            "from" if !add => copy.from = Some(flag.value.to_owned()),
            "chown" => copy.chown = Some(flag.value.to_owned()),
            "chmod" => copy.chmod = Some(flag.value.to_owned()),
            "link" => {}
            _ => return Err(flag.refused(name)),
        }
    }
    let mut words = match json_strings(rest) {
        Some(words) => words,
        None => words::split(rest)?,
    };
    words.retain(|word| here_document::mark(word).is_none());
    let needs = Problem::Arguments(name, "at least one source and a target");
    copy.target = words.pop().ok_or_else(|| needs.clone())?;
    if words.is_empty() && documents.is_empty() {
        return Err(needs);
    }
    if copy.from.is_some() && !documents.is_empty() {
        return Err(Problem::Unsupported("a here-document with --from"));
    }
    if words.iter().any(|word| word.contains("://") || word.starts_with("git@")) {
        return Err(Problem::Address);
    }
    copy.sources = words;
    Ok(Instruction::Copy(copy))
}

/// JSON is the exec form; anything else is for the shell, also what only begins like JSON.
fn command(rest: &str) -> Command {
    match json_strings(rest) {
        Some(argv) => Command::Exec(argv),
        None => Command::Shell(rest.to_owned()),
    }
}

fn json_strings(text: &str) -> Option<Vec<String>> {
    if !text.starts_with('[') {
        return None;
    }
    serde_json::from_str(text).ok()
}

/// `--name=value` before the arguments.
struct Flag<'a> {
    name: &'a str,
    value: &'a str,
}

impl Flag<'_> {
    fn refused(&self, instruction: &'static str) -> Problem {
        Problem::Flag { instruction, flag: format!("--{}", self.name) }
    }
}

fn flags(mut rest: &str) -> (Vec<Flag<'_>>, &str) {
    let mut flags = Vec::new();
    while let Some(after) = rest.strip_prefix("--") {
        let (flag, tail) = after.split_once([' ', '\t']).unwrap_or((after, ""));
        let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
        flags.push(Flag { name, value });
        rest = tail.trim_start();
    }
    (flags, rest)
}
