//! The file: a line of JSON for each answer that was counted.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use eval_types::{RunId, TaskId};
use goat_keys::Claims;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

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

/// The file and what its lines add up to.
pub(super) struct Journal {
    file: File,
    accounts: BTreeMap<String, Entry>,
}

impl Journal {
    /// Reads the file and writes it anew, a line for each token that still lives.
    ///
    /// The last line may be cut: the process ended while it wrote. Any other that is none is an error, since a
    /// broken file must not give budgets anew.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let accounts = add_up(&text, Timestamp::now().as_second())?;
        let mut lines = Vec::new();
        for entry in accounts.values() {
            serde_json::to_writer(&mut lines, entry)?;
            lines.push(b'\n');
        }
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        let mut file = File::create(&name)?;
        file.write_all(&lines)?;
        file.sync_all()?;
        fs::rename(&name, path)?;
        Ok(Self { file: OpenOptions::new().append(true).open(path)?, accounts })
    }

    /// What a token has spent, in US dollars.
    pub(super) fn of(&self, claims: &Claims) -> f64 {
        self.accounts.get(&key(claims)).map_or(0.0, |entry| entry.usd)
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
        add(&mut self.accounts, entry);
        self.file.write_all(&line)
    }

    /// Sums by run and task.
    pub(super) fn by_task(&self) -> Vec<Spent> {
        let mut sums: BTreeMap<(&RunId, &TaskId), f64> = BTreeMap::new();
        for entry in self.accounts.values() {
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

fn key(claims: &Claims) -> String {
    match &claims.id {
        Some(id) => id.as_str().to_owned(),
        None => format!("{}/{}", claims.run, claims.task),
    }
}

fn add_up(text: &str, now: i64) -> io::Result<BTreeMap<String, Entry>> {
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

fn add(accounts: &mut BTreeMap<String, Entry>, entry: Entry) {
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

    #[test]
    fn what_was_spent_is_there_after_a_restart_also_with_a_line_that_was_cut() {
        let directory = tempfile::tempdir().unwrap();
        // Nobody else makes the directory.
        let path = directory.path().join("state/spent");
        let (one, two) = (claims("one", Duration::from_secs(600)), claims("two", Duration::ZERO));
        let mut journal = Journal::open(&path).unwrap();
        journal.add(&one, 0.25).unwrap();
        journal.add(&one, 0.5).unwrap();
        journal.add(&two, 1.0).unwrap();
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(br#"{"key":"run-1/one","ru"#).unwrap();

        let journal = Journal::open(&path).unwrap();
        assert_eq!(journal.of(&one), 0.75);
        assert_eq!(journal.of(&two), 0.0, "it has expired");
        assert_eq!(journal.by_task().len(), 1);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 1);
    }

    #[test]
    fn a_broken_file_gives_no_budget_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("spent");
        fs::write(&path, "{}\n{\"key\"").unwrap();
        let error = Journal::open(&path).map(drop).unwrap_err();
        assert!(error.to_string().starts_with("line 1 is none of ours"), "{error}");
    }

    #[test]
    fn two_tokens_of_one_task_have_budgets_of_their_own() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(&directory.path().join("spent")).unwrap();
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
