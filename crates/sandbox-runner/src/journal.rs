//! The journal of a run: every event as a line of JSON, so that a killed run can be understood.

use std::{
    io,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use serde::Serialize;
use tokio::{fs::File, io::AsyncWriteExt, sync::Mutex};

use crate::{BoxError, Event, Subscriber, error::Error};

/// Format of the lines.
const VERSION: u32 = 1;

/// Appends events to a file. The first line names the format.
pub struct Journal {
    path: PathBuf,
    file: Mutex<File>,
}

#[derive(Serialize)]
struct Head {
    journal: u32,
}

#[derive(Serialize)]
struct Line<'e> {
    at: jiff::Timestamp,
    #[serde(flatten)]
    event: &'e Event,
}

impl Journal {
    /// A new file; its directory is made where there is none.
    pub async fn create(path: &Path) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            tokio::fs::create_dir_all(directory).await?;
        }
        let mut file = File::options().create_new(true).append(true).open(path).await?;
        file.write_all(&line(&Head { journal: VERSION })?).await?;
        Ok(Self { path: path.to_owned(), file: Mutex::new(file) })
    }
}

#[async_trait]
impl Subscriber for Journal {
    async fn on(&self, event: &Event) -> Result<(), BoxError> {
        let line = line(&Line { at: jiff::Timestamp::now(), event })?;
        let mut file = self.file.lock().await;
        let written = async {
            file.write_all(&line).await?;
            file.flush().await
        };
        let written: io::Result<()> = written.await;
        let failed = |source| Error::backend(format!("write `{}`", self.path.display()), source);
        Ok(written.map_err(failed)?)
    }
}

fn line(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}
