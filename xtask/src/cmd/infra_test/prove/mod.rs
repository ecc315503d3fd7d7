//! `--prove`: that every check can fail, and fails for one reason.
//!
//! A phase is run as it is, then once under the sabotage of each of its checks, then as it is again; every run is a
//! process of its own, as a person would start it. A check is proved where it passed before its sabotage, was then the
//! only one that failed and named the cause, and passed in the next run that reached it.

mod apply;
mod child;
mod halt;
pub(super) mod meddle;

use std::time::Instant;

use anyhow::bail;
use serde::Serialize;

use self::{
    apply::{Applied, apply},
    child::Child,
};
use super::{
    Args,
    check::CheckId,
    deployed::Deployed,
    phase::Phase,
    report::{Row, Status},
    sabotage::{self, Sabotage, Whose},
};
use crate::{
    context::Context,
    exit::{Exit, UsageError},
    target::Target,
};

/// What became of a check, as `--output json` has it.
#[derive(Debug, Serialize)]
struct Proof {
    check: String,
    sabotage: &'static str,
    proved: bool,
    /// What the check said under its sabotage.
    said: String,
    /// Why it is not proved.
    problem: Option<String>,
    seconds: f64,
}

/// The rows of one run, and whose sabotage it was.
struct Ran {
    sabotaged: Option<CheckId>,
    rows: Vec<Row>,
}

pub(super) async fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    if context.choice.target != Target::Local {
        let text = "--prove stops processes and hides things: it does that on target local alone";
        bail!(UsageError(text.to_owned()));
    }
    let mut proofs = Vec::new();
    for phase in args.phase.each().into_iter().filter(|phase| phase.is_built()) {
        proofs.extend(prove_phase(phase, args, context).await?);
    }
    context.printer.json(&proofs)?;
    let missing = proofs.iter().filter(|proof| !proof.proved).count();
    context.printer.text(&format!("\n{} proved, {missing} not", proofs.len() - missing));
    Ok(if missing == 0 && !proofs.is_empty() { Exit::Ok } else { Exit::Failed })
}

async fn prove_phase(phase: Phase, args: &Args, context: &Context) -> anyhow::Result<Vec<Proof>> {
    let is_chosen = |check: &CheckId| args.checks.is_empty() || args.checks.contains(check);
    if !CheckId::of_phase(phase).any(|check| is_chosen(&check)) {
        return Ok(Vec::new());
    }
    let mut child = Child::new(phase, args, context)?;
    let whose = whose(phase, context).await;
    let clean = child.run(&Applied::nothing()).await?;
    let checks = CheckId::of_phase(phase);
    let checks = checks.filter_map(|check| Some((check, sabotage::of_whose(check, whose)?)));
    let mut checks: Vec<_> = checks.collect();
    let is_meant = |row: &&Row| checks.iter().any(|(check, _)| check.name() == row.check);
    if let Some(row) = clean.iter().filter(is_meant).find(|row| row.status != Status::Passed) {
        bail!("`{}` does not pass before anything is done to it: {}", row.check, row.answer);
    }
    for row in clean.iter().filter(|row| !is_meant(row)) {
        context.printer.note(&format!("{} is left out: {}", row.check, row.answer));
    }
    checks.retain(|(check, _)| is_chosen(check));
    child.remember_run(&clean);
    let mut ran = vec![Ran { sabotaged: None, rows: clean }];
    let mut took = Vec::new();
    for (check, sabotage) in &checks {
        let began = Instant::now();
        context.printer.note(&format!("{}: {}", check.name(), sabotage.what));
        let applied = apply(&sabotage.how, &child, args, context).await?;
        let rows = child.run(&applied).await;
        // Whatever came of it.
        applied.undo().await?;
        ran.push(Ran { sabotaged: Some(*check), rows: rows? });
        took.push(began.elapsed().as_secs_f64());
    }
    ran.push(Ran { sabotaged: None, rows: child.run(&Applied::nothing()).await? });
    let checks = checks.iter().zip(took);
    let proofs = checks.map(|((check, done), seconds)| proof(*check, done, &ran, seconds));
    let proofs: Vec<_> = proofs.collect();
    proofs.iter().for_each(|proof| context.printer.text(&line(proof)));
    Ok(proofs)
}

/// Whose Langfuse phases of the deployment are about; where nothing is deployed they say so themselves.
async fn whose(phase: Phase, context: &Context) -> Whose {
    if phase < Phase::Phase3 {
        return Whose::Own;
    }
    match Deployed::look(context).await {
        Ok(Deployed { existing: Some(_), .. }) => Whose::Existing,
        _ => Whose::Own,
    }
}

fn proof(check: CheckId, sabotage: &Sabotage, ran: &[Ran], seconds: f64) -> Proof {
    let name = check.name();
    let at = ran.iter().position(|ran| ran.sabotaged == Some(check)).unwrap_or_default();
    let row = ran[at].rows.iter().find(|row| row.check == name);
    let problem = problem(&name, sabotage, ran, at);
    Proof {
        check: name,
        sabotage: sabotage.what,
        proved: problem.is_none(),
        said: row.map(|row| row.answer.clone()).unwrap_or_default(),
        problem,
        seconds,
    }
}

/// Why the runs before, under and after a sabotage do not prove its check.
fn problem(name: &str, sabotage: &Sabotage, ran: &[Ran], at: usize) -> Option<String> {
    let of = |ran: &Ran| ran.rows.iter().find(|row| row.check == name).cloned();
    let reached = |row: &Row| row.status != Status::Skipped;
    let Some(row) = of(&ran[at]) else { return Some("it did not run".to_owned()) };
    if row.status != Status::Failed {
        return Some(format!("it did not fail: {}", row.answer));
    }
    if !row.answer.contains(sabotage.says) {
        return Some(format!("it does not name the cause, `{}`: {}", sabotage.says, row.answer));
    }
    let failed = ran[at].rows.iter().filter(|row| row.status == Status::Failed);
    let others: Vec<_> = failed.filter(|row| row.check != name).collect();
    if let Some(other) = others.first() {
        return Some(format!("`{}` failed, too: {}", other.check, other.answer));
    }
    let before = ran[..at].iter().rev().filter_map(of).find(reached);
    let after = ran[at + 1..].iter().filter_map(of).find(reached);
    for (when, row) in [("before", before), ("after", after)] {
        if let Some(row) = row.filter(|row| row.status == Status::Passed) {
            tracing::debug!(when, row.check, "passed");
        } else {
            return Some(format!("it did not pass {when} it"));
        }
    }
    None
}

fn line(proof: &Proof) -> String {
    let Proof { check, said, problem, .. } = proof;
    match problem {
        None => format!("proved      {check:16}  fails with: {said}"),
        Some(problem) => format!("NOT PROVED  {check:16}  {problem}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(sabotaged: Option<CheckId>, rows: [(CheckId, Status, &str); 2]) -> Ran {
        let row = |(check, status, answer): (CheckId, Status, &str)| Row {
            phase: check.about().phase.name().to_owned(),
            check: check.name(),
            what: String::new(),
            status,
            answer: answer.to_owned(),
            next: None,
            seconds: 0.0,
        };
        Ran { sabotaged, rows: rows.map(row).to_vec() }
    }

    #[test]
    fn a_proof_needs_one_failure_its_cause_and_a_pass_on_both_sides() {
        use Status::{Failed, Passed, Skipped};
        const A: CheckId = CheckId::Agent;
        const B: CheckId = CheckId::AgentAlone;
        let clean = || ran(None, [(A, Passed, "an agent"), (B, Passed, "alone")]);
        let says = sabotage::of(A).says;
        let tried = |under: [(CheckId, Status, &str); 2], after: Ran| {
            proof(A, &sabotage::of(A), &[clean(), ran(Some(A), under), after], 0.0).problem
        };
        assert_eq!(tried([(A, Failed, says), (B, Skipped, "")], clean()), None);
        let none = tried([(A, Passed, "an agent"), (B, Passed, "alone")], clean());
        assert!(none.unwrap().starts_with("it did not fail"));
        let other = tried([(A, Failed, says), (B, Failed, "it needs")], clean());
        assert!(other.unwrap().starts_with("`agent-alone` failed, too"));
        let vague = tried([(A, Failed, "it failed"), (B, Skipped, "")], clean());
        assert!(vague.unwrap().starts_with("it does not name the cause"));
        let stays = ran(None, [(A, Failed, says), (B, Skipped, "")]);
        let stays = tried([(A, Failed, says), (B, Skipped, "")], stays);
        assert_eq!(stays.unwrap(), "it did not pass after it");
    }
}
