//! Which state a start goes on from.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::cluster::Cluster;
use super::error::{PostgresError, Result};
use super::store::{self, Base, Wish};

/// Which state a start goes on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// What is on the container's own disk: nobody wrote since.
    Local,
    /// A base backup, and the WAL since.
    Store {
        /// Its name.
        base: String,
        /// An older state, in words.
        wish: Option<String>,
    },
    /// The directory of the earlier layout.
    Earlier(PathBuf),
    /// Nothing.
    New,
}

/// What a start finds.
#[derive(Debug, Default)]
struct Found<'f> {
    /// Whether the disk has a state, and it is the one of who wrote last.
    is_newest_here: bool,
    bases: &'f [Base],
    wish: Option<&'f Wish>,
    earlier: Option<PathBuf>,
}

impl Origin {
    /// For the log.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Local => "goes on from this container's disk".to_owned(),
            Self::Store { base, wish: None } => format!("is restored from base backup {base}"),
            Self::Store { base, wish: Some(wish) } => {
                format!("goes back to {wish}, from base backup {base}")
            }
            Self::Earlier(path) => format!("takes over `{}`, which stays as it is", path.display()),
            Self::New => "is made anew: there is no data yet".to_owned(),
        }
    }

    /// Whether a base backup must be made before anything relies on it: there is none, or the archive's newest state
    /// is no longer the one that counts.
    pub(super) fn needs_base(&self) -> bool {
        !matches!(self, Self::Local | Self::Store { wish: None, .. })
    }

    /// Whether somebody asked for it.
    pub(super) fn is_wish(&self) -> bool {
        matches!(self, Self::Store { wish: Some(_), .. })
    }
}

fn decide(found: &Found<'_>) -> Result<Origin> {
    let words = |wish: &Wish| match wish {
        Wish { until: Some(until), .. } => until.to_string(),
        Wish { base, .. } => format!("base backup {}", base.as_deref().unwrap_or("?")),
    };
    if let Some(wish) = found.wish {
        let base = store::choose(found.bases, wish);
        let base = base.ok_or_else(|| PostgresError::NoBackup(words(wish)))?;
        return Ok(Origin::Store { base: base.name.clone(), wish: Some(words(wish)) });
    }
    if found.is_newest_here {
        return Ok(Origin::Local);
    }
    match (found.bases.last(), &found.earlier) {
        (Some(base), _) => Ok(Origin::Store { base: base.name.clone(), wish: None }),
        (None, Some(earlier)) => Ok(Origin::Earlier(earlier.clone())),
        (None, None) => Ok(Origin::New),
    }
}

/// Makes the server's directory what it should be. From here on only `holder` may write to the archive.
pub(super) async fn prepare(cluster: &Cluster, holder: &str) -> Result<Origin> {
    let store = &cluster.store;
    store.open()?;
    for directory in store.directories() {
        cluster.own(&directory)?;
    }
    cluster.make_run_directory()?;
    let (bases, wish) = (store.bases()?, store.wish()?);
    let found = Found {
        is_newest_here: is_newest_here(cluster, store.writer()?)?,
        bases: &bases,
        wish: wish.as_ref(),
        earlier: store.earlier(),
    };
    let origin = decide(&found)?;
    store.set_writer(holder)?;
    if origin != Origin::Local {
        // What is there now is nobody's state any more.
        remove(&cluster.holder_file())?;
    }
    match &origin {
        Origin::Local => mark(cluster, holder)?,
        Origin::Store { base, .. } => {
            cluster.unpack(&store.base_path(base), wish.as_ref()).await?;
        }
        Origin::Earlier(path) => cluster.copy(path).await?,
        Origin::New => cluster.init().await?,
    }
    Ok(origin)
}

/// From now on the disk has the state that `holder` writes: not before a server could open it.
pub(super) fn mark(cluster: &Cluster, holder: &str) -> Result<()> {
    let marker = cluster.holder_file();
    fs::write(&marker, holder).map_err(PostgresError::file("write", &marker))
}

fn is_newest_here(cluster: &Cluster, writer: Option<String>) -> Result<bool> {
    let marker = cluster.holder_file();
    match fs::read_to_string(&marker) {
        Ok(holder) => {
            Ok(writer.is_some_and(|it| it == holder) && cluster.data().join("PG_VERSION").is_file())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(PostgresError::file("read", marker)(error)),
    }
}

fn remove(path: &PathBuf) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(PostgresError::file("remove", path)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(name: &str, time: &str) -> Base {
        Base { name: name.into(), time: time.parse().unwrap() }
    }

    #[test]
    fn the_newest_state_that_is_safe_is_taken() {
        let bases = [base("one", "2026-01-01T00:00:00Z"), base("two", "2026-01-02T00:00:00Z")];
        let earlier = Some(PathBuf::from("/pgdata/data"));
        let store = |base: &str| Origin::Store { base: base.into(), wish: None };
        let found = |is_newest_here, bases, earlier: &Option<PathBuf>| {
            decide(&Found { is_newest_here, bases, wish: None, earlier: earlier.clone() }).unwrap()
        };
        assert_eq!(found(true, &bases[..], &earlier), Origin::Local);
        assert_eq!(found(false, &bases[..], &earlier), store("two"));
        // Only once: later there is a base backup.
        assert_eq!(found(false, &[], &earlier), Origin::Earlier("/pgdata/data".into()));
        assert_eq!(found(false, &[], &None), Origin::New);
    }

    #[test]
    fn a_wish_goes_first_and_must_be_possible() {
        let bases = [base("one", "2026-01-01T00:00:00Z"), base("two", "2026-01-02T00:00:00Z")];
        let asked = |until: &str| {
            let wish = Wish { until: Some(until.parse().unwrap()), base: None };
            decide(&Found {
                is_newest_here: true,
                bases: &bases,
                wish: Some(&wish),
                ..Found::default()
            })
        };
        let taken = asked("2026-01-01T12:00:00Z").unwrap();
        assert_eq!(taken.words(), "goes back to 2026-01-01T12:00:00Z, from base backup one");
        assert!(taken.needs_base() && taken.is_wish());
        let error = asked("2025-12-31T00:00:00Z").unwrap_err();
        assert_eq!(error.to_string(), "there is no base backup from before 2025-12-31T00:00:00Z");
    }
}
