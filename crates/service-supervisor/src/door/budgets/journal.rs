//! The files: a line of JSON for each answer that was counted.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use eval_types::{RunId, TaskId};
use goat_keys::Claims;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How often we look whether another process has written on.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Nobody writes to a file that rested for so long.
const OLD: Duration = Duration::from_secs(25 * 60 * 60);

/// A line, and what lines of one token add up to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    /// The token's name, else its run and task.
    key: String,
    run: RunId,
    task: TaskId,
    /// When the token expires, in seconds since 1970: nobody asks after that.
    until: i64,
    usd: f64,
}

/// What a task of a run spent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Spent {
    pub(crate) run: RunId,
    pub(crate) task: TaskId,
    pub(crate) usd: f64,
}

/// What tokens spent, by their keys.
type Accounts = BTreeMap<String, Entry>;

/// A file for each process: two containers may overlap, and on a volume the last one to write a file wins.
pub(super) struct Journal {
    file: File,
    own: Accounts,
    others: BTreeMap<PathBuf, Other>,
    looked: Instant,
}

/// The file of another process, as it was when it was so long.
struct Other {
    bytes: u64,
    accounts: Accounts,
}

impl Journal {
    /// Reads what other processes wrote, and begins a file of its own.
    ///
    /// The last line of a file may be cut: the process ended while it wrote. Any other that is none is an error, since
    /// a broken file must not give budgets anew. Files of tokens that have expired are removed.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let now = Timestamp::now().as_second();
        let mut others = BTreeMap::new();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let other = Other::read(&path, now)?;
            // An empty one may be of a container that has just started.
            if other.accounts.is_empty() && is_old(&path)? {
                fs::remove_file(&path)?;
            } else {
                others.insert(path, other);
            }
        }
        let own = directory.join(format!("{:016x}", rand::random::<u64>()));
        let file = OpenOptions::new().create_new(true).append(true).open(own)?;
        let (own, looked) = (BTreeMap::new(), Instant::now());
        Ok(Self { file, own, others, looked })
    }

    /// What a token has spent, in US dollars.
    pub(super) fn of(&mut self, claims: &Claims) -> f64 {
        self.look();
        let key = key(claims);
        self.all().filter_map(|accounts| accounts.get(&key)).map(|entry| entry.usd).sum()
    }

    /// Adds to what a token has spent: in memory first, whatever becomes of the line.
    pub(super) fn add(&mut self, claims: &Claims, usd: f64) -> io::Result<()> {
        let entry = Entry {
            key: key(claims),
            run: claims.run.clone(),
            task: claims.task.clone(),
            until: claims.expires_at.as_second(),
            usd,
        };
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        add(&mut self.own, entry);
        self.file.write_all(&line)
    }

    fn all(&self) -> impl Iterator<Item = &Accounts> {
        let others = self.others.values().map(|other| &other.accounts);
        others.chain(std::iter::once(&self.own))
    }

    /// A container that still ends goes on counting: its file is read again where it has grown. What can't be read is
    /// as it was.
    fn look(&mut self) {
        if self.looked.elapsed() < LOOK_EVERY {
            return;
        }
        self.looked = Instant::now();
        let now = Timestamp::now().as_second();
        for (path, other) in &mut self.others {
            let has_grown = fs::metadata(path).is_ok_and(|file| file.len() > other.bytes);
            if has_grown && let Ok(read) = Other::read(path, now) {
                *other = read;
            }
        }
    }

    /// Sums by run and task.
    pub(super) fn by_task(&self) -> Vec<Spent> {
        let mut sums: BTreeMap<(&RunId, &TaskId), f64> = BTreeMap::new();
        for entry in self.all().flat_map(BTreeMap::values) {
            *sums.entry((&entry.run, &entry.task)).or_default() += entry.usd;
        }
        let spent = |((run, task), usd): ((&RunId, &TaskId), f64)| Spent {
            run: run.clone(),
            task: task.clone(),
            usd,
        };
        sums.into_iter().map(spent).collect()
    }
}

impl Other {
    fn read(path: &Path, now: i64) -> io::Result<Self> {
        let text = fs::read_to_string(path)?;
        let named = |error: io::Error| {
            let words = format!("{}: {error}", path.file_name().unwrap_or_default().display());
            io::Error::new(error.kind(), words)
        };
        Ok(Self { bytes: text.len() as u64, accounts: add_up(&text, now).map_err(named)? })
    }
}

fn is_old(path: &Path) -> io::Result<bool> {
    Ok(fs::metadata(path)?.modified()?.elapsed().is_ok_and(|age| age > OLD))
}

fn key(claims: &Claims) -> String {
    match &claims.id {
        Some(id) => id.as_str().to_owned(),
        None => format!("{}/{}", claims.run, claims.task),
    }
}

fn add_up(text: &str, now: i64) -> io::Result<Accounts> {
    let mut accounts = BTreeMap::new();
    for (number, line) in text.split_inclusive('\n').enumerate() {
        match serde_json::from_str::<Entry>(line) {
            Ok(entry) if entry.until > now => add(&mut accounts, entry),
            Ok(_expired) => {}
            Err(_) if !line.ends_with('\n') => {}
            Err(error) => {
                let words = format!("line {} is none of ours: {error}", number + 1);
                return Err(io::Error::new(io::ErrorKind::InvalidData, words));
            }
        }
    }
    Ok(accounts)
}

fn add(accounts: &mut Accounts, entry: Entry) {
    match accounts.get_mut(&entry.key) {
        Some(account) => account.usd += entry.usd,
        None => drop(accounts.insert(entry.key.clone(), entry)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn claims(task: &str, lives: Duration) -> Claims {
        let (run, task) = ("run-1".parse().unwrap(), task.parse().unwrap());
        let now = Timestamp::now().checked_sub(goat_keys::GRACE).unwrap();
        Claims::for_trial(run, task, lives, now)
    }

    fn files(directory: &Path) -> Vec<PathBuf> {
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn what_was_spent_is_there_after_a_restart_also_with_a_line_that_was_cut() {
        let directory = tempfile::tempdir().unwrap();
        // Nobody else makes the directory.
        let path = directory.path().join("state/spent");
        let (one, two) = (claims("one", Duration::from_secs(600)), claims("two", Duration::ZERO));
        let mut first = Journal::open(&path).unwrap();
        first.add(&one, 0.25).unwrap();
        first.add(&one, 0.5).unwrap();
        first.add(&two, 1.0).unwrap();
        let mut file = OpenOptions::new().append(true).open(&files(&path)[0]).unwrap();
        file.write_all(br#"{"key":"run-1/one","ru"#).unwrap();

        let mut second = Journal::open(&path).unwrap();
        assert_eq!(second.of(&one), 0.75);
        assert_eq!(second.of(&two), 0.0, "it has expired");
        assert_eq!(second.by_task().len(), 1);
    }

    #[test]
    fn containers_that_overlap_count_together() {
        let directory = tempfile::tempdir().unwrap();
        let one = claims("one", Duration::from_secs(600));
        let mut first = Journal::open(directory.path()).unwrap();
        first.add(&one, 0.25).unwrap();
        let mut second = Journal::open(directory.path()).unwrap();
        first.add(&one, 0.5).unwrap();
        second.add(&one, 1.0).unwrap();
        second.looked = Instant::now().checked_sub(LOOK_EVERY).unwrap();
        assert_eq!(second.of(&one), 1.75);
        assert_eq!(Journal::open(directory.path()).unwrap().of(&one), 1.75);
    }

    #[test]
    fn files_without_a_living_token_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(directory.path()).unwrap();
        journal.add(&claims("two", Duration::ZERO), 1.0).unwrap();
        drop(journal);
        drop(Journal::open(directory.path()).unwrap());
        assert_eq!(files(directory.path()).len(), 2, "they are new");
        for path in files(directory.path()) {
            let file = File::options().write(true).open(path).unwrap();
            file.set_modified(std::time::SystemTime::now() - 2 * OLD).unwrap();
        }
        drop(Journal::open(directory.path()).unwrap());
        assert_eq!(files(directory.path()).len(), 1);
    }

    #[test]
    fn a_broken_file_gives_no_budget_anew() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("x"), "{}\n{\"key\"").unwrap();
        let error = Journal::open(directory.path()).map(drop).unwrap_err();
        assert!(error.to_string().starts_with("x: line 1 is none of ours"), "{error}");
    }

    #[test]
    fn two_tokens_of_one_task_have_budgets_of_their_own() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(directory.path()).unwrap();
        let token = || {
            claims("one", Duration::from_secs(600)).with_id(goat_keys::TokenId::generate().unwrap())
        };
        let (first, second) = (token(), token());
        journal.add(&first, 0.5).unwrap();
        journal.add(&second, 0.25).unwrap();
        assert_eq!((journal.of(&first), journal.of(&second)), (0.5, 0.25));
        assert_eq!(journal.by_task()[0].usd, 0.75);
    }
}
