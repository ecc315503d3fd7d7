//! Ends what its client has left, and does not take the server's own absence for the client's silence.

use std::time::Duration;

use crate::clock;
use crate::ctx::Ctx;
use crate::error::Result;
use crate::ids::AppId;

/// How often expired things are looked for.
pub(super) const SWEEP: Duration = Duration::from_secs(5);
/// A look that comes so long after the one before, in seconds, comes late: this process was stopped, its machine slept,
/// or its disk held everything up. Clients could not be heard meanwhile.
const LATE: f64 = 15.0;

/// Looks again and again, and knows when it was not there to look.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// When the last look began, in seconds since the epoch: that clock goes on while the machine sleeps.
    last: Option<f64>,
}

impl Sweep {
    /// Ends relays and apps whose clients are gone.
    pub(super) async fn look(&mut self, ctx: &Ctx) {
        ctx.relays.sweep();
        let ended = if self.was_away(clock::now()) {
            ctx.apps.wait_for_silent().await
        } else {
            stop_expired(ctx).await
        };
        if let Err(error) = ended {
            tracing::warn!(%error, "apps without heartbeats were not looked for");
        }
    }

    /// Whether this look comes late, or is the first of this server.
    fn was_away(&mut self, now: f64) -> bool {
        self.last.replace(now).is_none_or(|last| now - last > LATE)
    }
}

async fn stop_expired(ctx: &Ctx) -> Result<()> {
    let expired: Vec<AppId> = ctx.apps.expired().await?;
    for app in expired {
        tracing::info!(%app, "no heartbeat; stopping");
        if let Err(error) = crate::service::stop_app(ctx, &app).await {
            tracing::warn!(%error, %app, "an app was not stopped");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_look_in_time_after_another_says_that_a_client_is_silent() {
        let mut sweep = Sweep::default();
        let away: Vec<bool> =
            [100.0, 105.0, 110.5, 140.0, 145.0].map(|now| sweep.was_away(now)).into();
        assert_eq!(away, [true, false, false, true, false]);
    }
}
