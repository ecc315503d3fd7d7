//! Skills: directories with instructions that the model is told of by name and loads when it needs them.
//!
//! A skill is `<name>/SKILL.md` below `<dir>/.claude/skills`, or below `<dir>` itself: a head that says what it is
//! for ([`front_matter`](self)), a text, and any files beside it. Names and descriptions stand in the description
//! of the tool `Skill`; a text is read when that tool is called. What is wrong with a skill is a [`Problem`], never
//! the end of a run: the others still work.

mod front_matter;
mod substitute;
mod tool;

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub(crate) use tool::wanted;
pub use tool::{SKILL, SkillTool};

/// A skill's file.
const FILE: &str = "SKILL.md";
/// Where skills lie in a project.
const IN_PROJECT: &str = ".claude/skills";
/// Bytes of a skill's file at most: it has to fit into a model's context.
const LARGEST: u64 = 256 << 10;
/// Files beside a skill's text that are listed with it.
const LISTED: usize = 50;
/// Directories below a skill's that are looked into for such files.
const DEEPEST: usize = 4;

/// Where a skill's text goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Context {
    /// Into the conversation, as the call's result.
    #[default]
    Inline,
    /// Into a conversation of its own, whose answer is the call's result.
    Fork,
}

/// A skill that can be used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Skill {
    /// What the model calls it.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// When to use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_to_use: Option<String>,
    /// What may be given to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argument_hint: Option<String>,
    /// Names of its arguments, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
    /// Tools that it works with; in a conversation of its own it is offered no others. None: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_tools: Option<Vec<String>>,
    /// Where its text goes.
    pub context: Context,
    /// Its file.
    pub path: PathBuf,
    /// SHA-256 of the file when it was found, in hex.
    pub sha256: String,
}

/// What is wrong with a skill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// The file or directory.
    pub path: PathBuf,
    /// The line, from 1, where one is to blame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}", self.reason)
    }
}

/// The skills of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Skills {
    /// Those that can be used, by name.
    pub found: Vec<Skill>,
    /// What is wrong with others.
    pub problems: Vec<Problem>,
}

impl Skills {
    /// Looks for skills; an error only if the directory itself can't be read.
    pub fn load(directory: &Path) -> io::Result<Self> {
        let mut skills = Skills::default();
        let direct = entries(directory)?;
        let in_project = directory.join(IN_PROJECT);
        match entries(&in_project) {
            Ok(folders) => skills.add_all(&folders, true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => skills.problem(&in_project, None, error.to_string()),
        }
        if directory.join(FILE).is_file() {
            skills.add(directory);
        }
        skills.add_all(&direct, false);
        if skills.found.is_empty() && skills.problems.is_empty() {
            let reason =
                format!("no skills here: neither {IN_PROJECT}/NAME/{FILE} nor NAME/{FILE}");
            skills.problem(directory, None, reason);
        }
        skills.found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(skills)
    }

    /// The skill of that name, as the model may spell it.
    pub fn find(&self, name: &str) -> Option<&Skill> {
        let name = name.trim().trim_start_matches('/');
        let exact = self.found.iter().find(|skill| skill.name == name);
        exact.or_else(|| self.found.iter().find(|skill| skill.name.eq_ignore_ascii_case(name)))
    }

    /// Adds a problem for each tool that a skill allows and that is not there.
    pub fn check_tools(&mut self, known: &[String]) {
        for skill in self.found.clone() {
            for tool in skill.allowed_tools.iter().flatten() {
                let name = bare_tool(tool);
                if name != "*" && !known.iter().any(|it| it == name) && !name.starts_with("mcp__") {
                    let reason =
                        format!("skill `{}` allows a tool that is not here: `{tool}`", skill.name);
                    self.problem(&skill.path, None, reason);
                }
            }
        }
    }

    fn add_all(&mut self, folders: &[PathBuf], must_be_skills: bool) {
        for folder in folders.iter().filter(|folder| folder.is_dir()) {
            if folder.join(FILE).exists() {
                self.add(folder);
            } else if must_be_skills {
                self.problem(folder, None, missing(folder));
            }
        }
    }

    fn add(&mut self, folder: &Path) {
        let path = folder.join(FILE);
        match read(&path, folder) {
            Ok(skill) => match self.found.iter().find(|known| known.name == skill.name) {
                Some(known) => {
                    let reason = format!(
                        "there is a skill `{}` already: {}",
                        skill.name,
                        known.path.display()
                    );
                    self.problem(&path, None, reason);
                }
                None => self.found.push(skill),
            },
            Err(problem) => self.problems.push(problem),
        }
    }

    fn problem(&mut self, path: &Path, line: Option<u64>, reason: impl Into<String>) {
        self.problems.push(Problem { path: path.to_owned(), line, reason: reason.into() });
    }
}

impl Skill {
    /// Its directory.
    pub fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// Whether a conversation of its own is offered this tool.
    pub fn allows(&self, tool: &str) -> bool {
        let Some(allowed) = &self.allowed_tools else { return true };
        allowed.iter().map(|it| bare_tool(it)).any(|name| {
            name == "*"
                || name == tool
                || tool.strip_prefix(name).is_some_and(|rest| rest.starts_with("__"))
        })
    }

    /// Its text with a call's arguments put in, read now; before it stands where it comes from.
    pub fn text(&self, arguments: &str) -> Result<String, Problem> {
        let body = parsed(&self.path)?.1.body;
        let directory = self.directory().display().to_string();
        let body = substitute::substitute(&body, &self.arguments, arguments, &directory);
        let mut text = format!("Skill `{}`, from {directory}.", self.name);
        if let Some(tools) = &self.allowed_tools {
            text.push_str(&format!(" It works with the tools {}.", tools.join(", ")));
        }
        let files = files(self.directory());
        if !files.is_empty() {
            text.push_str(&format!("\nFiles in that directory: {}", files.join(", ")));
        }
        Ok(format!("{text}\n\n{body}"))
    }
}

/// What to say of a directory without the file: it may be there by another name.
fn missing(folder: &Path) -> String {
    let names = entries(folder).unwrap_or_default().into_iter();
    let names = names.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    match names.into_iter().find(|name| name.eq_ignore_ascii_case(FILE)) {
        Some(name) => format!("no {FILE} in this directory: `{name}` has to be called so"),
        None => format!("no {FILE} in this directory"),
    }
}

/// `Bash(git:*)` without the pattern.
fn bare_tool(tool: &str) -> &str {
    tool.split('(').next().unwrap_or(tool).trim()
}

/// What lies in a directory, in order of names.
fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found =
        fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    found.sort();
    Ok(found)
}

fn read(path: &Path, folder: &Path) -> Result<Skill, Problem> {
    let (bytes, parsed) = parsed(path)?;
    let head = parsed.head;
    let folder_name = folder.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = head.name.or(folder_name).unwrap_or_default();
    if !front_matter::is_name(&name) {
        let reason = format!("the directory's name `{name}` can't be a skill's: give it a `name`");
        return Err(Problem { path: path.to_owned(), line: Some(1), reason });
    }
    Ok(Skill {
        name,
        description: head.description,
        when_to_use: head.when_to_use,
        argument_hint: head.argument_hint,
        arguments: head.arguments,
        allowed_tools: head.allowed_tools,
        context: head.context,
        path: path.to_owned(),
        sha256: Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect(),
    })
}

fn parsed(path: &Path) -> Result<(Vec<u8>, front_matter::Parsed), Problem> {
    let broken = |line, reason: String| Problem { path: path.to_owned(), line, reason };
    let said = |error: io::Error| broken(None, format!("can't be read: {error}"));
    let metadata = fs::metadata(path).map_err(said)?;
    if !metadata.is_file() || metadata.len() > LARGEST {
        return Err(broken(None, format!("is no file of at most {LARGEST} bytes")));
    }
    let bytes = fs::read(path).map_err(said)?;
    let text = String::from_utf8(bytes.clone()).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = bytes[..good].iter().filter(|byte| **byte == b'\n').count() + 1;
        broken(Some(line as u64), "is no UTF-8 text".to_owned())
    })?;
    let parsed =
        front_matter::parse(&text).map_err(|fault| broken(Some(fault.line), fault.reason))?;
    Ok((bytes, parsed))
}

/// The files beside a skill's text, as paths below its directory.
fn files(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut ask = vec![(directory.to_owned(), 0)];
    while let Some((folder, depth)) = ask.pop() {
        for path in entries(&folder).unwrap_or_default() {
            if path.is_dir() && depth < DEEPEST && !path.is_symlink() {
                ask.push((path, depth + 1));
            } else if path.is_file() && path != directory.join(FILE) {
                let below = path.strip_prefix(directory).unwrap_or(&path);
                found.push(below.display().to_string());
            }
        }
    }
    found.sort();
    if found.len() > LISTED {
        let more = found.len() - LISTED;
        found.truncate(LISTED);
        found.push(format!("and {more} more"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    const GOOD: &str = "---\ndescription: does things\narguments: [file]\n---\nLook at $file.\n";

    #[test]
    fn both_places_are_looked_into_and_the_broken_do_not_matter() {
        let folder = folder(&[
            (".claude/skills/one/SKILL.md", GOOD),
            (".claude/skills/broken/SKILL.md", "---\nname: x\n---\n"),
            (".claude/skills/empty/readme", ""),
            (".claude/skills/lower/skill.md", GOOD),
            ("two/SKILL.md", GOOD),
            ("other/file", ""),
            ("three/SKILL.md", "---\nname: one\ndescription: again\n---\n"),
        ]);
        let skills = Skills::load(folder.path()).unwrap();
        let names: Vec<&str> = skills.found.iter().map(|skill| skill.name.as_str()).collect();
        assert_eq!(names, ["one", "two"]);
        let root = format!("{}/", folder.path().display());
        let problems: Vec<String> =
            skills.problems.iter().map(|it| it.to_string().replace(&root, "")).collect();
        insta::assert_snapshot!(problems.join("\n"), @r"
        .claude/skills/broken/SKILL.md:1: `description` is missing: the model chooses skills by it
        .claude/skills/empty: no SKILL.md in this directory
        .claude/skills/lower: no SKILL.md in this directory: `skill.md` has to be called so
        three/SKILL.md: there is a skill `one` already: .claude/skills/one/SKILL.md
        ");
    }

    #[test]
    fn what_is_no_file_is_told_and_not_waited_for() {
        let folder = folder(&[("dir/SKILL.md/x", ""), ("good/SKILL.md", GOOD)]);
        let link = |from: &str, to: &str| {
            fs::create_dir(folder.path().join(to)).unwrap();
            std::os::unix::fs::symlink(from, folder.path().join(to).join(FILE)).unwrap();
        };
        link("/dev/zero", "endless");
        link("/etc/passwd", "outside");
        fs::create_dir(folder.path().join("pipe")).unwrap();
        let pipe = folder.path().join("pipe").join(FILE);
        assert!(std::process::Command::new("mkfifo").arg(pipe).status().unwrap().success());
        std::os::unix::fs::symlink("..", folder.path().join("circle")).unwrap();
        let skills = Skills::load(folder.path()).unwrap();
        assert_eq!(skills.found.len(), 1);
        let root = format!("{}/", folder.path().display());
        let problems: Vec<String> =
            skills.problems.iter().map(|it| it.to_string().replace(&root, "")).collect();
        insta::assert_snapshot!(problems.join("\n"), @r"
        dir/SKILL.md: is no file of at most 262144 bytes
        endless/SKILL.md: is no file of at most 262144 bytes
        outside/SKILL.md:1: the file does not begin with a line `---` and its front matter
        pipe/SKILL.md: is no file of at most 262144 bytes
        ");
    }

    #[test]
    fn the_directory_may_be_the_folder_of_skills_or_one_skill() {
        let folder = folder(&[("a/SKILL.md", GOOD)]);
        assert_eq!(Skills::load(folder.path()).unwrap().found.len(), 1);
        assert_eq!(Skills::load(&folder.path().join("a")).unwrap().found[0].name, "a");
        assert!(Skills::load(&folder.path().join("b")).is_err());
        let empty = tempfile::tempdir().unwrap();
        assert!(
            Skills::load(empty.path()).unwrap().problems[0].reason.starts_with("no skills here")
        );
    }

    #[test]
    fn a_text_comes_with_its_arguments_and_its_files() {
        let folder = folder(&[("a/SKILL.md", GOOD), ("a/ref/x.md", "x"), ("a/run.sh", "")]);
        let skills = Skills::load(folder.path()).unwrap();
        let text = skills.find("/A").unwrap().text("b.txt").unwrap();
        let text = text.replace(&folder.path().display().to_string(), "[skills]");
        insta::assert_snapshot!(text, @r"
        Skill `a`, from [skills]/a.
        Files in that directory: ref/x.md, run.sh

        Look at b.txt.
        ");
    }

    #[test]
    fn allowed_tools_are_names_patterns_and_servers() {
        let folder = folder(&[(
            "a/SKILL.md",
            "---\ndescription: d\nallowed-tools: Read Bash(git:*) mcp__files Fly\n---\n",
        )]);
        let mut skills = Skills::load(folder.path()).unwrap();
        let skill = &skills.found[0];
        assert!(skill.allows("Read") && skill.allows("Bash") && skill.allows("mcp__files__list"));
        assert!(!skill.allows("Write") && !skill.allows("mcp__filesystem"));
        skills.check_tools(&["Read".into(), "Bash".into()]);
        assert_eq!(skills.problems.len(), 1, "{:?}", skills.problems);
    }
}
