//! The table of sabotages: for each check what makes it fail, and it alone.
//!
//! `infra-test --prove` carries them out. The match is exhaustive: a check without a sabotage does not compile.

use serde::Serialize;

use super::{
    check::CheckId,
    prove::meddle::{self, Meddler},
};
use crate::{context::Context, exit::Exit, table::render};

/// What is done to a check.
#[derive(Clone, Copy)]
pub(super) struct Sabotage {
    /// For people.
    pub(super) what: &'static str,
    pub(super) how: How,
    /// The failed check must say this: the cause.
    pub(super) says: &'static str,
}

/// How it is done.
#[derive(Clone, Copy)]
pub(super) enum How {
    /// The check runs with these words.
    Words(&'static [&'static str]),
    /// The check runs with this flag.
    Flag(&'static str, Made),
    /// The check runs with this variable.
    Variable(&'static str, Made),
    /// The volume has another name for a while.
    Rename(&'static str),
    /// A process of a container is stopped for a while; services may take so many seconds to answer then.
    Halt(Program, u64),
    /// Something stands between this command and a service.
    Between(Service, Meddler),
    /// The same, and services may take so many seconds to answer then.
    BetweenFor(Service, Meddler, u64),
    /// The trial of the run is not on the volume for a while.
    HideTrial,
    /// A server of recordings is given as the model.
    OtherModel,
}

/// Something that is made for a flag or a variable.
#[derive(Clone, Copy)]
pub(super) enum Made {
    /// A text.
    Text(&'static str),
    /// A file with this text.
    File(&'static str),
    /// A copy of the file of values that others can read.
    OpenValues,
    /// A copy of the file of values in which this variable has another value.
    OtherValue(&'static str),
    /// PATH, with a program of this name that does not work before all others.
    BrokenProgram(&'static str),
}

/// A process of a container.
#[derive(Clone, Copy, Debug)]
pub(super) enum Program {
    Litellm,
    Langfuse,
    Postgres,
}

/// A service with an address.
#[derive(Clone, Copy)]
pub(super) enum Service {
    Litellm,
    Langfuse,
}

/// An environment that nobody makes.
const NOWHERE: How = How::Words(&["--env", "goat-nowhere"]);
const UNKNOWN_MODEL: How = How::Words(&["--model", "no-such-model"]);

/// What makes a check fail.
pub(super) fn of(check: CheckId) -> Sabotage {
    let done = |what, how, says| Sabotage { what, how, says };
    match check {
        CheckId::Server => done(
            "the state directory is a file",
            How::Variable("GOAT_STATE_DIR", Made::File("")),
            "File exists",
        ),
        CheckId::Agent => done(
            "the agent is a text",
            How::Flag("--binary", Made::File("not a program\n")),
            "no 64-bit Linux program",
        ),
        CheckId::AgentAlone => done(
            "the agent is a program that is linked dynamically",
            How::Words(&["--binary", "/bin/true"]),
            "needs a dynamic loader",
        ),
        CheckId::Python => done(
            "the first python3 in PATH fails",
            How::Variable("PATH", Made::BrokenProgram("python3")),
            "python3 does not work",
        ),
        CheckId::Values => done(
            "others can read the file of values",
            How::Flag("--env-file", Made::OpenValues),
            "others can read",
        ),
        CheckId::SetupPlan => done(
            "one of Azure's two variables is set",
            How::Variable("AZURE_API_KEY", Made::Text("half")),
            "Azure needs AZURE_API_BASE",
        ),
        CheckId::Environment => {
            done("another environment is asked for", NOWHERE, "no environment `goat-nowhere`")
        }
        CheckId::Secrets => done(
            "the file of values has another LITELLM_MASTER_KEY than what is deployed",
            How::Flag("--env-file", Made::OtherValue("LITELLM_MASTER_KEY")),
            "another value than here: LITELLM_MASTER_KEY",
        ),
        CheckId::Volumes => done(
            "volume goat-flashinfer-cache has another name",
            How::Rename("goat-flashinfer-cache"),
            "missing: goat-flashinfer-cache",
        ),
        CheckId::Deployed => {
            done("another environment is asked for", NOWHERE, "not deployed in environment")
        }
        CheckId::LitellmHealth => {
            done("LiteLLM's process is stopped", How::Halt(Program::Litellm, 5), "does not answer")
        }
        CheckId::LitellmVersion => done(
            "a LiteLLM of another version answers",
            How::Between(Service::Litellm, meddle::OTHER_LITELLM),
            "it is 1.0.0",
        ),
        CheckId::LitellmModels => done(
            "a model is asked for that nobody configured",
            UNKNOWN_MODEL,
            "does not list `no-such-model`",
        ),
        CheckId::DoorNoKey => done(
            "something before the door adds the master key where no key is sent",
            How::Between(Service::Litellm, meddle::ADDS_MASTER_KEY),
            "/v1/models with no key: 200",
        ),
        CheckId::DoorWrongKey => done(
            "something before the door takes any key for routes of users",
            How::Between(Service::Litellm, meddle::TAKES_ANY_KEY),
            "/v1/models with an expired key: 200",
        ),
        CheckId::DoorAdmin => done(
            "something before the door makes tasks administrators",
            How::Between(Service::Litellm, meddle::MAKES_TASKS_ADMINS),
            "/goat/traces/status with a task's key: 200",
        ),
        CheckId::DoorUnlisted => done(
            "something before the door answers what the door has not",
            How::Between(Service::Litellm, meddle::ANSWERS_EVERYTHING),
            "/key/generate with the master key: 200",
        ),
        CheckId::LangfuseHealth => done(
            "Langfuse's process is stopped",
            How::Halt(Program::Langfuse, 5),
            "does not answer",
        ),
        CheckId::LangfuseVersion => done(
            "a Langfuse of another version answers",
            How::Between(Service::Langfuse, meddle::OTHER_LANGFUSE),
            "it is 1.0.0",
        ),
        CheckId::LangfuseNoKey => done(
            "something before the door adds the project's keys where none are sent",
            How::Between(Service::Langfuse, meddle::ADDS_PROJECT_KEYS),
            "/api/public/traces with no key: 200",
        ),
        CheckId::Postgres => done(
            "PostgreSQL's process is stopped",
            How::Halt(Program::Postgres, 5),
            "no answer within",
        ),
        CheckId::PostgresBackup => done(
            "the supervisor says that there is no base backup",
            How::Between(Service::Langfuse, meddle::NO_BASE_BACKUP),
            "no base backup",
        ),
        CheckId::Call => {
            done("a model is asked for that nobody configured", UNKNOWN_MODEL, "no-such-model")
        }
        CheckId::Trace => {
            done("Langfuse's process is stopped", How::Halt(Program::Langfuse, 5), "not within 5 s")
        }
        CheckId::TraceSession => done(
            "something before the door drops the session of calls",
            How::Between(Service::Litellm, meddle::DROPS_SESSION),
            "another session",
        ),
        CheckId::TraceTokens => done(
            "Langfuse shows no tokens",
            How::Between(Service::Langfuse, meddle::HIDES_TOKENS),
            "no observation has tokens",
        ),
        CheckId::TraceCost => done(
            "Langfuse shows no costs",
            How::Between(Service::Langfuse, meddle::HIDES_COST),
            "no observation has a cost",
        ),
        CheckId::TraceOwner => done(
            "something before the door calls with one key for all",
            How::Between(Service::Litellm, meddle::ONE_KEY_FOR_ALL),
            "it names nobody, not",
        ),
        CheckId::TracesLost => done(
            "the supervisor says that an event had no room",
            How::Between(Service::Litellm, meddle::LOSES_AN_EVENT),
            "1 had no room",
        ),
        CheckId::Evaluation => done(
            "the agent does nothing",
            How::Words(&["--binary", "/bin/true"]),
            "the answer was ``",
        ),
        CheckId::Results => {
            done("the trial's file is not on the volume", How::HideTrial, "the volume has no trial")
        }
        CheckId::ThroughProxy => done(
            "a server of recordings is given as the model",
            How::OtherModel,
            "but the deployed proxy is",
        ),
        CheckId::TrialTrace => done(
            "Langfuse says that the trace is of another session",
            How::Between(Service::Langfuse, meddle::OTHER_SESSION),
            "is of session `another`",
        ),
    }
}

/// Which Langfuse the traces go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// The app's.
    Own,
    /// One that was there already: its processes are not ours to stop, its database not ours to look at.
    Existing,
}

/// What makes a check fail there; nothing where it is left out.
pub(super) fn of_whose(check: CheckId, whose: Whose) -> Option<Sabotage> {
    match whose {
        Whose::Own => Some(of(check)),
        Whose::Existing if CheckId::OF_OWN_DATABASE.contains(&check) => None,
        Whose::Existing => Some(other(check).unwrap_or_else(|| of(check))),
    }
}

/// What else is done where traces go to an existing Langfuse.
fn other(check: CheckId) -> Option<Sabotage> {
    let done = |what, how, says| Some(Sabotage { what, how, says });
    match check {
        CheckId::LangfuseHealth => done(
            "something before Langfuse says that it is unavailable",
            How::Between(Service::Langfuse, meddle::UNAVAILABLE),
            "/api/public/health answers 503",
        ),
        CheckId::LangfuseNoKey => done(
            "something before Langfuse adds the project's keys where none are sent",
            How::Between(Service::Langfuse, meddle::ADDS_PROJECT_KEYS),
            "/api/public/projects with no key: 200",
        ),
        CheckId::Trace => done(
            "Langfuse shows no traces",
            How::BetweenFor(Service::Langfuse, meddle::HIDES_TRACES, 5),
            "Langfuse has no such trace",
        ),
        _ => None,
    }
}

/// A check as `--list` shows it.
#[derive(Serialize)]
struct Listed {
    phase: &'static str,
    check: String,
    what: &'static str,
    /// Which Langfuse this is about: `any`, `own`, `existing`.
    langfuse: &'static str,
    sabotage: &'static str,
    says: &'static str,
}

fn listed() -> Vec<Listed> {
    let row = |check: CheckId, langfuse, sabotage: Sabotage| Listed {
        phase: check.about().phase.name(),
        check: check.name(),
        what: check.about().what,
        langfuse,
        sabotage: sabotage.what,
        says: sabotage.says,
    };
    let rows = |check: &CheckId| {
        let there = of_whose(*check, Whose::Existing);
        let is_same = there.as_ref().is_some_and(|it| it.what == of(*check).what);
        let langfuse = if is_same { "any" } else { "own" };
        let there = there.filter(|_| !is_same).map(|it| row(*check, "existing", it));
        [Some(row(*check, langfuse, of(*check))), there].into_iter().flatten()
    };
    CheckId::all().iter().flat_map(rows).collect()
}

/// Prints the table.
pub(super) fn list(context: &Context) -> anyhow::Result<Exit> {
    let rows = listed();
    context.printer.json(&rows)?;
    let cells = |row: &Listed| {
        let Listed { phase, check, what, langfuse, sabotage, says: _ } = row;
        [phase, &**check, langfuse, what, sabotage].map(str::to_owned).to_vec()
    };
    let cells: Vec<_> = rows.iter().map(cells).collect();
    let header = ["phase", "check", "Langfuse", "passes where", "fails where"];
    context.printer.text(&render(&header, &cells));
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use std::{env, fs, path::Path};

    use super::*;

    const BEGIN: &str =
        "<!-- the table of `cargo xtask infra-test --list`; a test keeps it true -->\n";
    const END: &str = "<!-- end of the table -->";

    #[test]
    fn every_sabotage_is_told_and_names_the_cause() {
        for check in CheckId::all() {
            let there = of_whose(*check, Whose::Existing);
            for sabotage in there.into_iter().chain([of(*check)]) {
                assert!(!sabotage.what.is_empty() && sabotage.says.len() > 8, "{check:?}");
            }
        }
    }

    #[test]
    fn the_page_has_the_table() {
        let line = |row: &Listed| {
            let Listed { phase, check, what, langfuse, sabotage, says } = row;
            format!("| {phase} | `{check}` | {langfuse} | {what} | {sabotage} | … {says} … |\n")
        };
        let head = "| phase | check | Langfuse | passes where | sabotage | and then says |\n\
                    |---|---|---|---|---|---|\n";
        let table: String = listed().iter().map(line).collect();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/infra-test.md");
        let page = fs::read_to_string(&path).unwrap();
        let (before, rest) = page.split_once(BEGIN).expect("the page has the mark");
        let (_, after) = rest.split_once(END).expect("the page has the mark of the end");
        let wanted = format!("{before}{BEGIN}{head}{table}{END}{after}");
        if env::var_os("UPDATE_DOCS").is_some() {
            fs::write(&path, &wanted).unwrap();
        }
        assert!(fs::read_to_string(&path).unwrap() == wanted, "run it with UPDATE_DOCS=1");
    }
}
