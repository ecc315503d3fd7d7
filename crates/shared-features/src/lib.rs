//! No code: `Cargo.toml` turns on features of packages that `xtask` shares with the rest of the workspace.
//!
//! Cargo gives a package the features that the members being built want. Without this crate `cargo xtask` would
//! build some packages, and all that stands on them, with other features than the tests do: the workspace would be
//! compiled twice. The test `features` in `tests/it` says what is missing here.
