//! The linter: what the real proxy would do with a configuration, before it does.
//!
//! [`lint`] runs every [rule](crate::rule) over a file. LiteLLM checks almost nothing itself: most mistakes are silent
//! until a request fails, a trace is missing or a GPU wakes. Each rule says what the proxy does then; the tests boot
//! the real proxy with each mistake and see it.
//!
//! A finding that is meant can be allowed where it stands: `# litellm-lint: allow duplicate-model-name` on its line or
//! on the lines of comment above.

mod context;
mod finding;
pub(crate) mod subject;

pub use self::{
    context::{Context, Environment},
    finding::{Edit, Finding, Level},
};
pub(crate) use self::{finding::Findings, subject::Subject};

use crate::{
    rule::{self, RULES},
    yaml::{Document, Place},
};

/// Everything that was found, from the file's beginning to its end.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The mistakes.
    pub findings: Vec<Finding>,
    /// Variables that the file takes from the environment, by name.
    pub variables: Vec<String>,
}

impl Report {
    /// How bad it is in all.
    pub fn worst(&self) -> Option<Level> {
        self.findings.iter().map(|finding| finding.level).max()
    }
}

/// Looks for mistakes.
pub fn lint(text: &str, context: &Context) -> Report {
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(error) => {
            let mut findings = Findings { rule: &rule::yaml_syntax::RULE, all: Vec::new() };
            let start = offset(text, error.line);
            let place = Place { line: error.line, column: error.column, start, end: start };
            findings.push(place, String::new(), error.what);
            return Report { findings: findings.all, variables: Vec::new() };
        }
    };
    let subject = Subject::new(&document, context);
    let mut findings = Vec::new();
    for rule in RULES {
        let mut found = Findings { rule, all: Vec::new() };
        (rule.check)(&subject, &mut found);
        findings.extend(found.all);
    }
    let lines: Vec<&str> = text.lines().collect();
    findings.retain(|finding| !is_allowed(&lines, finding));
    findings.sort_by_key(|finding| (finding.place.line, finding.place.column, finding.rule.name));
    Report { findings, variables: rule::unset_variable::named(&document) }
}

/// Where a line begins.
fn offset(text: &str, line: usize) -> usize {
    text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum()
}

fn is_allowed(lines: &[&str], finding: &Finding) -> bool {
    let at = finding.place.line.saturating_sub(1).min(lines.len());
    let own = lines.get(at).copied().into_iter();
    let above = lines[..at].iter().rev().copied();
    let comments = above.take_while(|line| line.trim_start().starts_with('#'));
    own.chain(comments).any(|line| allows(line, finding.rule.name))
}

fn allows(line: &str, rule: &str) -> bool {
    let Some((_, list)) = line.split_once("litellm-lint: allow ") else { return false };
    list.split([',', ' ']).any(|name| name.trim() == rule)
}

/// The text with every fix applied, and how many there were. A fix that overlaps one before it waits for the next
/// call.
pub fn fix(text: &str, report: &Report) -> (String, usize) {
    let mut edits: Vec<&Vec<Edit>> =
        report.findings.iter().map(|finding| &finding.fix).filter(|fix| !fix.is_empty()).collect();
    edits.sort_by_key(|fix| fix[0].range.start);
    let mut taken: Vec<&Edit> = Vec::new();
    let mut count = 0;
    for fix in edits {
        let overlaps = |edit: &&Edit| taken.iter().any(|other| touches(edit, other));
        if !fix.iter().any(|edit| overlaps(&edit)) {
            taken.extend(fix);
            count += 1;
        }
    }
    taken.sort_by_key(|edit| std::cmp::Reverse(edit.range.start));
    let mut fixed = text.to_owned();
    for edit in taken {
        fixed.replace_range(edit.range.clone(), &edit.text);
    }
    (fixed, count)
}

fn touches(one: &Edit, other: &Edit) -> bool {
    one.range.start <= other.range.end && other.range.start <= one.range.end
}
