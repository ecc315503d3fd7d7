//! What changed in a file, as the model and a reader of the transcript see it.

use std::time::Duration;

use super::text::cut_middle;

/// Characters of a diff at most.
const LONGEST: usize = 8_000;

/// Time to look for the smallest diff; after it, a larger one will do.
const PATIENCE: Duration = Duration::from_millis(500);

/// A unified diff with three lines of context, shortened in the middle if it is long.
pub(crate) fn unified(old: &str, new: &str) -> String {
    let diff = similar::TextDiff::configure().timeout(PATIENCE).diff_lines(old, new);
    let text = diff.unified_diff().context_radius(3).to_string();
    cut_middle(text.trim_end(), LONGEST)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_change_is_shown_with_its_surroundings() {
        insta::assert_snapshot!(super::unified("a\nb\nc\n", "a\nB\nc\n"), @r"
        @@ -1,3 +1,3 @@
         a
        -b
        +B
         c
        ");
    }
}
