//! The Dockerfile commands of each layer.

use super::{Base, PipOptions, StepKind, python, quote};

/// How long a `debian_slim` container without a command of its own sleeps: two days.
const SLEEP: &str = "CMD [\"sleep\", \"172800\"]";
const TERMINFO: &str =
    "ENV TERMINFO_DIRS=/etc/terminfo:/lib/terminfo:/usr/share/terminfo:/usr/lib/terminfo";

/// A layer of a base: its commands, and the mount of Modal's that they copy from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BaseLayer {
    pub(crate) commands: Vec<String>,
    pub(crate) mount: Option<String>,
    /// Whether it is Modal's own layer, cached for everybody.
    pub(crate) is_global: bool,
    /// Whether the registry's login is sent along.
    pub(crate) logs_in: bool,
    /// Whether it holds commands of a Dockerfile, so that the options of the base are for it.
    pub(crate) is_dockerfile: bool,
}

impl BaseLayer {
    fn new(commands: Vec<String>, mount: Option<String>) -> Self {
        Self { commands, mount, is_global: false, logs_in: true, is_dockerfile: false }
    }
}

/// The layers of a base, lowest first.
pub(crate) fn base_layers(base: &Base, builder: &str) -> Result<Vec<BaseLayer>, String> {
    match base {
        Base::Existing(_) => Ok(Vec::new()),
        // Its layers are known when it is read: see `dockerfile_layers`.
        Base::Dockerfile { .. } => Ok(Vec::new()),
        Base::DebianSlim { python } => {
            let commands = debian_slim(&python::debian_tag(builder, python.as_deref())?);
            Ok(vec![BaseLayer { is_global: true, ..BaseLayer::new(commands, None) }])
        }
        Base::Registry { tag, add_python: None, setup, .. } => {
            let mut commands = vec![format!("FROM {tag}")];
            commands.extend(setup.iter().cloned());
            Ok(vec![BaseLayer::new(commands, None)])
        }
        Base::Registry { tag, add_python: Some(series), setup, .. } => {
            registry_with_python(tag, series, setup, builder)
        }
    }
}

fn debian_slim(tag: &str) -> Vec<String> {
    vec![
        format!("FROM {tag}"),
        "RUN apt-get update".to_owned(),
        "RUN apt-get install -y gcc gfortran build-essential".to_owned(),
        "RUN pip install --upgrade pip wheel uv".to_owned(),
        "RUN echo 'debconf debconf/frontend select Noninteractive' | debconf-set-selections"
            .to_owned(),
        SLEEP.to_owned(),
    ]
}

/// From builder 2026.10 on, Python is a layer of its own; before, it is a part of the `FROM` layer.
fn registry_with_python(
    tag: &str,
    series: &str,
    setup: &[String],
    builder: &str,
) -> Result<Vec<BaseLayer>, String> {
    let (mut python, mount) = python_commands(series, builder)?;
    python.extend(setup.iter().cloned());
    let layer = |from: &str, mut rest: Vec<String>, mount| {
        rest.insert(0, format!("FROM {from}"));
        BaseLayer::new(rest, mount)
    };
    if builder > "2025.06" {
        Ok(vec![layer(tag, Vec::new(), None), layer("base", python, Some(mount))])
    } else {
        Ok(vec![layer(tag, python, Some(mount))])
    }
}

/// The commands that add a build of Python, and the mount that they copy it from.
fn python_commands(series: &str, builder: &str) -> Result<(Vec<String>, String), String> {
    let standalone = python::standalone(builder, series)?;
    let mut commands = vec!["COPY /python/. /usr/local".to_owned()];
    if standalone.needs_link {
        commands.push("RUN ln -s /usr/local/bin/python3 /usr/local/bin/python".to_owned());
    }
    commands.push(TERMINFO.to_owned());
    Ok((commands, standalone.mount))
}

/// The layers of a Dockerfile, lowest first. From builder 2026.10 on, its `FROM` is a layer of its own where it
/// can be; before, a layer for Python follows even where none is added.
pub(crate) fn dockerfile_layers(
    text: &str,
    add_python: Option<&str>,
    logs_in: bool,
    builder: &str,
) -> Result<Vec<BaseLayer>, String> {
    let lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
    if logs_in && stages(&lines) > 1 {
        return Err("`registry_secret` is not for Dockerfiles of several stages".to_owned());
    }
    let is_new = builder > "2025.06";
    let mut layers = match lone_from(&lines).filter(|_| is_new) {
        None => vec![BaseLayer { is_dockerfile: true, ..BaseLayer::new(lines, None) }],
        Some(at) => {
            let mut layers = vec![BaseLayer::new(vec![lines[at].clone()], None)];
            let rest = &lines[at + 1..];
            let is_blank = |line: &String| line.trim().is_empty() || line.trim().starts_with('#');
            if !rest.iter().all(is_blank) {
                let commands = on_base(rest.iter().cloned());
                let rest = BaseLayer::new(commands, None);
                layers.push(BaseLayer { logs_in: false, is_dockerfile: true, ..rest });
            }
            layers
        }
    };
    if let Some(series) = add_python {
        let (commands, mount) = python_commands(series, builder)?;
        let layer = BaseLayer::new(on_base(commands), Some(mount));
        layers.push(BaseLayer { logs_in: false, ..layer });
    } else if !is_new {
        let layer = BaseLayer::new(on_base([]), None);
        layers.push(BaseLayer { logs_in: false, ..layer });
    }
    Ok(layers)
}

fn on_base(commands: impl IntoIterator<Item = String>) -> Vec<String> {
    std::iter::once("FROM base".to_owned()).chain(commands).collect()
}

/// How many lines begin with `FROM`.
fn stages(lines: &[String]) -> usize {
    lines.iter().filter(|line| is_from(line)).count()
}

fn is_from(line: &str) -> bool {
    let line = line.trim_start();
    line.get(..4).is_some_and(|word| word.eq_ignore_ascii_case("FROM"))
        && line[4..].starts_with(char::is_whitespace)
}

/// The line of a `FROM` that can be a layer of its own: the only one, first, on one line, without a name for its stage.
fn lone_from(lines: &[String]) -> Option<usize> {
    let at = lines.iter().position(|line| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with('#')
    })?;
    let line = lines[at].trim_end();
    let words: Vec<&str> = line.split_whitespace().collect();
    let is_named = words.len() > 2 && words[words.len() - 2].eq_ignore_ascii_case("AS");
    let is_lone = is_from(line)
        && !line.ends_with('\\')
        && !is_named
        && !lines[..at].iter().any(|line| is_directive(line.trim()))
        && stages(lines) == 1;
    is_lone.then_some(at)
}

/// Whether a comment is one that tells the parser something: `# syntax=…`.
fn is_directive(comment: &str) -> bool {
    let Some(text) = comment.strip_prefix('#') else { return false };
    let text = text.trim_start();
    let Some((name, _)) = text.split_once('=') else { return false };
    let name = name.trim_end();
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric())
}

/// The commands of a layer on another one, which they call `base`.
pub(crate) fn step_commands(step: &StepKind) -> Vec<String> {
    let mut commands = vec!["FROM base".to_owned()];
    match step {
        StepKind::AptInstall(packages) => {
            commands.push("RUN apt-get update".to_owned());
            commands.push(format!("RUN apt-get install -y {}", quote::join(packages)));
        }
        StepKind::PipInstall { packages, options } => commands.push(pip_install(packages, options)),
        StepKind::UvPipInstall { packages, options } => {
            commands.push("COPY --from=ghcr.io/astral-sh/uv:latest /uv /.uv/uv".to_owned());
            commands.push(uv_pip_install(packages, options));
        }
        StepKind::Run(run) => commands.extend(run.iter().map(|command| format!("RUN {command}"))),
        StepKind::Env(variables) => {
            commands.extend(
                variables.iter().map(|(name, value)| format!("ENV {name}={}", quote::quote(value))),
            );
        }
        StepKind::Workdir(path) => commands.push(format!("WORKDIR {}", quote::quote(path))),
        StepKind::Dockerfile(more) => commands.extend(more.iter().cloned()),
        StepKind::CopyLocal(_) => commands.push("COPY . /".to_owned()),
    }
    commands
}

fn pip_install(packages: &[String], options: &PipOptions) -> String {
    let mut words = vec![sorted(packages)];
    words.extend(sources(options));
    words.extend(options.pre.then(|| "--pre".to_owned()));
    words.push(options.extra_options.clone());
    words.retain(|word| !word.is_empty());
    format!("RUN python -m pip install {}", words.join(" "))
}

fn uv_pip_install(packages: &[String], options: &PipOptions) -> String {
    let mut words =
        vec!["--python $(command -v python)".to_owned(), "--compile-bytecode".to_owned()];
    words.extend(sources(options));
    words.extend(options.pre.then(|| "--prerelease allow".to_owned()));
    words.push(options.extra_options.clone());
    words.push(sorted(packages));
    words.retain(|word| !word.is_empty());
    format!("RUN /.uv/uv pip install {}", words.join(" "))
}

fn sorted(packages: &[String]) -> String {
    let mut sorted: Vec<&String> = packages.iter().collect();
    sorted.sort();
    quote::join(sorted)
}

/// The options that say where packages come from.
fn sources(options: &PipOptions) -> impl Iterator<Item = String> + '_ {
    let flags = [
        ("--find-links", &options.find_links),
        ("--index-url", &options.index_url),
        ("--extra-index-url", &options.extra_index_url),
    ];
    flags.into_iter().filter_map(|(flag, value)| {
        value.as_ref().map(|value| format!("{flag} {}", quote::quote(value)))
    })
}

/// A command with a list of arguments, as Python's `json.dumps` writes it.
pub(super) fn json_command(command: &str, arguments: &[String]) -> String {
    let arguments: Vec<String> = arguments
        .iter()
        .map(|argument| serde_json::Value::from(argument.as_str()).to_string())
        .collect();
    format!("{command} [{}]", arguments.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Image;

    #[test]
    fn pip_packages_are_sorted_and_options_come_behind_them() {
        let options = PipOptions {
            index_url: Some("https://index.example/simple".to_owned()),
            pre: true,
            extra_options: "--no-deps".to_owned(),
            ..PipOptions::default()
        };
        let step =
            StepKind::PipInstall { packages: vec!["b[x]".to_owned(), "a".to_owned()], options };
        assert_eq!(
            step_commands(&step)[1],
            "RUN python -m pip install a 'b[x]' --index-url https://index.example/simple --pre --no-deps"
        );
    }

    #[test]
    fn an_older_builder_adds_python_in_the_first_layer() {
        let image = Image::from_registry("ubuntu:22.04").add_python("3.11");
        let layers = base_layers(&image.base, "2025.06").unwrap();
        assert_eq!(layers.len(), 1);
        assert_eq!(
            layers[0].commands[..3],
            [
                "FROM ubuntu:22.04",
                "COPY /python/. /usr/local",
                "RUN ln -s /usr/local/bin/python3 /usr/local/bin/python",
            ]
        );
        assert_eq!(layers[0].mount.as_deref(), Some("python-build-standalone.20230826.3.11.5-gnu"));
    }

    fn layers(text: &str, python: Option<&str>, builder: &str) -> Vec<Vec<String>> {
        let layers = dockerfile_layers(text, python, false, builder).unwrap();
        layers.into_iter().map(|layer| layer.commands).collect()
    }

    #[test]
    fn the_from_of_a_dockerfile_is_a_layer_where_it_can_be() {
        let text = "# about\nFROM alpine:3\nRUN x";
        assert_eq!(
            layers(text, None, "2026.10"),
            [vec!["FROM alpine:3"], vec!["FROM base", "RUN x"]]
        );
        assert_eq!(layers("FROM alpine:3\n\n# end", None, "2026.10"), [vec!["FROM alpine:3"]]);
        let whole = [
            "FROM alpine:3 AS build\nRUN x",
            "FROM a\nFROM b",
            "# syntax=docker/dockerfile:1\nFROM a\nRUN x",
            "ARG V=3\nFROM alpine:$V",
            "FROM \\\n a",
        ];
        for text in whole {
            assert_eq!(layers(text, None, "2026.10").len(), 1, "{text}");
        }
        let old = layers(text, None, "2025.06");
        assert_eq!(old[1], ["FROM base"]);
        assert_eq!(old[0], ["# about", "FROM alpine:3", "RUN x"]);
        let python = layers("FROM alpine:3\nRUN x", Some("3.12"), "2026.10");
        assert_eq!(python[2][..2], ["FROM base", "COPY /python/. /usr/local"]);
        assert!(dockerfile_layers("FROM a\nFROM b", None, true, "2026.10").is_err());
    }

    #[test]
    fn uv_takes_the_packages_last() {
        let options = PipOptions { pre: true, ..PipOptions::default() };
        let step = StepKind::UvPipInstall { packages: vec!["vllm".to_owned()], options };
        assert_eq!(
            step_commands(&step)[2],
            "RUN /.uv/uv pip install --python $(command -v python) --compile-bytecode --prerelease allow vllm"
        );
    }

    #[test]
    fn lists_are_written_as_json_with_spaces() {
        let arguments = ["/bin/sh".to_owned(), "a\"b".to_owned()];
        assert_eq!(json_command("CMD", &arguments), r#"CMD ["/bin/sh", "a\"b"]"#);
        assert_eq!(json_command("ENTRYPOINT", &[]), "ENTRYPOINT []");
    }
}
