//! The phases.

use clap::ValueEnum;

/// What is checked together, in the order in which one thing needs the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
#[value(rename_all = "lower")]
pub(super) enum Phase {
    /// Prerequisites: server, agent, python3, the file of values
    Phase1,
    /// Setup, without doing it: environment, secrets, volumes
    Phase2,
    /// The deployed services: health, versions, who may what, backups
    Phase3,
    /// A call through the proxy, and its trace
    Phase4,
    /// One evaluation in a sandbox, its results and its trace
    Phase5,
    /// A model on a GPU
    Phase6,
    /// Every phase
    All,
}

impl Phase {
    /// Every single one.
    pub(super) const EACH: [Self; 6] =
        [Self::Phase1, Self::Phase2, Self::Phase3, Self::Phase4, Self::Phase5, Self::Phase6];

    /// Itself, or each one where all are meant.
    pub(super) fn each(self) -> Vec<Self> {
        match self {
            Self::All => Self::EACH.to_vec(),
            one => vec![one],
        }
    }

    /// Whether this version can run it.
    pub(super) fn is_built(self) -> bool {
        self != Self::Phase6
    }

    /// As on the command line and in JSON.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Phase1 => "phase1",
            Self::Phase2 => "phase2",
            Self::Phase3 => "phase3",
            Self::Phase4 => "phase4",
            Self::Phase5 => "phase5",
            Self::Phase6 => "phase6",
            Self::All => "all",
        }
    }

    /// For people.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Phase1 => "1 prerequisites",
            Self::Phase2 => "2 setup",
            Self::Phase3 => "3 services",
            Self::Phase4 => "4 proxy and traces",
            Self::Phase5 => "5 one evaluation",
            Self::Phase6 => "6 GPU model",
            Self::All => "all",
        }
    }
}
