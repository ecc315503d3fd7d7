//! The checks: names that stay, what they ask, what to do where one fails.

use clap::ValueEnum;

use super::phase::Phase;

/// A check. Phases run these and no other; its name is the one of the value in lower case, with hyphens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum CheckId {
    Server,
    Agent,
    AgentAlone,
    Python,
    Values,
    SetupPlan,
    Environment,
    Secrets,
    Volumes,
    Deployed,
    LitellmHealth,
    LitellmVersion,
    LitellmModels,
    DoorNoKey,
    DoorWrongKey,
    DoorAdmin,
    DoorUnlisted,
    LangfuseHealth,
    LangfuseVersion,
    LangfuseNoKey,
    Postgres,
    PostgresBackup,
    Call,
    Trace,
    TraceSession,
    TraceTokens,
    TraceCost,
    TraceOwner,
    TracesLost,
    Evaluation,
    Results,
    ThroughProxy,
    TrialTrace,
}

/// What a check is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct About {
    /// The phase that runs it.
    pub(super) phase: Phase,
    /// What is so where it passes.
    pub(super) what: &'static str,
    /// What to do where it fails.
    pub(super) next: &'static str,
}

const DEPLOY: &str = "`cargo xtask deploy --wait`; docs/deploy.md has symptoms and cures";
const DOOR: &str = "something between here and the door changes requests, or the door is another one: compare \
                    `cargo xtask urls` with the address, then `cargo xtask deploy --wait`";
const NO_TRACE: &str =
    "`cargo xtask traces status` tells whether events wait or were refused; docs/traces.md";

impl CheckId {
    /// Those about the database of the app's own Langfuse: where traces go to another one they say nothing.
    pub(super) const OF_OWN_DATABASE: [Self; 2] = [Self::Postgres, Self::PostgresBackup];

    /// All of them, in the order in which they run.
    pub(super) fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// The name that stays.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// What it is about.
    pub(super) fn about(self) -> About {
        let of = |phase, what, next| About { phase, what, next };
        use Phase::{Phase1, Phase2, Phase3, Phase4, Phase5};
        match self {
            Self::Server => of(
                Phase1,
                "a server of Modal's API answers",
                "target local: docs/local.md, symptoms and cures; target modal: `cargo xtask login`",
            ),
            Self::Agent => of(
                Phase1,
                "the agent is a Linux program for the sandboxes",
                "`cargo xtask build-eval` says what its build lacks",
            ),
            Self::AgentAlone => of(
                Phase1,
                "the agent needs nothing of an image: it runs in an empty directory",
                "`cargo xtask build-eval` builds one that does; another one must be linked statically",
            ),
            Self::Python => of(
                Phase1,
                "python3 answers (for tests and the official SDK)",
                "on Debian: apt-get install python3-venv",
            ),
            Self::Values => of(
                Phase1,
                "the file of values can be read, by its owner alone, and git leaves it out",
                "mend the file, or name another one with --env-file or GOAT_ENV_FILE",
            ),
            Self::SetupPlan => of(
                Phase2,
                "setup could do its work: no provider of models is there by half",
                "`cargo xtask setup --dry-run` shows the plan and what is wrong with it",
            ),
            Self::Environment => of(Phase2, "the environment is there", "`cargo xtask setup`"),
            Self::Secrets => of(
                Phase2,
                "every secret is deployed, with the values of here",
                "`cargo xtask setup` makes what is missing; what differs it replaces where --rotate names it",
            ),
            Self::Volumes => of(Phase2, "every volume is there", "`cargo xtask setup`"),
            Self::Deployed => {
                of(Phase3, "the proxy is deployed, and what takes its traces", DEPLOY)
            }
            Self::LitellmHealth => of(
                Phase3,
                "LiteLLM is ready",
                "`cargo xtask logs litellm --tail 50`: the supervisor's lines say what did not get ready and why",
            ),
            Self::LitellmVersion => of(Phase3, "LiteLLM is the version of the proved set", DEPLOY),
            Self::LitellmModels => of(
                Phase3,
                "LiteLLM lists the model that evaluations ask for",
                "`cargo xtask litellm models` lists the catalogue and what each model's provider needs",
            ),
            Self::DoorNoKey => {
                of(Phase3, "no route of the proxy but health opens without a key", DOOR)
            }
            Self::DoorWrongKey => of(
                Phase3,
                "no route of the proxy opens with a wrong, expired, foreign or revoked key",
                DOOR,
            ),
            Self::DoorAdmin => of(Phase3, "a task's key opens no route of administrators", DOOR),
            Self::DoorUnlisted => of(
                Phase3,
                "routes that nobody listed are not there, not even with the master key",
                DOOR,
            ),
            Self::LangfuseHealth => of(
                Phase3,
                "Langfuse is healthy",
                "`cargo xtask logs langfuse --tail 50`: the supervisor's lines say what did not get ready and why",
            ),
            Self::LangfuseVersion => of(
                Phase3,
                "Langfuse is the version that is deployed; an existing one takes what the proxy sends",
                DEPLOY,
            ),
            Self::LangfuseNoKey => {
                of(Phase3, "Langfuse's API and its database open with their own keys alone", DOOR)
            }
            Self::Postgres => of(
                Phase3,
                "the database answers, and its way from outside can only read",
                "`cargo xtask langfuse status`, `cargo xtask logs langfuse`; docs/postgres.md",
            ),
            Self::PostgresBackup => of(
                Phase3,
                "the database has a base backup and its log is archived",
                "`cargo xtask langfuse backup` makes one and says what fails; docs/postgres.md",
            ),
            Self::Call => of(
                Phase4,
                "a call through the proxy, with a task's key, is answered",
                "`cargo xtask logs litellm --tail 50`; before that `cargo xtask setup` and `cargo xtask deploy --wait`",
            ),
            Self::Trace => of(Phase4, "that call's own trace is in Langfuse", NO_TRACE),
            Self::TraceSession => of(Phase4, "the trace has the call's session", NO_TRACE),
            Self::TraceTokens => of(Phase4, "the trace has tokens, in and out", NO_TRACE),
            Self::TraceCost => of(
                Phase4,
                "the trace has a cost",
                "give the model its price: `cargo xtask litellm models`, docs/litellm.md",
            ),
            Self::TraceOwner => of(
                Phase4,
                "the trace names run and task of the key, which the caller cannot forge",
                "evaluations and this command send a key of their own; something between replaced it",
            ),
            Self::TracesLost => of(
                Phase4,
                "no event of a trace was lost",
                "`cargo xtask traces status` counts them, `cargo xtask logs litellm` says why",
            ),
            Self::Evaluation => of(
                Phase5,
                "an evaluation in a sandbox gives the right answer",
                "`cargo xtask results RUN --full` shows what the agent printed",
            ),
            Self::Results => of(
                Phase5,
                "the run is in this machine's index and, the same, on the volume",
                "`cargo xtask results RUN --volume` says what cannot be read",
            ),
            Self::ThroughProxy => of(
                Phase5,
                "its calls went through the deployed proxy",
                "leave out --api-url and OPENAI_BASE_URL; nothing deployed: `cargo xtask deploy --wait`",
            ),
            Self::TrialTrace => of(
                Phase5,
                "the trial's record links to its trace in Langfuse: session is the run, name the task",
                NO_TRACE,
            ),
        }
    }

    /// Those of a phase.
    pub(super) fn of_phase(phase: Phase) -> impl Iterator<Item = Self> {
        Self::all().iter().copied().filter(move |check| check.about().phase == phase)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_that_is_built_has_checks_and_they_stand_in_its_order() {
        let phases: Vec<_> = CheckId::all().iter().map(|check| check.about().phase).collect();
        assert!(phases.is_sorted());
        for phase in Phase::EACH {
            assert_eq!(CheckId::of_phase(phase).count() > 0, phase.is_built(), "{phase:?}");
        }
    }
}
