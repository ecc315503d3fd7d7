//! Waits until a server listens; from then on requests go to it.

use std::sync::Arc;
use std::time::Duration;

use crate::function::pool::Pool;
use crate::function::task::{Stop, Task};
use crate::sandbox;

/// Between two looks at the port.
const PAUSE: Duration = Duration::from_millis(50);

/// Opens the container to requests once its port accepts a connection. The keeper ends it if that
/// takes longer than its start-up time-out.
pub(crate) async fn await_server(pool: Arc<Pool>, task: Arc<Task>) {
    let Ok(port) = u16::try_from(task.spec.http().port) else { return };
    let listening = async {
        while !accepts(&task, port).await {
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::select! {
        () = listening => pool.open(&task),
        _ = task.asked_to(Stop::Drain) => {}
    }
}

async fn accepts(task: &Task, port: u16) -> bool {
    let Ok(container) = task.place().and_then(|place| place.container()) else { return false };
    sandbox::connect(&container, port).await.is_ok()
}
