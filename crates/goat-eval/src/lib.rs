//! The headless coding agent that runs inside a sandbox.
