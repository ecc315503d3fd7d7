//! How many containers a function has: a pure decision from its settings and its load.

use std::time::Duration;

use modal_proto::client::{AutoscalerSettings, Function};

/// How long a container without inputs stays where nothing is said.
const DEFAULT_WINDOW: Duration = Duration::from_secs(60);
/// Fewer containers than this are never the limit of a function without one of its own.
const LEAST_LIMIT: u32 = 4;

/// What a function's definition and its owner say about its containers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scaling {
    pub(crate) min: u32,
    pub(crate) max: u32,
    /// More than are needed, while there is something to do.
    pub(crate) buffer: u32,
    /// How long a container without inputs stays.
    pub(crate) window: Duration,
    /// Inputs that a container takes at once, at most.
    pub(crate) max_inputs: u32,
    /// Inputs of a container above which another one is wanted.
    pub(crate) target_inputs: u32,
}

/// What a function has to do, and what does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Load {
    /// Inputs that wait.
    pub(crate) queued: u32,
    /// Inputs that containers work on.
    pub(crate) running: u32,
    /// Containers, those that are being made included; not those that are on their way out.
    pub(crate) containers: u32,
}

impl Scaling {
    /// Of a function; `overrides` were set by hand and win.
    pub(crate) fn new(function: &Function, overrides: &AutoscalerSettings) -> Self {
        let own = function.autoscaler_settings.unwrap_or_default();
        let stated = |number: u32| (number > 0).then_some(number);
        let min = overrides.min_containers.or(own.min_containers);
        let max = overrides.max_containers.or(own.max_containers);
        let buffer = overrides.buffer_containers.or(own.buffer_containers);
        let window = overrides.scaledown_window.or(own.scaledown_window);
        let max_inputs = function.max_concurrent_inputs.max(1);
        let target_inputs = match function.target_concurrent_inputs {
            0 => max_inputs,
            target => target.min(max_inputs),
        };
        let batch = function.batch_max_size.max(1);
        let min = min.or(stated(function.warm_pool_size)).unwrap_or(0);
        let max = max.or(stated(function.concurrency_limit)).unwrap_or_else(machine_limit);
        Self {
            min,
            max: max.max(min).max(1),
            buffer: buffer.or(stated(function.experimental_buffer_containers)).unwrap_or(0),
            window: window
                .or(stated(function.task_idle_timeout_secs))
                .map_or(DEFAULT_WINDOW, |seconds| Duration::from_secs(seconds.into())),
            max_inputs: max_inputs.saturating_mul(batch),
            target_inputs: target_inputs.saturating_mul(batch),
        }
    }

    /// How many containers there should be now.
    pub(crate) fn wanted(&self, load: Load) -> u32 {
        let inputs = load.queued.saturating_add(load.running);
        let needed = inputs.div_ceil(self.target_inputs.max(1));
        let needed = if needed > 0 { needed.saturating_add(self.buffer) } else { 0 };
        needed.clamp(self.min, self.max)
    }

    /// How many of the idle containers may go, of those that have been idle for the whole window.
    pub(crate) fn surplus(&self, load: Load) -> u32 {
        load.containers.saturating_sub(self.wanted(load))
    }

    /// As the API says it.
    pub(crate) fn settings(&self) -> AutoscalerSettings {
        AutoscalerSettings {
            min_containers: Some(self.min),
            max_containers: Some(self.max),
            buffer_containers: Some(self.buffer),
            scaledown_window: Some(u32::try_from(self.window.as_secs()).unwrap_or(u32::MAX)),
            ..AutoscalerSettings::default()
        }
    }
}

/// The limit of functions that have none: more containers than this machine's cores can carry help nobody.
fn machine_limit() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    u32::try_from(cores).unwrap_or(u32::MAX).saturating_mul(2).max(LEAST_LIMIT)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scaling(min: u32, max: u32, buffer: u32, target: u32) -> Scaling {
        Scaling {
            min,
            max,
            buffer,
            window: DEFAULT_WINDOW,
            max_inputs: target,
            target_inputs: target,
        }
    }

    fn load(queued: u32, running: u32, containers: u32) -> Load {
        Load { queued, running, containers }
    }

    #[test]
    fn containers_follow_the_inputs_within_their_limits() {
        let plain = scaling(0, 4, 0, 1);
        assert_eq!(plain.wanted(load(0, 0, 0)), 0, "to zero");
        assert_eq!(plain.wanted(load(2, 1, 1)), 3);
        assert_eq!(plain.wanted(load(100, 0, 0)), 4);
        assert_eq!(scaling(1, 4, 0, 1).wanted(load(0, 0, 0)), 1);
        assert_eq!(scaling(0, 9, 2, 1).wanted(load(1, 0, 0)), 3, "a buffer while there is work");
        assert_eq!(scaling(0, 9, 2, 1).wanted(load(0, 0, 0)), 0);
        assert_eq!(scaling(0, 9, 0, 10).wanted(load(11, 0, 0)), 2, "ten inputs a container");
        assert_eq!(plain.surplus(load(0, 1, 3)), 2);
    }

    #[test]
    fn what_is_set_by_hand_wins() {
        let function = Function { warm_pool_size: 1, concurrency_limit: 2, ..Default::default() };
        let overrides = AutoscalerSettings { max_containers: Some(5), ..Default::default() };
        let scaling = Scaling::new(&function, &overrides);
        assert_eq!((scaling.min, scaling.max), (1, 5));
    }

    proptest! {
        #[test]
        fn never_outside_the_limits(min in 0u32..5, more in 1u32..9, queued in 0u32..2_000, running in 0u32..50) {
            let scaling = scaling(min, min + more, 1, 3);
            let wanted = scaling.wanted(load(queued, running, 0));
            prop_assert!((min..=min + more).contains(&wanted));
        }
    }
}
