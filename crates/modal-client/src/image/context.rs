//! The context of Dockerfile commands: the local files that their `COPY` commands name, without those that
//! `.dockerignore` leaves out. Nothing else is sent.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    error::{Error, Operation, Result},
    ignore_rules::{IgnoreRules, InvalidRule},
    local::{self, LocalFile},
};

/// Where the files of a context are, and which of them count.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Context {
    /// The directory that sources are relative to; the current one where none is named.
    pub(crate) directory: Option<PathBuf>,
    /// Rules instead of those of the ignore file.
    pub(crate) ignore: Option<IgnoreRules>,
    /// The Dockerfile, whose own ignore file comes before the directory's.
    pub(crate) dockerfile: Option<PathBuf>,
}

/// Why a context cannot be made.
enum Trouble {
    Problem(String),
    File(local::Unreadable),
}

impl From<local::Unreadable> for Trouble {
    fn from(error: local::Unreadable) -> Self {
        Self::File(error)
    }
}

impl From<InvalidRule> for Trouble {
    fn from(error: InvalidRule) -> Self {
        Self::Problem(error.to_string())
    }
}

impl Context {
    /// The files that `commands` copy, named by their path from the root of the context; `None` if they
    /// copy none. Reads directories: it blocks on a thread of its own.
    pub(crate) async fn files(&self, commands: &[String]) -> Result<Option<Vec<LocalFile>>> {
        let operation = || Operation::new("collect", "the build context");
        let (context, commands) = (self.clone(), commands.to_vec());
        let found = tokio::task::spawn_blocking(move || context.find(&commands)).await;
        match found {
            Ok(Ok(files)) => Ok(files),
            Ok(Err(Trouble::Problem(problem))) => Err(Error::invalid(operation(), problem)),
            Ok(Err(Trouble::File(error))) => {
                Err(Error::file(operation(), error.path, error.source))
            }
            Err(error) => Err(Error::file(operation(), "(build context)", error.into())),
        }
    }

    fn find(&self, commands: &[String]) -> Result<Option<Vec<LocalFile>>, Trouble> {
        let sources = sources(commands).map_err(Trouble::Problem)?;
        if sources.is_empty() {
            return Ok(None);
        }
        let root = self.directory.clone().unwrap_or_else(|| PathBuf::from("."));
        let resolved = resolve(&root)?;
        if let Some(outside) = sources.iter().find(|source| leaves_the_context(source)) {
            let problem = format!(
                "the source `{outside}` of a COPY lies outside of the context `{}`",
                root.display()
            );
            return Err(Trouble::Problem(problem));
        }
        let copied = IgnoreRules::new(&sources)?;
        let ignore = match &self.ignore {
            Some(rules) => rules.clone(),
            None => self.ignore_file(&root)?,
        };
        let mut files = local::tree(&root, "/", &ignore)?;
        files.retain(|file| copied.ignores(Path::new(file.remote.trim_start_matches('/'))));
        // A link that leads out of the context would carry other files of this machine along.
        files.retain(|file| {
            fs::canonicalize(&file.path).is_ok_and(|path| path.starts_with(&resolved))
        });
        Ok(Some(files))
    }

    /// The rules of the most specific ignore file: that of the Dockerfile, the one beside it, the context's.
    fn ignore_file(&self, root: &Path) -> Result<IgnoreRules, Trouble> {
        let mut places = Vec::new();
        if let Some(dockerfile) = &self.dockerfile {
            let name = dockerfile.file_name().unwrap_or_default().to_string_lossy();
            places.push(dockerfile.with_file_name(format!("{name}.dockerignore")));
            places.push(dockerfile.with_file_name(".dockerignore"));
        }
        places.push(root.join(".dockerignore"));
        for path in places {
            match fs::read_to_string(&path) {
                Ok(text) => return Ok(IgnoreRules::parse(&text)?),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(local::Unreadable { path, source }.into()),
            }
        }
        Ok(IgnoreRules::default())
    }
}

fn resolve(path: &Path) -> Result<PathBuf, local::Unreadable> {
    fs::canonicalize(path).map_err(|source| local::Unreadable { path: path.to_owned(), source })
}

fn leaves_the_context(source: &str) -> bool {
    let mut depth = 0_i32;
    source.split('/').any(|part| {
        depth += match part {
            "" | "." => 0,
            ".." => -1,
            _ => 1,
        };
        depth < 0
    })
}

/// What the `COPY` commands copy from the context, as patterns.
fn sources(commands: &[String]) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    for command in whole_commands(commands) {
        let Some((word, rest)) = command.split_once(char::is_whitespace) else { continue };
        if !word.eq_ignore_ascii_case("COPY") {
            continue;
        }
        for source in sources_of(rest.trim())? {
            let source = if source == "." { "**".to_owned() } else { source };
            if !found.contains(&source) {
                found.push(source);
            }
        }
    }
    Ok(found)
}

/// Commands with their continuation lines, without comments.
fn whole_commands(lines: &[String]) -> Vec<String> {
    let mut commands = Vec::new();
    let mut current = String::new();
    for line in lines.iter().flat_map(|line| line.split('\n')).map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let continued = line.ends_with('\\');
        if !current.is_empty() {
            current.push(' ');
        }
        current.push_str(line.trim_end_matches('\\').trim());
        if !continued {
            commands.push(std::mem::take(&mut current));
        }
    }
    commands
}

fn sources_of(arguments: &str) -> Result<Vec<String>, String> {
    let mut rest = arguments;
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, behind) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
        match flag.split('=').next().unwrap_or_default() {
            "from" => return Ok(Vec::new()),
            "chmod" | "chown" | "link" => rest = behind.trim_start(),
            _ => return Err(format!("COPY with `--{flag}` is not supported")),
        }
    }
    let mut words = match serde_json::from_str::<Vec<String>>(rest) {
        Ok(words) => words,
        Err(_) => shlex::split(rest)
            .ok_or_else(|| format!("the quotes of `COPY {arguments}` do not match"))?,
    };
    words.pop();
    match words.iter().find(|word| word.starts_with('$')) {
        Some(word) => Err(format!("COPY of a variable (`{word}`) is not supported")),
        None => Ok(words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Vec<String>, String> {
        sources(&[text.to_owned()])
    }

    #[test]
    fn copied_sources_are_found_in_every_form() {
        assert_eq!(of("FROM x\nCOPY a b /dst\nRUN y").unwrap(), ["a", "b"]);
        assert_eq!(of("copy --chown=1:1 --link . /dst").unwrap(), ["**"]);
        assert_eq!(of("COPY a \\\n  # why\n  'b c' \\\n /dst").unwrap(), ["a", "b c"]);
        assert_eq!(of(r#"COPY ["a b", "/dst"]"#).unwrap(), ["a b"]);
        assert_eq!(of("COPY --from=base /x /y\nRUN COPY").unwrap(), [""; 0]);
        assert!(of("COPY $X /y").is_err() && of("COPY --parents a b").is_err());
        assert!(of("COPY 'a /y").is_err());
    }

    fn tree() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir_all(root.join("src/deep")).unwrap();
        for name in ["Cargo.toml", "src/a.rs", "src/b.tmp", "src/deep/c.rs", "other.txt"] {
            fs::write(root.join(name), name).unwrap();
        }
        directory
    }

    fn names(context: &Context, commands: &str) -> Vec<String> {
        let found = context.find(&[commands.to_owned()]);
        let files = found.unwrap_or_else(|_| panic!("{commands} failed")).unwrap_or_default();
        files.into_iter().map(|file| file.remote).collect()
    }

    #[test]
    fn only_what_is_copied_and_not_ignored_is_sent() {
        let directory = tree();
        let root = directory.path();
        let mut context = Context { directory: Some(root.to_owned()), ..Context::default() };
        assert_eq!(
            names(&context, "COPY src /app\nCOPY Cargo.toml /app/"),
            ["/Cargo.toml", "/src/a.rs", "/src/b.tmp", "/src/deep/c.rs"]
        );
        fs::write(root.join(".dockerignore"), "**/*.tmp\n.dockerignore\n").unwrap();
        assert_eq!(names(&context, "COPY ./src/ /app"), ["/src/a.rs", "/src/deep/c.rs"]);
        context.ignore = Some(IgnoreRules::new(["src/deep", ".*"]).unwrap());
        assert_eq!(
            names(&context, "COPY . /app"),
            ["/Cargo.toml", "/other.txt", "/src/a.rs", "/src/b.tmp"]
        );
    }

    #[test]
    fn the_ignore_file_of_the_dockerfile_comes_first() {
        let directory = tree();
        let root = directory.path();
        fs::write(root.join(".dockerignore"), "src\n").unwrap();
        fs::write(root.join("Dockerfile.dockerignore"), "*.txt\nDocker*\n.*\nCargo.toml\n")
            .unwrap();
        let dockerfile = Some(root.join("Dockerfile"));
        let context = Context { directory: Some(root.to_owned()), ignore: None, dockerfile };
        assert_eq!(names(&context, "COPY . /"), ["/src/a.rs", "/src/b.tmp", "/src/deep/c.rs"]);
    }

    #[cfg(unix)]
    #[test]
    fn nothing_outside_of_the_context_is_sent() {
        let (directory, other) = (tree(), tree());
        let root = directory.path();
        std::os::unix::fs::symlink(other.path().join("other.txt"), root.join("link.txt")).unwrap();
        let context = Context { directory: Some(root.to_owned()), ..Context::default() };
        assert_eq!(names(&context, "COPY *.txt /"), ["/other.txt"]);
        assert!(context.find(&["COPY ../x /".to_owned()]).is_err());
        assert!(context.find(&["COPY a/../../x /".to_owned()]).is_err());
    }
}
