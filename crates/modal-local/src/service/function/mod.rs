//! RPCs of functions: definitions ([`define`]), calls ([`call`], [`follow`]), what containers call
//! ([`container`]), and what lists show ([`stats`]).

mod call;
mod container;
mod define;
mod follow;
mod history;
mod metrics;
mod server;
mod stats;
mod terminal;

pub(super) use self::call::*;
pub(super) use self::container::*;
pub(super) use self::define::*;
pub(super) use self::follow::*;
pub(super) use self::history::*;
pub(super) use self::metrics::*;
pub(super) use self::server::*;
pub(super) use self::stats::*;
pub(super) use self::terminal::*;

use crate::error::{Error, Result};
use crate::ids::{AppId, CallId, FunctionId};

fn function_id(text: &str) -> Result<FunctionId> {
    FunctionId::parse(text).map_err(Error::from)
}

fn call_id(text: &str) -> Result<CallId> {
    CallId::parse(text).map_err(Error::from)
}

fn app_id(text: &str) -> Result<AppId> {
    AppId::parse(text).map_err(Error::from)
}
