//! Which layers somebody needs right now, whatever becomes of the image's record meanwhile.
//!
//! Who runs or copies an image holds a [`Lease`]; a collection of garbage leaves leased layers. They
//! end with the process: after a kill nothing runs that could need one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::layer::LayerId;
use crate::error::Result;

type Counts = HashMap<LayerId, usize>;

/// How many need each layer. Clones share it.
#[derive(Clone, Default)]
pub(super) struct InUse {
    counts: Arc<Mutex<Counts>>,
}

/// Keeps layers from being collected for as long as it lives.
#[must_use]
pub(crate) struct Lease {
    in_use: InUse,
    layers: Vec<LayerId>,
}

impl InUse {
    /// Leases layers. Whether they are there is to be looked at afterwards: one that is will stay.
    pub(super) fn lease(&self, layers: &[LayerId]) -> Lease {
        let mut counts = self.lock();
        for layer in layers {
            *counts.entry(layer.clone()).or_default() += 1;
        }
        Lease { in_use: self.clone(), layers: layers.to_vec() }
    }

    /// Does this unless somebody needs the layer; meanwhile nobody can begin to. Whether it was done.
    pub(super) fn unless_leased(
        &self,
        layer: &LayerId,
        discard: impl FnOnce() -> Result<()>,
    ) -> Result<bool> {
        let counts = self.lock();
        if counts.contains_key(layer) {
            return Ok(false);
        }
        discard().map(|()| true)
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut counts = self.in_use.lock();
        for layer in &self.layers {
            if let Some(count) = counts.get_mut(layer) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(layer);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::digest::Hasher;

    #[test]
    fn a_layer_is_free_once_the_last_lease_is_gone() {
        let in_use = InUse::default();
        let (one, two) = (LayerId::of(&Hasher::new("1")), LayerId::of(&Hasher::new("2")));
        let is_free = |layer| in_use.unless_leased(layer, || Ok(())).unwrap();
        let first = in_use.lease(&[one.clone(), two.clone()]);
        let second = in_use.lease(std::slice::from_ref(&one));
        drop(first);
        assert!(!is_free(&one) && is_free(&two));
        drop(second);
        assert!(is_free(&one));
    }
}
