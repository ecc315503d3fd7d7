//! What the exit code says. Stable: scripts and the runner read it.

/// The model gave an answer; it is on stdout.
pub const ANSWERED: u8 = 0;
/// Something around the agent is missing or unusable: no prompt, no such directory, a file that can't be written.
/// A fault of the agent itself too.
pub const USAGE: u8 = 1;
/// A flag is unknown, lacks its value, or has one that makes no sense.
pub const BAD_FLAG: u8 = 2;
/// The turns of `--max-turns` are used up, and the model still wanted to call tools.
pub const TURNS_USED_UP: u8 = 3;
/// The model can't be reached, refused, or gave nothing usable, after retries where they make sense.
pub const MODEL_ERROR: u8 = 4;
/// The seconds of `--timeout` are over.
pub const TIMED_OUT: u8 = 5;
/// The tokens of `--max-tokens` are used up.
pub const TOKENS_USED_UP: u8 = 6;
/// The money of `--max-cost` is used up.
pub const COST_USED_UP: u8 = 7;
/// Ended by SIGINT.
pub const INTERRUPTED: u8 = 130;
/// Ended by SIGTERM.
pub const TERMINATED: u8 = 143;
