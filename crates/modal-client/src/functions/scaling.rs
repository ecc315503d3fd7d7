//! When a function's containers and calls begin: how many containers, repetitions, schedules.

use std::time::Duration;

/// How many containers a function has. What is not set is Modal's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Autoscaling {
    pub(super) min: Option<u32>,
    pub(super) max: Option<u32>,
    pub(super) buffer: Option<u32>,
    pub(super) scaledown_window: Option<Duration>,
}

/// How often and how fast a failed call is repeated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retries {
    pub(super) retries: u32,
    pub(super) backoff: f32,
    pub(super) first_delay: Duration,
    pub(super) longest_delay: Duration,
}

/// When a function is called by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// Every so often, counted from the deployment.
    Every(Duration),
    /// At the times of a cron expression, in a time zone: `UTC`, `Europe/Berlin`.
    Cron {
        /// Five fields: `0 6 * * 1`.
        expression: String,
        /// By its name in the time zone database.
        timezone: String,
    },
}

impl Autoscaling {
    /// How many containers there always are.
    #[must_use]
    pub fn min(mut self, containers: u32) -> Self {
        self.min = Some(containers);
        self
    }

    /// How many containers there are at most.
    #[must_use]
    pub fn max(mut self, containers: u32) -> Self {
        self.max = Some(containers);
        self
    }

    /// How many idle containers are kept ready while it is used.
    #[must_use]
    pub fn buffer(mut self, containers: u32) -> Self {
        self.buffer = Some(containers);
        self
    }

    /// How long a container may idle before it ends, to the second.
    #[must_use]
    pub fn scaledown_window(mut self, window: Duration) -> Self {
        self.scaledown_window = Some(window);
        self
    }
}

impl Retries {
    /// This many repetitions, a second apart.
    pub fn new(retries: u32) -> Self {
        Self {
            retries,
            backoff: 1.0,
            first_delay: Duration::from_secs(1),
            longest_delay: Duration::from_secs(60),
        }
    }

    /// By how much each delay is longer than the one before: 2 doubles it.
    #[must_use]
    pub fn backoff(mut self, factor: f32) -> Self {
        self.backoff = factor;
        self
    }

    /// The delay before the first repetition.
    #[must_use]
    pub fn first_delay(mut self, delay: Duration) -> Self {
        self.first_delay = delay;
        self
    }

    /// The longest delay.
    #[must_use]
    pub fn longest_delay(mut self, delay: Duration) -> Self {
        self.longest_delay = delay;
        self
    }
}

impl Schedule {
    /// At the times of a cron expression, in UTC.
    pub fn cron(expression: impl Into<String>) -> Self {
        Self::Cron { expression: expression.into(), timezone: "UTC".to_owned() }
    }
}
