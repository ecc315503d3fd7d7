//! Runs one job many times, alone or in flight, and says what it took.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _, stream};

/// What a series of cycles took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Series {
    /// Median of a cycle.
    pub(crate) median: Duration,
    /// From the first start to the last end, divided by the number of cycles.
    pub(crate) each: Duration,
}

/// Runs `cycle` `count` times, at most `in_flight` at once, numbers from 0.
pub(crate) async fn series<F>(
    count: usize,
    in_flight: usize,
    cycle: impl Fn(usize) -> F,
) -> anyhow::Result<Series>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let start = Instant::now();
    let mut times: Vec<Duration> = stream::iter(0..count)
        .map(|number| {
            let cycle = cycle(number);
            async move {
                let start = Instant::now();
                cycle.await?;
                anyhow::Ok(start.elapsed())
            }
        })
        .buffer_unordered(in_flight)
        .try_collect()
        .await?;
    let each = start.elapsed() / u32::try_from(count.max(1))?;
    times.sort();
    Ok(Series { median: times.get(times.len() / 2).copied().unwrap_or_default(), each })
}

/// CPU time of this process so far, user and system.
pub(crate) fn cpu() -> anyhow::Result<Duration> {
    // Fields 14 and 15 of proc_pid_stat(5), counted from after the name in parentheses.
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
    let (Some(user), Some(system)) = (ticks(11), ticks(12)) else {
        anyhow::bail!("/proc/self/stat has another form than proc_pid_stat(5) says");
    };
    // USER_HZ is 100 on every Linux that Rust supports.
    Ok(Duration::from_millis((user + system) * 10))
}
