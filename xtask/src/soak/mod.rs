//! Long checks. Each drives the real commands and answers with figures for a closing note.

pub(crate) mod kill;
