//! What changes about a pool, under one lock.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::time::Instant;

use super::session::Session;
use crate::function::calls::Input;
use crate::function::definition::FunctionSpec;
use crate::function::scaling::Load;
use crate::function::task::Task;
use crate::ids::{SessionId, TaskId};

pub(super) struct State {
    pub(super) spec: Arc<FunctionSpec>,
    pub(super) generation: u64,
    pub(super) queue: VecDeque<Arc<Input>>,
    pub(super) tasks: HashMap<TaskId, Arc<Task>>,
    /// Starts that failed since the last one that did not.
    pub(super) failures: u32,
    pub(super) not_before: Option<Instant>,
    pub(super) closed: bool,
    pub(super) sessions: HashMap<SessionId, Session>,
    /// Sessions that wait for a container with room.
    pub(super) waiting: usize,
    /// How often those that waited were given up, since no container came up.
    pub(super) given_up: u64,
    /// A request came to a server without containers.
    pub(super) called: bool,
    /// Since when more containers have been wanted than there are.
    pub(super) short_since: Option<Instant>,
}

impl State {
    pub(super) fn new(spec: Arc<FunctionSpec>) -> Self {
        Self {
            spec,
            generation: 0,
            queue: VecDeque::new(),
            tasks: HashMap::new(),
            failures: 0,
            not_before: None,
            closed: false,
            sessions: HashMap::new(),
            waiting: 0,
            given_up: 0,
            called: false,
            short_since: None,
        }
    }

    pub(super) fn load(&self) -> Load {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let current = self.current().count();
        Load {
            queued: count(self.queue.len() + usize::from(self.called) + self.waiting),
            // What is on its way out finishes what it has, and needs no other for it.
            running: count(self.current().map(|task| task.load()).sum()),
            containers: count(current),
        }
    }

    /// Containers of the definition in use that stay.
    pub(super) fn current(&self) -> impl Iterator<Item = &Arc<Task>> {
        let stays =
            |task: &&Arc<Task>| task.generation == self.generation && task.stopping().is_none();
        self.tasks.values().filter(stays)
    }
}
