//! Inputs for a container that asks for some.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Pool;
use crate::function::calls::Input;
use crate::function::task::{Stop, Task};

/// How long a container waits for an input in one call; then it asks again.
const INPUT_POLL: Duration = Duration::from_secs(50);

/// What a container that asked for inputs is told.
pub(crate) enum Next {
    Inputs(Vec<Arc<Input>>),
    /// Nothing came; it asks again.
    Nothing,
    /// It is to end.
    End,
}

impl Pool {
    /// Waits for inputs for a container: at most `most`, the further ones only as long as `linger`.
    pub(crate) async fn next(&self, task: &Task, most: usize, linger: Duration) -> Next {
        if task.set_ready() {
            self.changed.notify_one();
        }
        let until = Instant::now() + INPUT_POLL;
        let mut taken = Vec::new();
        loop {
            let rung = self.available.notified();
            tokio::pin!(rung);
            rung.as_mut().enable();
            if task.stopping().is_some() {
                return Next::End;
            }
            self.take(task, most - taken.len(), &mut taken);
            if !taken.is_empty() {
                break;
            }
            if Instant::now() >= until {
                return Next::Nothing;
            }
            tokio::select! {
                () = rung => {}
                () = task.bell.notified() => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
        let until = Instant::now() + linger;
        while taken.len() < most && Instant::now() < until {
            let rung = self.available.notified();
            tokio::select! {
                () = rung => {}
                () = tokio::time::sleep_until(until) => {}
            }
            self.take(task, most - taken.len(), &mut taken);
        }
        self.changed.notify_one();
        Next::Inputs(taken)
    }

    fn take(&self, task: &Task, most: usize, taken: &mut Vec<Arc<Input>>) {
        let mut state = self.state();
        for _ in 0..most {
            // A batch is of one method.
            let method = |input: &Arc<Input>| input.input.method_name.clone();
            if let (Some(first), Some(next)) = (taken.first(), state.queue.front())
                && method(first) != method(next)
            {
                return;
            }
            let Some(input) = state.queue.pop_front() else { return };
            task.take(Arc::clone(&input));
            taken.push(input);
        }
        if task.spec.function.single_use_containers && !taken.is_empty() {
            task.request_stop(Stop::Drain);
        }
    }
}
