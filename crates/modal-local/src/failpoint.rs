//! Points at which a test can have the server killed: SIGKILL inside what it does, not beside it.
//!
//! Only a server that was started with `GOAT_FAILPOINTS` takes orders, over its administration:
//! `POST /_local/failpoints/exec.started/3` has it end itself by SIGKILL when it comes to that point
//! for the third time. Nothing is cleared up, as if somebody else had sent it. The file that the
//! variable names then has the point's name. Without an order a point costs one load.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::process::{Signal, getpid, kill_process};

use crate::error::{Error, Result};

/// A file that gets the point's name when it is reached.
pub const VARIABLE: &str = "GOAT_FAILPOINTS";

/// Whether there is an order.
static IS_ORDERED: AtomicBool = AtomicBool::new(false);
static ORDER: Mutex<Option<Order>> = Mutex::new(None);

/// What a server does at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Makes a sandbox.
    Create,
    /// Starts a command.
    ExecStart,
    /// Sends output.
    Stream,
    /// Puts uploaded files into a volume.
    VolumeCommit,
    /// Makes a layer of an image.
    ImageLayer,
    /// Writes a record.
    RecordWrite,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::ExecStart => "exec start",
            Self::Stream => "stream",
            Self::VolumeCommit => "volume commit",
            Self::ImageLayer => "image layer",
            Self::RecordWrite => "record write",
        })
    }
}

macro_rules! points {
    ($($(#[$doc:meta])* $point:ident = $name:literal in $phase:ident,)*) => {
        /// A point at which a server can be killed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Point {
            $($(#[$doc])* $point,)*
        }

        impl Point {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$point,)*];

            /// Its name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$point => $name,)* }
            }

            /// What the server does there.
            pub fn phase(self) -> Phase {
                match self { $(Self::$point => Phase::$phase,)* }
            }
        }
    };
}

points! {
    /// The sandbox is recorded, and nothing of it is there.
    CreateRecorded = "create.recorded" in Create,
    /// Its container is there, without a program.
    CreateContainer = "create.container" in Create,
    /// Its program runs; the client has not heard of it.
    CreateStarted = "create.started" in Create,
    /// A command is about to be started.
    ExecStarting = "exec.starting" in ExecStart,
    /// It runs; the client has not heard of it.
    ExecStarted = "exec.started" in ExecStart,
    /// A piece of a command's output is about to be sent.
    StreamSending = "stream.sending" in Stream,
    /// Uploaded files are put together, none is in its place.
    VolumeStaged = "volume.staged" in VolumeCommit,
    /// Some or all of them are; the client has not heard of it.
    VolumePlaced = "volume.placed" in VolumeCommit,
    /// A step's changes are complete, and no layer yet.
    LayerBuilt = "layer.built" in ImageLayer,
    /// The layer is in its place, the image not recorded.
    LayerCommitted = "layer.committed" in ImageLayer,
    /// The values of a secret are stored, its record is not.
    SecretStored = "record.secret" in RecordWrite,
    /// A call and its inputs are written in a transaction that is not committed.
    CallWritten = "record.call" in RecordWrite,
    /// A call is recorded; neither has anybody begun it, nor has the client heard of it.
    CallRecorded = "record.called" in RecordWrite,
    /// A call that has a key is done; the client has not heard of it.
    CallAnswered = "record.answered" in RecordWrite,
    /// The output of an input is written in a transaction that is not committed.
    OutputWritten = "record.output" in RecordWrite,
    /// A sandbox has ended, which is not recorded.
    EndUnrecorded = "record.end" in RecordWrite,
}

impl FromStr for Point {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|point| point.name() == text);
        found.copied().ok_or_else(|| Error::not_found("failpoint", text))
    }
}

/// The end that was asked for.
struct Order {
    point: Point,
    left: u32,
}

/// Has the server end when it comes to `point` for the `count`th time from now; replaces an earlier
/// order.
///
/// # Errors
///
/// `NotFound` if the server was not started for this.
pub(crate) fn order(point: Point, count: u32) -> Result<()> {
    if std::env::var_os(VARIABLE).is_none() {
        return Err(Error::not_found("failpoint", point.name()));
    }
    let mut order = ORDER.lock().unwrap_or_else(PoisonError::into_inner);
    *order = Some(Order { point, left: count.max(1) });
    IS_ORDERED.store(true, Ordering::Release);
    Ok(())
}

/// Ends the server here if that was asked for.
pub(crate) fn reach(point: Point) {
    if !IS_ORDERED.load(Ordering::Acquire) {
        return;
    }
    let mut order = ORDER.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(order) = order.as_mut().filter(|order| order.point == point) else { return };
    order.left -= 1;
    if order.left == 0 {
        end(point);
    }
}

fn end(point: Point) -> ! {
    if let Some(note) = std::env::var_os(VARIABLE) {
        // Who reads it takes a missing note for a point that was not reached.
        let _ = std::fs::write(note, point.name());
    }
    loop {
        // Nothing comes after it; were it to fail there would be no other way either.
        let _ = kill_process(getpid(), Signal::KILL);
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_points_and_every_phase_has_one() {
        for point in Point::ALL {
            assert_eq!(point.name().parse::<Point>().unwrap(), *point);
        }
        let mut phases: Vec<Phase> = Point::ALL.iter().map(|point| point.phase()).collect();
        phases.dedup();
        assert_eq!(phases.len(), 6);
        assert!("nowhere".parse::<Point>().unwrap_err().is_not_found());
    }

    #[test]
    fn a_server_that_was_not_started_for_it_takes_no_order() {
        assert!(order(Point::ExecStarted, 1).unwrap_err().is_not_found());
        reach(Point::ExecStarted);
    }
}
