use std::time::Duration;

use super::writer::MAX_OWNER_BYTES;
use super::*;
use crate::server::ServerConfig;
use crate::state_dir::StateDir;

struct Fixture {
    state: State,
    logs: Logs,
    _dir: tempfile::TempDir,
}

async fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(&ServerConfig::new(StateDir::new(dir.path()))).await.unwrap();
    let logs = Logs::open(&state).await.unwrap();
    Fixture { state, logs, _dir: dir }
}

fn task(name: &str) -> Source {
    Source { app: "ap-1".to_owned(), task: name.to_owned(), ..Source::default() }
}

fn line(data: impl Into<String>, at: f64) -> LogLine {
    LogLine { data: data.into(), from: FileDescriptor::Stdout, at }
}

fn of(name: &str) -> LogFilter {
    LogFilter { task: name.to_owned(), ..LogFilter::default() }
}

const ALWAYS: (f64, f64) = (0.0, f64::MAX);

async fn all(logs: &Logs, filter: &LogFilter) -> Vec<(i64, String)> {
    logs.flush().await;
    let lines = logs.last(filter, ALWAYS, usize::MAX).await.unwrap();
    lines.into_iter().map(|line| (line.entry, line.data)).collect()
}

#[tokio::test]
async fn lines_are_numbered_filtered_and_counted_one_by_one() {
    let it = fixture().await;
    it.logs.append(task("ta-1"), vec![line("a\nb\nc\n", 10.0)]).await;
    it.logs.append(task("ta-2"), vec![line("other\n", 11.0)]).await;
    it.logs.append(task("ta-1"), vec![line("bb\nd", 12.0)]).await;
    it.logs.flush().await;
    let search = LogFilter { text: "b".to_owned(), ..of("ta-1") };
    assert_eq!(all(&it.logs, &search).await, [(2, "b\n".to_owned()), (5, "bb\n".to_owned())]);
    let after = it.logs.after(&of("ta-1"), 2, 10).await.unwrap();
    let after: Vec<_> = after.iter().map(|line| (line.entry, line.data.as_str())).collect();
    assert_eq!(after, [(3, "c\n"), (5, "bb\n"), (6, "d")]);
    let last = it.logs.last(&of("ta-1"), ALWAYS, 3).await.unwrap();
    assert_eq!(last.iter().map(|line| line.entry).collect::<Vec<_>>(), [3, 5, 6]);
    let counts = it.logs.count(&LogFilter::default(), (10.0, 12.0), 1).await.unwrap();
    let counts: Vec<_> = counts.iter().map(|count| (count.bucket, count.lines)).collect();
    assert_eq!(counts, [(0, 3), (1, 1)]);
    let counts = it.logs.count(&search, (10.0, 13.0), 10).await.unwrap();
    assert_eq!(counts.iter().map(|count| count.lines).collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn a_log_that_is_too_long_loses_its_middle_and_says_so() {
    let it = fixture().await;
    let text = "0123456\n".repeat(8 << 10);
    let count = 2 * MAX_OWNER_BYTES as usize / text.len();
    it.logs.append(task("ta-2"), vec![line("bystander\n", 1.0)]).await;
    it.logs.append(task("ta-1"), vec![line("first\n", 1.0)]).await;
    for at in 0..count {
        it.logs.append(task("ta-1"), vec![line(text.clone(), 2.0 + at as f64)]).await;
    }
    it.logs.append(task("ta-1"), vec![line("last\n", 1e6)]).await;
    let lines = all(&it.logs, &of("ta-1")).await;
    let bytes: usize = lines.iter().map(|(_, line)| line.len()).sum();
    assert!(bytes < MAX_OWNER_BYTES as usize, "{bytes}");
    assert_eq!(lines[0].1, "first\n");
    assert_eq!(lines.last().unwrap().1, "last\n");
    assert!(lines.is_sorted());
    let gaps: Vec<_> = lines.iter().filter(|(_, line)| line.starts_with('[')).collect();
    let gone = count * (8 << 10) + 2 - (lines.len() - 1);
    assert_eq!(gaps.len(), 1);
    assert_eq!(
        gaps[0].1,
        format!("[{gone} lines ({} bytes) of this log were dropped here]\n", gone * 8)
    );
    assert_eq!(all(&it.logs, &of("ta-2")).await.len(), 1);
}

#[tokio::test]
async fn the_file_is_as_large_as_what_was_printed_and_shrinks_again() {
    let it = fixture().await;
    let printed = "y\n".repeat(2 << 20);
    for text in printed.as_bytes().chunks(MAX_BLOCK) {
        let text = String::from_utf8(text.to_vec()).unwrap();
        it.logs.append(task("ta-1"), vec![line(text, 1.0)]).await;
    }
    it.logs.flush().await;
    let keep_all = Retention { age: Duration::from_secs(1 << 32), bytes: 1 << 40 };
    assert_eq!(it.logs.trim(keep_all).await.unwrap(), Trimmed::default());
    let size = || std::fs::metadata(it.state.dir.log_database()).unwrap().len();
    let full = size();
    assert!(full < printed.len() as u64 * 3 / 2, "{full}");
    let trimmed = it.logs.trim(Retention::SMALL).await.unwrap();
    assert!(trimmed.lines > 2_000_000 && trimmed.bytes > 4_000_000, "{trimmed:?}");
    assert!(size() < full / 10, "{}", size());
}

#[tokio::test]
async fn the_oldest_go_when_all_logs_take_too_much() {
    let it = fixture().await;
    let now = clock::now();
    for number in 0..20 {
        let source = task(&format!("ta-{number}"));
        it.logs.append(source, vec![line("x".repeat(1_000), now + f64::from(number))]).await;
    }
    let keep = Retention { bytes: 10_000, ..Retention::USUAL };
    assert_eq!(it.logs.trim(keep).await.unwrap().lines, 12);
    assert_eq!(all(&it.logs, &LogFilter::default()).await.len(), 8);
    it.logs.append(task("ta-0"), vec![line("goes on", now)]).await;
    assert_eq!(all(&it.logs, &of("ta-0")).await, [(21, "goes on".to_owned())]);
}

#[tokio::test]
async fn lines_among_the_records_move_into_the_logs_once() {
    let it = fixture().await;
    for number in 0..25_000 {
        sqlx::query("INSERT INTO logs (app_id, task_id, sandbox_id, image_id, file_descriptor, timestamp, data) VALUES ('ap-1', 'ta-1', 'sb-1', '', 1, 5.0, ?)")
            .bind(format!("{number}\n"))
            .execute(&it.state.db)
            .await
            .unwrap();
    }
    let finished = sqlx::query("INSERT INTO finished_tasks VALUES ('ta-1', 6.0)");
    finished.execute(&it.state.db).await.unwrap();
    drop(it.logs);
    for _ in 0..2 {
        let logs = Logs::open(&it.state).await.unwrap();
        let lines = all(&logs, &of("ta-1")).await;
        assert_eq!(lines.len(), 25_000);
        assert_eq!(lines[24_999].1, "24999\n");
        assert!(logs.is_finished("ta-1").await.unwrap());
        assert!(!logs.is_finished("ta-2").await.unwrap());
    }
    let left: i64 =
        sqlx::query_scalar("SELECT count(*) FROM logs").fetch_one(&it.state.db).await.unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_flood_of_lines_does_not_hold_up_the_records() {
    let it = fixture().await;
    let logs = it.logs.clone();
    let flood = tokio::spawn(async move {
        for _ in 0..200 {
            logs.append(task("ta-1"), vec![line("y\n".repeat(30_000), 1.0)]).await;
        }
    });
    let mut slowest = Duration::ZERO;
    while !flood.is_finished() {
        let started = std::time::Instant::now();
        let mut transaction = it.state.db.begin_with("BEGIN IMMEDIATE").await.unwrap();
        sqlx::query("UPDATE apps SET name = name").execute(&mut *transaction).await.unwrap();
        transaction.commit().await.unwrap();
        slowest = slowest.max(started.elapsed());
    }
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
}
