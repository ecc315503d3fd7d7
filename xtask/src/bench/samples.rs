//! What one side took, turn by turn: sides take turns, so that a machine that is slow for a while is slow for all.

/// The figures of one side.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    /// These.
    pub(crate) fn of(figures: &[f64]) -> Self {
        Self(figures.to_vec())
    }

    /// One more.
    pub(crate) fn push(&mut self, figure: f64) {
        self.0.push(figure);
    }

    /// The one in the middle; 0 where there is none.
    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slow_turn_does_not_count() {
        let mut samples = Samples::of(&[3.0, 900.0]);
        samples.push(2.0);
        assert_eq!(samples.median(), 3.0);
    }
}
