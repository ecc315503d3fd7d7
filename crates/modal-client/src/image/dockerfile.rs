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
}

/// The layers of a base, lowest first.
pub(crate) fn base_layers(base: &Base, builder: &str) -> Result<Vec<BaseLayer>, String> {
    match base {
        Base::Existing(_) => Ok(Vec::new()),
        Base::DebianSlim { python } => {
            let commands = debian_slim(&python::debian_tag(builder, python.as_deref())?);
            Ok(vec![BaseLayer { commands, mount: None, is_global: true }])
        }
        Base::Registry { tag, add_python: None, setup, .. } => {
            let mut commands = vec![format!("FROM {tag}")];
            commands.extend(setup.iter().cloned());
            Ok(vec![BaseLayer { commands, mount: None, is_global: false }])
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
    let standalone = python::standalone(builder, series)?;
    let mut python = vec!["COPY /python/. /usr/local".to_owned()];
    if standalone.needs_link {
        python.push("RUN ln -s /usr/local/bin/python3 /usr/local/bin/python".to_owned());
    }
    python.push(TERMINFO.to_owned());
    python.extend(setup.iter().cloned());
    let layer = |from: &str, mut rest: Vec<String>, mount| {
        rest.insert(0, format!("FROM {from}"));
        BaseLayer { commands: rest, mount, is_global: false }
    };
    if builder > "2025.06" {
        Ok(vec![layer(tag, Vec::new(), None), layer("base", python, Some(standalone.mount))])
    } else {
        Ok(vec![layer(tag, python, Some(standalone.mount))])
    }
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
    let mut sorted: Vec<&String> = packages.iter().collect();
    sorted.sort();
    let flags = [
        ("--find-links", &options.find_links),
        ("--index-url", &options.index_url),
        ("--extra-index-url", &options.extra_index_url),
    ];
    let flags: Vec<String> = flags
        .into_iter()
        .filter_map(|(flag, value)| {
            value.as_ref().map(|value| format!("{flag} {}", quote::quote(value)))
        })
        .collect();
    let mut extra = flags.join(" ");
    if options.pre {
        extra.push_str(" --pre");
    }
    if !options.extra_options.is_empty() {
        if !extra.is_empty() {
            extra.push(' ');
        }
        extra.push_str(&options.extra_options);
    }
    format!("RUN python -m pip install {} {extra}", quote::join(sorted)).trim().to_owned()
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

    #[test]
    fn lists_are_written_as_json_with_spaces() {
        let arguments = ["/bin/sh".to_owned(), "a\"b".to_owned()];
        assert_eq!(json_command("CMD", &arguments), r#"CMD ["/bin/sh", "a\"b"]"#);
        assert_eq!(json_command("ENTRYPOINT", &[]), "ENTRYPOINT []");
    }
}
