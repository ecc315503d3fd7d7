//! What commands share: printer, target, directories.

use crate::{
    cli::Global,
    printer::Printer,
    state::State,
    target::{self, Choice, Process},
    workspace::Workspace,
};

/// Made once, before a command runs.
pub(crate) struct Context {
    /// Writes to the terminal.
    pub(crate) printer: Printer,
    /// Where sandboxes run.
    pub(crate) choice: Choice,
    /// Environment of Modal.
    pub(crate) environment: String,
    /// Where this machine keeps results and the local server its state.
    pub(crate) state: State,
    /// Where the sources are.
    pub(crate) workspace: Workspace,
}

impl Context {
    pub(crate) fn new(global: Global, printer: Printer) -> anyhow::Result<Self> {
        Ok(Self {
            printer,
            choice: target::choose(global.target, &Process)?,
            environment: global.environment,
            state: State::new(&Process)?,
            workspace: Workspace::find(),
        })
    }

    /// Says which target was taken and why.
    pub(crate) fn announce_target(&self) {
        let Choice { target, why } = &self.choice;
        self.printer.note(&format!("target: {} ({why})", target.name()));
    }
}
