//! What outlives the container: base backups and WAL, in one directory.
//!
//! `base/<time>-<holder>/` holds `base.tar.gz`, `pg_wal.tar.gz` and `backup_manifest` of one `pg_basebackup`; a name
//! that begins with a dot is not finished. `wal/` is the archive, `writer` names who may write, `restore.json` asks
//! the next start for an older state, and `data/` is the directory of the earlier layout, which is never changed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::{PostgresError, Result};
use super::wal::{WAL, WRITER};

const BASE: &str = "base";
const RESTORE: &str = "restore.json";
const EARLIER: &str = "data";
/// Base backups that are kept: two days of them, as plans have it if they say nothing.
const KEPT: usize = 8;

/// The directory.
#[derive(Clone, Debug)]
pub(super) struct Store(PathBuf);

/// A finished base backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Base {
    /// Its name: the time when it was finished, and by whom.
    pub(super) name: String,
    pub(super) time: Timestamp,
}

/// What a restore goes back to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    /// The state at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) until: Option<Timestamp>,
    /// The state at the end of that base backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) base: Option<String>,
}

impl Store {
    pub(super) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Makes the directories and removes base backups that were not finished.
    pub(super) fn open(&self) -> Result<()> {
        for name in [BASE, WAL] {
            let path = self.0.join(name);
            fs::create_dir_all(&path).map_err(PostgresError::file("make", &path))?;
        }
        let base = self.0.join(BASE);
        for entry in fs::read_dir(&base).map_err(PostgresError::file("read", &base))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with('.') {
                let path = entry.path();
                fs::remove_dir_all(&path).map_err(PostgresError::file("remove", &path))?;
            }
        }
        Ok(())
    }

    /// What belongs to the user of the server: the directories and the files in them.
    pub(super) fn directories(&self) -> [PathBuf; 2] {
        [self.0.join(BASE), self.0.join(WAL)]
    }

    /// Finished base backups, the oldest first.
    pub(super) fn bases(&self) -> Result<Vec<Base>> {
        let base = self.0.join(BASE);
        let entries = fs::read_dir(&base).map_err(PostgresError::file("read", &base))?.flatten();
        let mut bases: Vec<_> =
            entries.filter_map(|entry| Base::named(entry.file_name().to_str()?)).collect();
        bases.sort_by(|a, b| (a.time, &a.name).cmp(&(b.time, &b.name)));
        Ok(bases)
    }

    /// Where a base backup lies.
    pub(super) fn base_path(&self, name: &str) -> PathBuf {
        self.0.join(BASE).join(name)
    }

    /// Who may write; nobody did before the first.
    pub(super) fn writer(&self) -> Result<Option<String>> {
        optional(&self.0.join(WRITER)).map(|text| text.map(|text| text.trim().to_owned()))
    }

    /// From now on only `holder` may write.
    pub(super) fn set_writer(&self, holder: &str) -> Result<()> {
        replace(&self.0, WRITER, holder)
    }

    /// Which older state is asked for.
    pub(super) fn wish(&self) -> Result<Option<Wish>> {
        let path = self.0.join(RESTORE);
        let Some(text) = optional(&path)? else { return Ok(None) };
        let wish = serde_json::from_str(&text).map_err(io::Error::from);
        wish.map(Some).map_err(PostgresError::file("understand", path))
    }

    /// Asks the next start for an older state.
    pub(super) fn set_wish(&self, wish: &Wish) -> Result<()> {
        let path = self.0.join(RESTORE);
        let text = serde_json::to_string(wish).map_err(io::Error::from);
        replace(&self.0, RESTORE, &text.map_err(PostgresError::file("write", path))?)
    }

    /// The wish is fulfilled.
    pub(super) fn forget_wish(&self) -> Result<()> {
        let path = self.0.join(RESTORE);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(PostgresError::file("remove", path)(error))
            }
            _ => Ok(()),
        }
    }

    /// The directory of the earlier layout, if there is one.
    pub(super) fn earlier(&self) -> Option<PathBuf> {
        let path = self.0.join(EARLIER);
        path.join("PG_VERSION").is_file().then_some(path)
    }

    /// Removes all base backups but the last ones and `spared`, and WAL that none of those needs.
    pub(super) fn prune(&self, segment_bytes: u64, spared: Option<&str>) -> Result<()> {
        let bases = self.bases()?;
        let first_kept = bases.len().saturating_sub(KEPT);
        let is_kept =
            |(index, base): &(usize, &Base)| *index >= first_kept || Some(&*base.name) == spared;
        let (kept, old): (Vec<_>, Vec<_>) = bases.iter().enumerate().partition(is_kept);
        for (_, base) in old {
            let path = self.base_path(&base.name);
            // Out of sight at once: half a base backup must not look like a whole one.
            let hidden = self.base_path(&format!(".old-{}", base.name));
            fs::rename(&path, &hidden).map_err(PostgresError::file("remove", &path))?;
            fs::remove_dir_all(&hidden).map_err(PostgresError::file("remove", &hidden))?;
        }
        let Some((_, oldest)) = kept.first() else { return Ok(()) };
        let manifest = self.base_path(&oldest.name).join("backup_manifest");
        let text = fs::read_to_string(&manifest).map_err(PostgresError::file("read", &manifest))?;
        // Without a place where it starts, nothing is known to be old.
        if let Some(segment) = first_segment(&text, segment_bytes) {
            let wal = self.0.join(WAL);
            super::wal::prune(&self.0, &segment).map_err(PostgresError::file("prune", wal))?;
        }
        Ok(())
    }
}

impl Base {
    /// The name of one that is finished now.
    pub(super) fn new_name(now: Timestamp, holder: &str) -> String {
        format!("{}-{}", now.strftime("%Y%m%dT%H%M%S%.3fZ"), &holder[..8])
    }

    fn named(name: &str) -> Option<Self> {
        let (time, _holder) = name.split_once('-')?;
        let time = jiff::fmt::strtime::parse("%Y%m%dT%H%M%S%.fZ", time).ok()?;
        let time = time.to_datetime().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
        Some(Self { name: name.to_owned(), time })
    }
}

/// The base backup that a restore begins with: the newest, or the newest that is old enough.
pub(super) fn choose<'b>(bases: &'b [Base], wish: &Wish) -> Option<&'b Base> {
    let fits = |base: &&Base| match wish {
        Wish { base: Some(name), .. } => base.name == *name,
        Wish { until: Some(until), .. } => base.time <= *until,
        Wish { .. } => true,
    };
    bases.iter().rev().find(fits)
}

/// The first segment that a base backup needs, by its manifest (PostgreSQL's documentation, "Backup Manifest Format").
fn first_segment(manifest: &str, segment_bytes: u64) -> Option<String> {
    #[derive(Deserialize)]
    struct Manifest {
        #[serde(rename = "WAL-Ranges")]
        ranges: Vec<Range>,
    }
    #[derive(Deserialize)]
    struct Range {
        #[serde(rename = "Timeline")]
        timeline: u32,
        #[serde(rename = "Start-LSN")]
        start: String,
    }
    let manifest: Manifest = serde_json::from_str(manifest).ok()?;
    let range = manifest.ranges.into_iter().min_by_key(|range| range.timeline)?;
    let (high, low) = range.start.split_once('/')?;
    let high = u64::from_str_radix(high, 16).ok()?;
    let low = u64::from_str_radix(low, 16).ok()?;
    let segment = low.checked_div(segment_bytes)?;
    Some(format!("{:08X}{high:08X}{segment:08X}", range.timeline))
}

fn optional(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(PostgresError::file("read", path)(error)),
    }
}

/// Writes a small file: whole or not at all, readable by everybody.
fn replace(directory: &Path, name: &str, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let path = directory.join(name);
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        io::Write::write_all(&mut file, text.as_bytes())?;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
        file.as_file().sync_all()?;
        file.persist(&path)?;
        fs::File::open(directory)?.sync_all()
    };
    write().map_err(PostgresError::file("write", &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(name: &str) -> Base {
        Base::named(name).unwrap()
    }

    #[test]
    fn a_base_backup_is_known_by_its_time() {
        let now: Timestamp = "2026-11-26T13:45:06.789Z".parse().unwrap();
        let name = Base::new_name(now, "0123456789abcdef");
        assert_eq!(name, "20261126T134506.789Z-01234567");
        assert_eq!(base(&name).time, now);
        assert_eq!(Base::named(".new-x"), None);
        assert_eq!(Base::named("lost+found"), None);
    }

    #[test]
    fn a_restore_begins_with_the_newest_that_is_old_enough() {
        let bases = [base("20260101T000000.000Z-a"), base("20260102T000000.000Z-a")];
        let name = |wish: &Wish| choose(&bases, wish).map(|base| base.name.as_str());
        assert_eq!(name(&Wish::default()), Some("20260102T000000.000Z-a"));
        let until = |text: &str| Wish { until: Some(text.parse().unwrap()), base: None };
        assert_eq!(name(&until("2026-01-01T12:00:00Z")), Some("20260101T000000.000Z-a"));
        assert_eq!(name(&until("2025-01-01T12:00:00Z")), None);
        let named = Wish { until: None, base: Some("20260101T000000.000Z-a".into()) };
        assert_eq!(name(&named), Some("20260101T000000.000Z-a"));
    }

    #[test]
    fn the_first_segment_stands_in_the_manifest() {
        let manifest = r#"{"PostgreSQL-Backup-Manifest-Version": 1, "Files": [], "WAL-Ranges": [
            {"Timeline": 3, "Start-LSN": "1/2B000028", "End-LSN": "1/2B000100"}], "Manifest-Checksum": "x"}"#;
        let segment = first_segment(manifest, 16 << 20);
        assert_eq!(segment.as_deref(), Some("00000003000000010000002B"));
        assert_eq!(first_segment("{}", 16 << 20), None);
    }

    #[test]
    fn the_last_ones_are_kept_and_one_that_is_spared() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path());
        store.open().unwrap();
        for day in 10..=20 {
            let path = store.base_path(&format!("202601{day}T000000.000Z-a"));
            fs::create_dir(&path).unwrap();
            fs::write(path.join("backup_manifest"), "{}").unwrap();
        }
        fs::create_dir(store.base_path(".new-half")).unwrap();
        store.prune(16 << 20, Some("20260111T000000.000Z-a")).unwrap();
        store.open().unwrap();
        let names: Vec<_> = fs::read_dir(directory.path().join(BASE)).unwrap().collect();
        assert_eq!(names.len(), KEPT + 1);
        let bases = store.bases().unwrap();
        assert_eq!(bases[0].name, "20260111T000000.000Z-a");
        assert_eq!(bases[1].name, "20260113T000000.000Z-a");
    }
}
