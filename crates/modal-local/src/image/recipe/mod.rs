//! Dockerfile commands, parsed: what an image is made of, before anything is done about it.
//!
//! The client sends a list of lines; joined, they are a Dockerfile. This module knows its syntax and
//! nothing of files, networks or layers. Variables are kept as written, because their values are known
//! only while building: [`words::expand`] replaces them.
//!
//! Source of the behaviour: the Dockerfile reference (docs.docker.com/reference/dockerfile, read
//! 2026-11-24). What it allows and we do not do is refused by name, never ignored, except for
//! instructions that change nothing of the files and of what runs (`LABEL`, `EXPOSE`, …).

mod here_document;
mod instruction;
mod lines;
pub(crate) mod words;

pub(crate) use self::here_document::HereDocument;
use self::lines::Unterminated;

/// A program to run: a line for the shell, or the exact arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// For the image's shell, `/bin/sh -c` unless `SHELL` says otherwise.
    Shell(String),
    /// `["program", "argument", …]`.
    Exec(Vec<String>),
}

impl Command {
    /// Whether it installs something from PyPI.
    pub(crate) fn is_pip(&self) -> bool {
        matches!(self, Self::Shell(line) if line.trim_start_matches("uv ").starts_with("pip install "))
    }

    /// The arguments of the program that this starts.
    pub(crate) fn argv(&self, shell: &[String]) -> Vec<String> {
        match self {
            Self::Shell(line) => shell.iter().cloned().chain([line.clone()]).collect(),
            Self::Exec(argv) => argv.clone(),
        }
    }
}

/// `COPY` or `ADD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Copy {
    /// `ADD`: archives among the sources are unpacked.
    pub(crate) add: bool,
    /// `--from`: an earlier stage or an image, instead of the context.
    pub(crate) from: Option<String>,
    /// `--chown=user[:group]`.
    pub(crate) chown: Option<String>,
    /// `--chmod=octal`.
    pub(crate) chmod: Option<String>,
    /// What to copy, patterns allowed; not yet expanded.
    pub(crate) sources: Vec<String>,
    /// Files whose text the recipe itself holds.
    pub(crate) documents: Vec<HereDocument>,
    /// Where to; not yet expanded.
    pub(crate) target: String,
}

/// One instruction, its words as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Instruction {
    From {
        image: String,
        alias: Option<String>,
    },
    Run(Command),
    /// `RUN` of a here-document that names its interpreter: `#!/usr/bin/env python3`.
    Script(HereDocument),
    /// Names, and values with their quotes and variables.
    Env(Vec<(String, String)>),
    Workdir(String),
    Copy(Copy),
    Cmd(Command),
    Entrypoint(Command),
    Arg {
        name: String,
        default: Option<String>,
    },
    Shell(Vec<String>),
    User(String),
    /// Has no effect here: `LABEL`, `EXPOSE`, `VOLUME`, `STOPSIGNAL`, `HEALTHCHECK`, `MAINTAINER`.
    Ignored,
}

/// An instruction and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// Its text, continuation lines joined.
    pub(crate) text: String,
    pub(crate) instruction: Instruction,
}

/// Why a list of commands is no recipe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Dockerfile line {line}, `{text}`: {problem}")]
pub(crate) struct RecipeError {
    line: usize,
    text: String,
    problem: Problem,
}

/// What is wrong with one instruction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    #[error("`{0}` is not an instruction")]
    UnknownInstruction(String),
    #[error("`{0}` needs {1}")]
    Arguments(&'static str, &'static str),
    #[error("the here-document has no end: a line `{0}` is missing")]
    HereDocument(String),
    #[error("`{instruction} {flag}` is not supported by the local server")]
    Flag { instruction: &'static str, flag: String },
    #[error("`{0}` is not supported by the local server")]
    Unsupported(&'static str),
    #[error("an address is not fetched: download it with `RUN`, or add it as a file")]
    Address,
    #[error("a quote is not closed")]
    OpenQuote,
    #[error("`${{{0}}}` is no variable that can be replaced")]
    Variable(String),
    #[error("`FROM` must come before it")]
    BeforeFrom,
}

/// Parses the lines of a Dockerfile.
///
/// The first instruction but `ARG` is `FROM`; so is the first step of every stage.
pub(crate) fn parse<S: AsRef<str>>(commands: &[S]) -> Result<Vec<Step>, RecipeError> {
    let text = commands.iter().map(AsRef::as_ref).collect::<Vec<_>>().join("\n");
    let mut steps = Vec::new();
    let mut in_stage = false;
    let lines = lines::logical(&text).map_err(|Unterminated { line, name }| RecipeError {
        line: line.number,
        text: shorten(&line.text),
        problem: Problem::HereDocument(name),
    })?;
    for line in lines {
        let fail = |problem| RecipeError { line: line.number, text: shorten(&line.text), problem };
        let instruction = instruction::parse(&line.text, &line.documents).map_err(fail)?;
        match instruction {
            Instruction::From { .. } => in_stage = true,
            Instruction::Arg { .. } => {}
            _ if !in_stage => return Err(fail(Problem::BeforeFrom)),
            _ => {}
        }
        steps.push(Step { text: line.text, instruction });
    }
    if !in_stage {
        let problem = Problem::Arguments("FROM", "to be there: no base is named");
        return Err(RecipeError { line: 1, text: shorten(&text), problem });
    }
    Ok(steps)
}

/// At most 120 characters of `text`, on one line.
pub(crate) fn shorten(text: &str) -> String {
    let flat: String = text.chars().map(|c| if c == '\n' { ' ' } else { c }).collect();
    if flat.chars().count() <= 120 {
        return flat;
    }
    flat.chars().take(119).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(commands: &[&str]) -> String {
        match parse(commands) {
            Ok(steps) => steps.iter().map(|step| format!("{:?}\n", step.instruction)).collect(),
            Err(error) => format!("error: {error}\n"),
        }
    }

    #[test]
    fn reads_every_instruction_that_the_sdk_writes() {
        insta::assert_snapshot!(render(&[
            "FROM base",
            "RUN apt-get update",
            "RUN python -m pip install requests==2.32.3 rich",
            "COPY . /",
            "COPY --from=example.com/tools/uv:0.9 /uv /.uv/uv",
            "ENV FOO=bar",
            "ENV QUOTED='a \"b\" $c'",
            "WORKDIR /opt",
            "ENTRYPOINT [\"/bin/sh\", \"-c\"]",
            "CMD [\"echo\", \"x\"]",
            "SHELL [\"/bin/bash\", \"-c\"]",
            "RUN cd /tmp/poetry && \\ ",
            "  poetry install",
        ]));
    }

    #[test]
    fn reads_dockerfiles_written_by_hand() {
        insta::assert_snapshot!(render(&[
            "# syntax=docker/dockerfile:1",
            "ARG VERSION=3.11",
            "from --platform=linux/amd64 python:${VERSION}-slim AS build",
            "",
            "RUN echo one \\",
            "    # a comment inside",
            "",
            "    two",
            "RUN [\"echo\", \"exec form\"]",
            "RUN [ -f /etc/passwd ]",
            "ENV A=1 B=\"two words\" C=a\\ b",
            "ENV LEGACY the rest of it",
            "ARG TOKEN",
            "USER app:staff",
            "LABEL a=b",
            "EXPOSE 80",
            "ADD --chown=1:2 --chmod=755 [\"with space.tar\", \"/x/\"]",
            "COPY a b* c/",
            "CMD sleep 1",
        ]));
    }

    #[test]
    fn reads_here_documents() {
        insta::assert_snapshot!(render(&[
            "FROM base",
            "RUN <<EOF",
            "# not a comment",
            "echo one \\",
            "  two",
            "",
            "EOF",
            "RUN <<EOF",
            "#!/usr/bin/env python3",
            "print('$A')",
            "EOF",
            "RUN cat <<-A > /a && cat <<\"B\" > /b",
            "\ta $A",
            "\tA",
            "b $B",
            "B",
            "COPY --chmod=755 <<run.sh <<'data.txt' a.txt /opt/",
            "exec $PROGRAM",
            "run.sh",
            "$5",
            "data.txt",
            "CMD cat <<EOF",
        ]));
    }

    #[test]
    fn refuses_with_the_line_and_the_way_out() {
        let cases: &[&[&str]] = &[
            &["RUN true"],
            &[],
            &["FROM a", "FETCH x"],
            &["FROM a", "RUN cat <<EOF > /x", "text"],
            &["FROM a", "COPY <<'EOF' /x", "text", "EOF "],
            &["FROM a", "COPY --from=b <<EOF /x", "text", "EOF"],
            &["FROM a", "COPY <<EOF", "text", "EOF"],
            &["FROM a", "RUN --mount=type=secret,id=x true"],
            &["FROM a", "COPY x"],
            &["FROM a", "ENV"],
            &["FROM a", "ENV A=\"open"],
            &["FROM a", "ONBUILD RUN true"],
            &["FROM a", "SHELL /bin/sh"],
            &["FROM", "RUN x"],
            &["FROM a b c"],
            &["FROM a", "ADD https://example.com/x /x"],
            &["FROM a", "COPY --parents a /b"],
        ];
        insta::assert_snapshot!(cases.iter().map(|case| render(case)).collect::<String>());
    }
}
