//! Volumes: 2,000 small files and one large file up, the large one down, beside the official Python SDK on the same
//! server. Each side has its own contents each turn, so that nothing is there already.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::ensure;
use serde::Deserialize;

use super::{python::Python, samples::Samples, server::Local};
use crate::{
    cmd::selfbench::{Goal, Measurement},
    context::Context,
};

const SMALL_FILES: u64 = 2_000;
const SMALL: u64 = 4 << 10;
const LARGE: u64 = 512 << 20;
/// How often each side has its turn. The sides take turns at being first.
const TURNS: u64 = 6;
const SCRIPT: &str = "fixtures/bench/volume_transfer.py";

/// What `fixtures/bench/volume_transfer.py` prints.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Took {
    seconds: f64,
}

/// The turns of one side, in seconds.
#[derive(Debug, Default)]
struct Side {
    small: Samples,
    large: Samples,
    download: Samples,
}

pub(crate) async fn measure(context: &Context) -> anyhow::Result<Vec<Measurement>> {
    let python = Python::of(&context.workspace).await?;
    // A server and a disk of their own: what is left over goes with the directory.
    let directory = tempfile::tempdir_in(context.workspace.path("target"))?;
    let server = Local::at(&directory.path().join("state"), &context.environment).await?;
    let bench = Bench { server, python, directory: directory.path().to_owned() };
    let (mut ours, mut sdk) = (Side::default(), Side::default());
    let mut outcome = Ok(());
    for turn in 1..=TURNS {
        context.printer.note(&format!("turn {turn} of {TURNS}"));
        outcome = async {
            // Memory that the machine gives for the first time costs more than what the side before gave back.
            if turn.is_multiple_of(2) {
                bench.turn(Who::Sdk, turn, &mut sdk).await?;
                bench.turn(Who::Ours, turn, &mut ours).await
            } else {
                bench.turn(Who::Ours, turn, &mut ours).await?;
                bench.turn(Who::Sdk, turn, &mut sdk).await
            }
        }
        .await;
        if outcome.is_err() {
            break;
        }
    }
    bench.server.stop().await?;
    outcome?;
    Ok(rows(&ours, &sdk))
}

fn rows(ours: &Side, sdk: &Side) -> Vec<Measurement> {
    let row = |what: &str, figure: fn(&Side) -> &Samples, times: f64| {
        let (ours, sdk) = (figure(ours).median(), figure(sdk).median());
        Measurement::new(
            &format!("volumes: {what}"),
            ours,
            Some(sdk),
            "s",
            Goal::AtMost(1.0 / times),
        )
    };
    vec![
        row("2,000 files of 4 KiB up, beside the Python SDK", |side| &side.small, 5.0),
        row("512 MiB in one file up, beside the Python SDK", |side| &side.large, 1.5),
        row("512 MiB down, beside the Python SDK", |side| &side.download, 2.0),
    ]
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug)]
enum Who {
    Ours,
    Sdk,
}

struct Bench {
    server: Local,
    python: Python,
    directory: PathBuf,
}

impl Bench {
    async fn turn(&self, who: Who, turn: u64, side: &mut Side) -> anyhow::Result<()> {
        let name = format!("{who:?}-{turn}").to_lowercase();
        let input = self.directory.join(&name);
        let (small, large) = (input.join("small"), input.join("large"));
        std::fs::create_dir_all(&small)?;
        let seed = 1_000_000 * (2 * turn + who as u64);
        for number in 0..SMALL_FILES {
            write_noise(&small.join(number.to_string()), SMALL, seed + number)?;
        }
        write_noise(&large, LARGE, seed + SMALL_FILES)?;
        let volume = self.server.client.volume(&name).create_if_missing().await?;
        side.small.push(self.transfer(who, "upload-tree", &small, &name).await?);
        side.large.push(self.transfer(who, "upload-file", &large, &name).await?);
        let back = input.join("back");
        side.download.push(self.transfer(who, "download", &back, &name).await?);
        ensure!(is_same(&large, &back)?, "{name}: what came back is not what was sent");
        let files = volume.list("/").recursive(true).await?;
        let sent = files.iter().filter(|file| file.path.starts_with("small/")).count() as u64;
        ensure!(sent == SMALL_FILES, "{name}: {sent} of {SMALL_FILES} files are there");
        // Their space is needed. The small files stay to the end: after thousands of deletions ext4 searches long for each
        // new file's inode, and that would be the next side's time.
        volume.remove("/large").await?;
        for path in [large, back] {
            std::fs::remove_file(path)?;
        }
        Ok(())
    }

    /// Seconds of one transfer. Nothing that was written before it is still on its way to the disk.
    async fn transfer(
        &self,
        who: Who,
        job: &str,
        path: &Path,
        volume: &str,
    ) -> anyhow::Result<f64> {
        rustix::fs::sync();
        let seconds = match who {
            Who::Ours => self.ours(job, path, volume).await?,
            Who::Sdk => {
                let arguments = [job.to_owned(), path.display().to_string(), volume.to_owned()];
                let took: Took =
                    self.python.run(SCRIPT, &arguments, &self.server.environment).await?;
                took.seconds
            }
        };
        tracing::info!(who = ?who, job, seconds, "one transfer");
        Ok(seconds)
    }

    async fn ours(&self, job: &str, path: &Path, volume: &str) -> anyhow::Result<f64> {
        let volume = self.server.client.volume(volume).await?;
        let begun = Instant::now();
        match job {
            "upload-tree" => drop(volume.upload().tree(path, "/small").await?),
            "upload-file" => drop(volume.upload().file(path, "/large").await?),
            _ => drop(volume.download("/large", path).await?),
        }
        Ok(begun.elapsed().as_secs_f64())
    }
}

/// A file of bytes that nothing compresses or shares: SplitMix64.
fn write_noise(path: &Path, length: u64, seed: u64) -> std::io::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for _ in 0..length / 8 {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        file.write_all(&(mixed ^ (mixed >> 31)).to_le_bytes())?;
    }
    file.flush()
}

fn is_same(left: &Path, right: &Path) -> std::io::Result<bool> {
    Ok(std::fs::read(left)? == std::fs::read(right)?)
}
