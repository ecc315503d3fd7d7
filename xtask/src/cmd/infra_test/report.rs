//! How checks ended: for people as they end, for programs all at once.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{check::CheckId, phase::Phase};
use crate::{context::Context, exit::Exit};

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    Passed,
    Failed,
    /// It needs something that is not there; never as good as passed.
    Skipped,
    NotBuiltYet,
}

/// One check, as `--output json` has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Row {
    /// `phase1` and so on.
    pub(super) phase: String,
    /// The check's name; the phase's where it is not built.
    pub(super) check: String,
    /// What is so where it passes.
    pub(super) what: String,
    pub(super) status: Status,
    /// What answered, what went wrong, or why it was left out.
    pub(super) answer: String,
    /// What to do next; absent where it passed.
    pub(super) next: Option<String>,
    /// How long it took.
    pub(super) seconds: f64,
}

/// Collects rows and prints each as it comes.
pub(super) struct Report<'c> {
    context: &'c Context,
    rows: Vec<Row>,
}

impl<'c> Report<'c> {
    pub(super) fn new(context: &'c Context) -> Self {
        Self { context, rows: Vec::new() }
    }

    /// Runs a check and says whether it passed.
    pub(super) async fn check(
        &mut self,
        check: CheckId,
        running: impl Future<Output = anyhow::Result<String>>,
    ) -> bool {
        let began = Instant::now();
        let (status, answer) = match running.await {
            Ok(answer) => (Status::Passed, answer),
            Err(error) => (Status::Failed, format!("{error:#}")),
        };
        self.add(check, status, answer, began.elapsed().as_secs_f64());
        status == Status::Passed
    }

    /// Leaves a check out that cannot say anything without another one.
    pub(super) fn needs(&mut self, check: CheckId, other: CheckId) {
        self.skip(check, format!("it needs `{}`, which did not pass", other.name()));
    }

    /// Leaves a check out.
    pub(super) fn skip(&mut self, check: CheckId, why: String) {
        self.add(check, Status::Skipped, why, 0.0);
    }

    /// A phase that this version does not have yet.
    pub(super) fn not_built_yet(&mut self, phase: Phase) {
        self.push(Row {
            phase: phase.name().to_owned(),
            check: phase.name().to_owned(),
            what: phase.title().to_owned(),
            status: Status::NotBuiltYet,
            answer: String::new(),
            next: None,
            seconds: 0.0,
        });
    }

    /// That a phase forgot a check is a mistake of this program, and no success.
    pub(super) fn complete(&mut self, phase: Phase) {
        for check in CheckId::of_phase(phase) {
            if !self.rows.iter().any(|row| row.check == check.name()) {
                self.add(check, Status::Failed, "the phase forgot it".to_owned(), 0.0);
            }
        }
    }

    fn add(&mut self, check: CheckId, status: Status, answer: String, seconds: f64) {
        let about = check.about();
        let next = (status != Status::Passed).then(|| about.next.to_owned());
        self.push(Row {
            phase: about.phase.name().to_owned(),
            check: check.name(),
            what: about.what.to_owned(),
            status,
            answer,
            next,
            seconds,
        });
    }

    fn push(&mut self, row: Row) {
        self.context.printer.text(&line(&row));
        self.rows.push(row);
    }

    /// Prints the sum. Success means that something was checked and nothing failed.
    pub(super) fn finish(self) -> anyhow::Result<Exit> {
        self.context.printer.json(&self.rows)?;
        let count = |status| self.rows.iter().filter(|row| row.status == status).count();
        let (passed, failed) = (count(Status::Passed), count(Status::Failed));
        let (skipped, missing) = (count(Status::Skipped), count(Status::NotBuiltYet));
        self.context.printer.text(&format!(
            "\n{passed} passed, {failed} failed, {skipped} skipped, {missing} not built yet"
        ));
        Ok(if failed == 0 && passed > 0 { Exit::Ok } else { Exit::Failed })
    }
}

fn line(row: &Row) -> String {
    let status = match row.status {
        Status::Passed => "passed",
        Status::Failed => "FAILED",
        Status::Skipped => "skipped",
        Status::NotBuiltYet => "not built yet",
    };
    let Row { phase, check, answer, .. } = row;
    let line = format!("{phase}  {check:16}  {status:13}  {answer}");
    let line = line.trim_end();
    match (&row.next, row.status) {
        (Some(next), Status::Failed) => format!("{line}\n        do: {next}"),
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_to_do_next() {
        let mut row = Row {
            phase: "phase1".to_owned(),
            check: CheckId::Python.name(),
            what: "python3 answers".to_owned(),
            status: Status::Failed,
            answer: "can't run python3".to_owned(),
            next: Some("apt-get install python3-venv".to_owned()),
            seconds: 0.25,
        };
        insta::assert_snapshot!(line(&row), @r"
        phase1  python            FAILED         can't run python3
                do: apt-get install python3-venv
        ");
        row.status = Status::Skipped;
        insta::assert_snapshot!(line(&row), @"phase1  python            skipped        can't run python3");
        insta::assert_json_snapshot!(row, @r#"
        {
          "phase": "phase1",
          "check": "python",
          "what": "python3 answers",
          "status": "skipped",
          "answer": "can't run python3",
          "next": "apt-get install python3-venv",
          "seconds": 0.25
        }
        "#);
    }
}
