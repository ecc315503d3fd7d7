//! How many containers a function has: a pure decision from its settings and its load.

use std::time::Duration;

use modal_proto::client::{AutoscalerSettings, Function};

/// How long a container without inputs stays where nothing is said.
const DEFAULT_WINDOW: Duration = Duration::from_secs(60);
/// Fewer containers than this are never the limit of a function without one of its own.
const LEAST_LIMIT: u32 = 4;
/// Sticky sessions of one container, at most. Source: Modal's guide to sticky sessions.
const MOST_SESSIONS: u32 = 1_000;

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
    /// Inputs that a container should take at once.
    pub(crate) target_inputs: u32,
    /// Inputs of a container above which another one is wanted: of a server perhaps a fraction, and
    /// infinite where containers do not follow the load.
    pub(crate) load_target: f64,
    /// How long more containers must have been wanted before there are more.
    pub(crate) scaleup: Duration,
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
        let scaleup = overrides.scaleup_window.or(own.scaleup_window).unwrap_or(0);
        let max_inputs = match function.max_concurrent_inputs {
            0 if function.is_sessioned => MOST_SESSIONS,
            most if function.is_sessioned => most.min(MOST_SESSIONS),
            0 if function.is_server => u32::MAX,
            most => most.max(1),
        };
        let target_inputs = match function.target_concurrent_inputs {
            0 => max_inputs,
            target => target.min(max_inputs),
        };
        let batch = function.batch_max_size.max(1);
        let min = min.or(stated(function.warm_pool_size)).unwrap_or(0);
        // Zero takes a limit away.
        let max = max.filter(|max| *max > 0);
        let max = max.or(stated(function.concurrency_limit)).unwrap_or_else(machine_limit);
        let target_inputs = target_inputs.saturating_mul(batch);
        let load_target = if function.is_server {
            server_target(&own, overrides, max_inputs)
        } else {
            f64::from(target_inputs.max(1))
        };
        Self {
            min,
            max: max.max(min).max(1),
            buffer: buffer.or(stated(function.experimental_buffer_containers)).unwrap_or(0),
            window: window
                .or(stated(function.task_idle_timeout_secs))
                .map_or(DEFAULT_WINDOW, |seconds| Duration::from_secs(seconds.into())),
            max_inputs: max_inputs.saturating_mul(batch),
            target_inputs,
            load_target,
            scaleup: Duration::from_secs(scaleup.into()),
        }
    }

    /// How many containers there should be now.
    pub(crate) fn wanted(&self, load: Load) -> u32 {
        let inputs = load.queued.saturating_add(load.running);
        // Beyond the largest number of containers the cast says that one.
        let needed = ((f64::from(inputs) / self.load_target).ceil() as u32).max(1);
        let needed = if inputs > 0 { needed.saturating_add(self.buffer) } else { 0 };
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

    /// As the API says it of a server.
    pub(crate) fn server_settings(&self) -> AutoscalerSettings {
        let target = if self.load_target.is_finite() { self.load_target } else { 0.0 };
        AutoscalerSettings {
            target_concurrency_float: Some(target),
            scaleup_window: Some(u32::try_from(self.scaleup.as_secs()).unwrap_or(u32::MAX)),
            ..self.settings()
        }
    }
}

/// Requests of a server's container above which another one is wanted; none said or zero is no such
/// number, unless a container takes only so many.
fn server_target(own: &AutoscalerSettings, overrides: &AutoscalerSettings, max_inputs: u32) -> f64 {
    let stated = |settings: &AutoscalerSettings| {
        settings.target_concurrency_float.or(settings.target_concurrency.map(f64::from))
    };
    match stated(overrides).or(stated(own)) {
        Some(target) if target > 0.0 => target,
        None if max_inputs < u32::MAX => f64::from(max_inputs),
        Some(_) | None => f64::INFINITY,
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
            load_target: f64::from(target),
            scaleup: Duration::ZERO,
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

    #[test]
    fn servers_follow_their_target_or_do_not_follow_the_load() {
        let server = |max_concurrent_inputs, target_concurrency_float| {
            let function =
                Function { is_server: true, max_concurrent_inputs, ..Default::default() };
            let overrides = AutoscalerSettings { target_concurrency_float, ..Default::default() };
            Scaling { max: 9, ..Scaling::new(&function, &overrides) }
        };
        assert_eq!(server(0, None).wanted(load(0, 500, 1)), 1);
        assert_eq!(server(0, None).wanted(load(1, 0, 0)), 1, "a first one");
        assert_eq!(server(0, Some(1.5)).wanted(load(0, 4, 1)), 3);
        assert_eq!(server(10, None).wanted(load(0, 11, 1)), 2, "a full one has another beside it");
        assert_eq!(server(10, Some(0.0)).wanted(load(0, 11, 1)), 1, "switched off by hand");
        assert_eq!(server(0, Some(1.5)).server_settings().target_concurrency_float, Some(1.5));
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
