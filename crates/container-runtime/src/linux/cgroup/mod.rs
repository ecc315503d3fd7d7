//! Control groups: which hierarchy this machine has, one group for the instance, one below it for each container.
//!
//! Version 2 where its controllers are usable; version 1 below the groups this process is already in, since whatever
//! started it may count on that; otherwise limits of single processes. A version 2 hierarchy without controllers is
//! still good for one thing: killing everything in a group at once.

mod detect;
mod group;

pub(crate) use detect::{Groups, hierarchies};
pub(crate) use group::{ContainerGroup, children, remove_group};
