//! The head of a `SKILL.md`: YAML between two lines of three dashes.
//!
//! Fields of other agents (`license`, `model`, `metadata` …) are left alone; those that mean something here are
//! checked, and what is wrong is told with its line.

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::Context;

/// Characters of a name at most; it has to fit into a call.
const LONGEST_NAME: usize = 64;

/// What is wrong with a file, and in which of its lines, from 1.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fault {
    pub(super) line: u64,
    pub(super) reason: String,
}

impl Fault {
    fn new(line: u64, reason: impl Into<String>) -> Self {
        Fault { line, reason: reason.into() }
    }
}

/// A file in its two parts, the head checked.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Parsed {
    pub(super) head: Head,
    pub(super) body: String,
}

/// The checked head.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Head {
    pub(super) name: Option<String>,
    pub(super) description: String,
    pub(super) when_to_use: Option<String>,
    pub(super) allowed_tools: Option<Vec<String>>,
    pub(super) argument_hint: Option<String>,
    pub(super) arguments: Vec<String>,
    pub(super) context: Context,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", expecting = "fields like `description: …`")]
struct Raw {
    name: Option<Spanned<String>>,
    description: Option<Spanned<String>>,
    #[serde(rename = "when_to_use", alias = "when-to-use")]
    when_to_use: Option<String>,
    #[serde(alias = "allowed_tools")]
    allowed_tools: Option<Words>,
    #[serde(alias = "argument_hint")]
    argument_hint: Option<String>,
    arguments: Option<Spanned<Words>>,
    context: Option<Spanned<String>>,
}

/// `a, b` or `[a, b]`.
#[derive(Deserialize)]
#[serde(untagged, expecting = "neither a text nor a list of texts")]
enum Words {
    Text(String),
    List(Vec<String>),
}

/// Splits and checks a file.
pub(super) fn parse(text: &str) -> Result<Parsed, Fault> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let text = text.replace('\r', "\n");
    let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
    if first.trim_end() != "---" {
        return Err(Fault::new(
            1,
            "the file does not begin with a line `---` and its front matter",
        ));
    }
    let Some((yaml, body)) = split(rest) else {
        return Err(Fault::new(1, "the front matter has no end: a second line `---` is missing"));
    };
    let yaml = quote_hint(yaml);
    let raw: Option<Raw> = serde_saphyr::from_str(&yaml).map_err(|error| told(&error))?;
    let head = check(raw.ok_or_else(|| Fault::new(1, "the front matter is empty"))?)?;
    Ok(Parsed { head, body: body.trim().to_owned() })
}

/// The text before and after the closing line.
fn split(rest: &str) -> Option<(&str, &str)> {
    let mut at = 0;
    for line in rest.split_inclusive('\n') {
        if line.trim_end() == "---" {
            return Some((&rest[..at], &rest[at + line.len()..]));
        }
        at += line.len();
    }
    None
}

/// The head with the hint in quotes: `argument-hint: [file] [line]` is what skills have, and no YAML.
fn quote_hint(yaml: &str) -> String {
    let quoted = |line: &str| {
        let name =
            ["argument-hint:", "argument_hint:"].into_iter().find(|it| line.starts_with(it))?;
        let value = line[name.len()..].trim();
        value.starts_with('[').then(|| format!("{name} '{}'\n", value.replace('\'', "''")))
    };
    yaml.split_inclusive('\n').map(|line| quoted(line).unwrap_or_else(|| line.to_owned())).collect()
}

/// The parser's words on one line. Its lines count from the head's second line.
fn told(error: &serde_saphyr::Error) -> Fault {
    let line = error.location().map_or(1, |location| location.line() + 1);
    let text = error.without_snippet().to_string();
    // The position that the parser adds is that in the head alone.
    let text = text.split(" at line ").next().unwrap_or_default();
    let text = text.lines().next().unwrap_or_default();
    let text = text.split(", set DuplicateKeyPolicy").next().unwrap_or_default();
    let text = text.replace("expected mapping start", "it has no fields like `description: …`");
    let hint = if text.contains("mapping values") { "; quote a value that holds `: `" } else { "" };
    Fault::new(line, format!("the front matter is no YAML for a skill: {text}{hint}"))
}

fn line_of<T>(spanned: &Spanned<T>) -> u64 {
    spanned.referenced.line() + 1
}

fn check(raw: Raw) -> Result<Head, Fault> {
    let Some(description) = raw.description.filter(|it| !it.value.trim().is_empty()) else {
        return Err(Fault::new(1, "`description` is missing: the model chooses skills by it"));
    };
    if let Some(name) = &raw.name
        && !is_name(&name.value)
    {
        let reason = format!(
            "`name: {}` is none: letters, digits, `-`, `_`, `.` and `:`, at most {LONGEST_NAME}",
            name.value
        );
        return Err(Fault::new(line_of(name), reason));
    }
    Ok(Head {
        name: raw.name.map(|name| name.value),
        description: one_line(&description.value),
        when_to_use: raw.when_to_use.map(|text| one_line(&text)).filter(|text| !text.is_empty()),
        allowed_tools: raw.allowed_tools.map(tools),
        argument_hint: raw.argument_hint.map(|hint| one_line(&hint)),
        arguments: raw.arguments.map(arguments).transpose()?.unwrap_or_default(),
        context: raw.context.map(context).transpose()?.unwrap_or_default(),
    })
}

/// Whether the model can name a skill so.
pub(super) fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_alphanumeric() || "-_.:".contains(c);
    !name.is_empty() && name.chars().count() <= LONGEST_NAME && name.chars().all(fits)
}

fn context(context: Spanned<String>) -> Result<Context, Fault> {
    match context.value.as_str() {
        "inline" => Ok(Context::Inline),
        "fork" => Ok(Context::Fork),
        other => {
            let reason = format!("`context: {other}` is neither `inline` nor `fork`");
            Err(Fault::new(line_of(&context), reason))
        }
    }
}

fn arguments(words: Spanned<Words>) -> Result<Vec<String>, Fault> {
    let line = line_of(&words);
    let names: Vec<String> = match words.value {
        Words::Text(text) => text.split_whitespace().map(str::to_owned).collect(),
        Words::List(names) => names,
    };
    let is_word = |name: &String| {
        let starts = name.starts_with(|c: char| c.is_alphabetic() || c == '_');
        starts && name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-')
    };
    match names.iter().find(|name| !is_word(name)) {
        Some(bad) => Err(Fault::new(line, format!("`{bad}` is no name of an argument"))),
        None => Ok(names),
    }
}

/// Names of tools: `Read, Grep`, `Read Grep`, or a list. A pattern in brackets, as in `Bash(git:*)`, stays.
fn tools(words: Words) -> Vec<String> {
    let text = match words {
        Words::List(names) => return names.iter().map(|name| name.trim().to_owned()).collect(),
        Words::Text(text) => text,
    };
    let (mut names, mut depth) = (vec![String::new()], 0usize);
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && (c == ',' || c.is_whitespace()) {
            names.push(String::new());
        } else if let Some(name) = names.last_mut() {
            name.push(c);
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        let fault = parse(text).unwrap_err();
        format!("{}: {}", fault.line, fault.reason)
    }

    #[test]
    fn every_field_is_read() {
        let text = "\u{feff}---\r\nname: pdf-forms\r\ndescription: >\r\n  Fills forms:\r\n  all kinds.\r\nlicense: MIT\r\n\
                    when_to_use: a form is to be filled\r\nallowed-tools: Read, Bash(pdftk:*, qpdf), Grep\r\n\
                    argument-hint: [file] [page] \r\narguments: [file, page]\r\ncontext: fork\r\nmetadata:\r\n  a: 1\r\n---\r\n\r\n# Body\r\n---\r\nend\r\n";
        let parsed = parse(text).unwrap();
        assert_eq!(
            parsed.head,
            Head {
                name: Some("pdf-forms".into()),
                description: "Fills forms: all kinds.".into(),
                when_to_use: Some("a form is to be filled".into()),
                allowed_tools: Some(
                    ["Read", "Bash(pdftk:*, qpdf)", "Grep"].map(String::from).into()
                ),
                argument_hint: Some("[file] [page]".into()),
                arguments: vec!["file".into(), "page".into()],
                context: Context::Fork,
            }
        );
        assert_eq!(parsed.body, "# Body\n---\nend");
    }

    #[test]
    fn little_is_needed() {
        let parsed = parse("---\ndescription: d\narguments: a b\n---\n").unwrap();
        assert_eq!((parsed.head.arguments.len(), parsed.head.context), (2, Context::Inline));
        assert!(parsed.body.is_empty());
    }

    #[test]
    fn lines_end_as_they_like_and_blanks_after_the_dashes_do_not_matter() {
        for text in [
            "---\rdescription: d\r---\rbody\r",
            "---  \ndescription: d\n--- \nbody",
            "\u{feff}---\t\r\ndescription: d\r\n---\r\nbody",
        ] {
            let parsed = parse(text).unwrap();
            assert_eq!((parsed.head.description.as_str(), parsed.body.as_str()), ("d", "body"));
        }
    }

    #[test]
    fn a_head_that_grows_without_end_is_a_fault() {
        let mut yaml = String::from("---\ndescription: d\na0: &a0 [x, x]\n");
        for level in 1..40 {
            let before = level - 1;
            yaml +=
                &format!("a{level}: &a{level} [*a{before}, *a{before}, *a{before}, *a{before}]\n");
        }
        assert!(fault(&(yaml + "---\n")).contains("budget breached"));
        let deep =
            format!("---\ndescription: d\nx: {}{}\n---\n", "[".repeat(5_000), "]".repeat(5_000));
        assert!(fault(&deep).contains("limit"), "{}", fault(&deep));
    }

    #[test]
    fn faults_name_their_line() {
        insta::assert_snapshot!(
            [
                fault("# No head\n"),
                fault("---\ndescription: d\n"),
                fault("---\n---\nbody"),
                fault("---\nname: x\n---\n"),
                fault("---\nname: a b\ndescription: d\n---\n"),
                fault("---\nname: a\ndescription: Use when: always\n---\n"),
                fault("---\nname: a\ndescription: d\ncontext: sideways\n---\n"),
                fault("---\ndescription: d\narguments: [\"1x\"]\n---\n"),
                fault("---\ndescription: d\nallowed-tools: {a: b}\n---\n"),
                fault("---\ndescription: d\ndescription: e\n---\n"),
                fault("---\n- a\n- b\n---\n"),
            ]
            .join("\n"), @r"
        1: the file does not begin with a line `---` and its front matter
        1: the front matter has no end: a second line `---` is missing
        1: the front matter is empty
        1: `description` is missing: the model chooses skills by it
        2: `name: a b` is none: letters, digits, `-`, `_`, `.` and `:`, at most 64
        3: the front matter is no YAML for a skill: mapping values are not allowed in this context; quote a value that holds `: `
        4: `context: sideways` is neither `inline` nor `fork`
        3: `1x` is no name of an argument
        3: the front matter is no YAML for a skill: neither a text nor a list of texts
        3: the front matter is no YAML for a skill: duplicate mapping key: description
        2: the front matter is no YAML for a skill: it has no fields like `description: …`
        ");
    }
}
