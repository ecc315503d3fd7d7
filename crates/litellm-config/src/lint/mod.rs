//! The linter: what the real proxy would do with a configuration, before it does.
//!
//! [`lint`] runs [every rule](crate::rule) over a file. LiteLLM checks almost nothing itself: most mistakes are silent
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::VersionSet;

    const MANY: &str = r#"# Everything in it can be mended.
model_list:
  - model_name: m   # stays
    litellm_params:
      model: azre/gpt-4o-mini
      api_base: os.environ/BASE
      api_key: ${KEY}
      api_version: 2024-06-01
      temprature: 0.5
  - model_name: qwen-local
    litellm_params:
      model: hosted_vllm/qwen
      api_base: https://x.sleeps.example
      api_key: os.environ/KEY
      num_retries: 0
      max_budget: 5
      budget_duration: 1 month
    model_info: {mode: chatt, base_modl: gpt-4o}
litelm_settings:
  drop_params: "yes"
litellm_settings:
  drop_params: "yes"
  success_callback: [langfus]
  num_retry: 2
general_settings:
  master_key: os.environ/LITELLM_MASTER_KEY
router_settings: {routing_strategy: least_busy}
"#;

    fn context() -> Context {
        let mut context = Context::new(VersionSet::named("langfuse-3").unwrap());
        context.sleeping_hosts = vec![".sleeps.example".to_owned()];
        context
    }

    fn told(report: &Report) -> String {
        let lines = report.findings.iter().map(|it| {
            let fix = if it.fix.is_empty() { "" } else { " (fix)" };
            let (line, level, rule) = (it.place.line, it.level.name(), it.rule.name);
            format!("{line}: {level}[{rule}] {}: {}{fix}", it.path, it.message)
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn many_mistakes_are_told_and_mended() {
        let report = lint(MANY, &context());
        insta::assert_snapshot!("many", told(&report));
        let mut text = MANY.to_owned();
        for _ in 0..4 {
            text = fix(&text, &lint(&text, &context())).0;
        }
        insta::assert_snapshot!("mended", text);
        let left = lint(&text, &context());
        assert!(left.findings.iter().all(|finding| finding.fix.is_empty()), "{}", told(&left));
    }

    #[test]
    fn what_is_meant_is_allowed_where_it_stands() {
        let text = |comment: &str, right: &str| {
            format!(
                "{comment}\nmodel_list: []{right}\ngeneral_settings: {{master_key: os.environ/K}}\n"
            )
        };
        let count = |text: &str| lint(text, &context()).findings.len();
        assert_eq!(count(&text("", "")), 1);
        assert_eq!(count(&text("# filled later, litellm-lint: allow model-list", "")), 0);
        assert_eq!(count(&text("", " # litellm-lint: allow master-key, model-list")), 0);
        assert_eq!(count(&text("# litellm-lint: allow another-rule", "")), 1);
    }

    #[test]
    fn a_release_that_wakes_models_and_has_no_switch_is_refused() {
        let mut context = context();
        let text = MANY.replace(
            "general_settings:\n",
            "general_settings:\n  disable_model_info_refresh: true\n",
        );
        let wakes = |context: &Context, text: &str| {
            let report = lint(text, context);
            report
                .findings
                .iter()
                .find(|it| it.rule.name == "wakes-sleeping-models")
                .map(|it| it.message.clone())
        };
        assert_eq!(wakes(&context, &text), None);
        assert!(wakes(&context, MANY).unwrap().contains("wakes 1 sleeping model"));
        context.litellm = "1.103.5".parse().unwrap();
        assert!(wakes(&context, &text).unwrap().contains("has no switch"));
        context.litellm = "1.102.4".parse().unwrap();
        assert_eq!(wakes(&context, MANY), None);
    }

    #[test]
    fn no_key_is_ever_shown() {
        let key = "sk-proj-8Jq2Lr5Zt9Xw3Vb7";
        let text = format!(
            "model_list:\n  - model_name: m\n    litellm_params: {{model: openai/x, api_key: {key}}}\n\
             general_settings: {{master_key: {key}}}\nenvironment_variables: {{A_KEY: {key}}}\n"
        );
        let report = lint(&text, &context());
        let literal =
            report.findings.iter().filter(|finding| finding.rule.name == "literal-key").count();
        assert_eq!(literal, 3);
        assert!(!format!("{report:?}").contains(key));
        let digits = text.replace(key, "1234567890123");
        assert!(
            !format!(
                "{:?}",
                lint(&digits, &context()).findings.iter().map(|it| &it.message).collect::<Vec<_>>()
            )
            .contains("1234567890123")
        );
    }

    #[test]
    fn whatever_the_file_no_rule_panics() {
        let pieces = [
            "model_list",
            "litellm_params",
            "model_info",
            "fallbacks",
            "litellm_settings",
            "router_settings",
            "general_settings",
            "retry_policy",
            "callbacks",
            "environment_variables",
            "custom_auth",
            "include",
        ];
        let values = [
            "null",
            "[]",
            "{}",
            "[1, {a: b}, [c]]",
            "text",
            "7",
            "2024-01-01",
            "{a: {b: [c]}}",
            "&a [*a]",
            "-",
            "? [x]\n: y",
            "!!str 5",
            "{<<: [1]}",
        ];
        for piece in pieces {
            for value in values {
                for text in [
                    format!("{piece}: {value}\n"),
                    format!("litellm_settings:\n  {piece}: {value}\n"),
                    format!("router_settings: {{{piece}: {value}}}\n"),
                    format!("model_list:\n  - {piece}: {value}\n  - model_name: {value}\n"),
                ] {
                    let report = lint(&text, &context());
                    let _fixed = fix(&text, &report);
                }
            }
        }
    }
}
