//! The files of a run, as people and older tools read them.
//!
//! One file a trial, `<run>/<task>-<variant>.json`, and `<run>/summary.json` with the whole trials
//! in it. The first fields of each, in this order, are those of the scripts that came before this
//! workspace (jack-phare/goat at dd706f5); everything new follows. A reader takes what older
//! versions wrote: without variant and mode, without model, without a summary at all.

mod summary;
mod trial;

pub use self::{
    summary::{Comparison, SummaryFile},
    trial::TrialFile,
};

/// Format of the files that this version writes. The scripts before it wrote none.
pub const VERSION: u32 = 2;

/// JSON with indent 2 and a final newline.
pub(crate) fn pretty(value: &impl serde::Serialize) -> serde_json::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Seconds with two decimals.
fn hundredths(seconds: f64) -> f64 {
    (seconds * 100.0).round() / 100.0
}

/// Parses a file of any version up to [`VERSION`].
pub(crate) fn parse<T: serde::de::DeserializeOwned>(
    location: &str,
    bytes: &[u8],
) -> crate::Result<T> {
    #[derive(serde::Deserialize)]
    struct Head {
        #[serde(default)]
        format: u32,
    }
    let malformed = |source| crate::Error::Malformed { location: location.to_owned(), source };
    let head: Head = serde_json::from_slice(bytes).map_err(malformed)?;
    if head.format > VERSION {
        let location = location.to_owned();
        return Err(crate::Error::TooNew { location, found: head.format, known: VERSION });
    }
    serde_json::from_slice(bytes).map_err(malformed)
}
