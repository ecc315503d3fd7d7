//! What image builds print, as it comes.

use modal_client::BuildEvent;

use crate::{printer::Printer, table::short};

/// A step's text that is shown: lists of packages are long.
const STEP: usize = 140;

/// Shows whole lines, below the step that prints them.
pub(super) struct BuildLog {
    printer: Printer,
}

impl BuildLog {
    pub(super) fn new(printer: Printer) -> Self {
        Self { printer }
    }

    /// Takes what happens. A layer that is there already is not worth a line.
    pub(super) fn listener(self) -> impl FnMut(BuildEvent<'_>) + Send + 'static {
        let mut lines = Lines::default();
        move |event| lines.said(&event).iter().for_each(|line| self.printer.note(line))
    }
}

#[derive(Default)]
struct Lines {
    partial: String,
    /// The layer that is being built, until something shows that it really is.
    step: Option<String>,
}

impl Lines {
    fn said(&mut self, event: &BuildEvent<'_>) -> Vec<String> {
        match event {
            BuildEvent::LayerStarted { layer, layers, step } => {
                let step = short(step, STEP);
                self.step = Some(format!("image: layer {layer} of {layers}: {step}"));
                Vec::new()
            }
            BuildEvent::Output(text) => {
                self.partial.push_str(text);
                let end = self.partial.rfind('\n').map_or(0, |at| at + 1);
                let rest = self.partial.split_off(end);
                let whole = std::mem::replace(&mut self.partial, rest);
                let lines = whole.lines().map(|line| format!("  {line}"));
                self.step.take().into_iter().chain(lines).collect()
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_and_stand_below_their_step() {
        let mut lines = Lines::default();
        let step = format!("RUN python -m pip install {}", "package==1 ".repeat(40));
        let started = BuildEvent::LayerStarted { layer: 2, layers: 3, step: &step };
        assert!(lines.said(&started).is_empty());
        let said = [
            lines.said(&BuildEvent::Output("Collecting pack")),
            lines.said(&BuildEvent::Output("age\nDone\nnext")),
        ]
        .concat();
        assert!(said[0].starts_with("image: layer 2 of 3: RUN python -m pip install package==1"));
        assert!(said[0].ends_with('…') && said[0].chars().count() < 170);
        assert_eq!(said[1..], ["  Collecting package", "  Done"]);
    }
}
