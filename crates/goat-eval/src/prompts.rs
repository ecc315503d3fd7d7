//! Where prompts come from: one for a whole run, or, with `--multi-turn`, a line of stdin each.

use std::io::IsTerminal;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Stdin};

use crate::{
    cli::Arguments,
    error::{Error, Result},
};

/// The prompts of a run.
#[derive(Debug)]
pub(crate) enum Prompts {
    /// One.
    One(Option<String>),
    /// The flag's, where there is one, then each line of stdin up to an empty one.
    Lines {
        /// The flag's.
        first: Option<String>,
        /// Opened when the first line is wanted: its reader needs the event loop.
        stdin: Option<BufReader<Stdin>>,
    },
}

impl Prompts {
    /// The prompt of the flag, else all of stdin; in a conversation of many nothing is read yet.
    pub(crate) async fn of(arguments: &Arguments) -> Result<Self> {
        let first = arguments.prompt.clone();
        if arguments.multi_turn {
            return Ok(Prompts::Lines { first, stdin: None });
        }
        let text = match first {
            Some(prompt) => prompt,
            None => all_of_stdin().await?,
        };
        if text.trim().is_empty() { Err(Error::NoPrompt) } else { Ok(Prompts::One(Some(text))) }
    }

    /// Whether answers are told apart: more prompts may come.
    pub(crate) fn are_many(&self) -> bool {
        matches!(self, Prompts::Lines { .. })
    }

    /// The next prompt; none at an empty line or the end.
    pub(crate) async fn next(&mut self) -> Result<Option<String>> {
        let (first, stdin) = match self {
            Prompts::One(prompt) => return Ok(prompt.take()),
            Prompts::Lines { first, stdin } => (first, stdin),
        };
        if let Some(prompt) = first.take().filter(|prompt| !prompt.trim().is_empty()) {
            return Ok(Some(prompt));
        }
        let reader = stdin.get_or_insert_with(|| BufReader::new(tokio::io::stdin()));
        let mut line = Vec::new();
        reader.read_until(b'\n', &mut line).await.map_err(Error::Stdin)?;
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end_matches(['\n', '\r']);
        Ok(Some(line.to_owned()).filter(|line| !line.trim().is_empty()))
    }
}

/// Everything that is written to stdin. A terminal is not read: who gives no prompt there has forgotten it.
async fn all_of_stdin() -> Result<String> {
    if std::io::stdin().is_terminal() {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    tokio::io::stdin().read_to_end(&mut bytes).await.map_err(Error::Stdin)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
