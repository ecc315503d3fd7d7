//! What a caller asks for: the container, the program in it, the runtime around both.
//!
//! Pure data, valid on every system. Checks that need no machine live in [`ContainerSpec::check`].

mod config;
mod container;
mod end;
mod exec;
mod id;
mod limits;
mod network;
mod root;

pub use self::config::RuntimeConfig;
pub use self::container::ContainerSpec;
pub use self::end::{Ended, Exit, ExitStatus};
pub use self::exec::{Builtin, ExecSpec, PtySize, Stdio};
pub use self::id::ContainerId;
pub use self::limits::{Limits, Usage};
pub use self::network::NetworkSpec;
pub use self::root::{GeneratedFile, Mount, RootSpec, Upper};
