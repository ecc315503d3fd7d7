//! Text of bearable length.

/// Characters of a result at most.
pub const LONGEST_RESULT: usize = 30_000;

/// Characters of a line at most.
pub const LONGEST_LINE: usize = 2_000;

/// `text` with its middle left out if it has more than `most` characters; a line in its place says how much.
///
/// Both ends are kept: the beginning tells what was going on, the end how it came out.
pub fn cut_middle(text: &str, most: usize) -> String {
    let count = text.chars().count();
    if count <= most {
        return text.to_owned();
    }
    let half = most / 2;
    let (head, _) = split_chars(text, half);
    let (_, tail) = split_chars(text, count - half);
    joined(head, &format!("{} characters", count - 2 * half), tail)
}

/// A beginning and an end with a line between them that says what is missing.
pub fn joined(head: &str, missing: &str, tail: &str) -> String {
    format!(
        "{}\n[… {missing} cut from the middle …]\n{}",
        head.trim_end_matches('\n'),
        tail.trim_start_matches('\n')
    )
}

/// The first `count` characters, and the rest.
pub fn split_chars(text: &str, count: usize) -> (&str, &str) {
    let at = text.char_indices().nth(count).map_or(text.len(), |(at, _)| at);
    text.split_at(at)
}

/// Times that a line is shown where it comes again and again.
const REPEATS: usize = 3;

/// Equal lines in a row from which on they are counted instead of shown.
const MANY: usize = 20;

/// `text` with the middle of long rows of equal lines left out; a line in its place says how many there were.
pub fn fold_repeats(text: &str) -> String {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut folded = String::with_capacity(text.len());
    for row in lines.chunk_by(|one, next| one == next) {
        let shown = if row.len() < MANY { row.len() } else { REPEATS };
        row[..shown].iter().for_each(|line| folded.push_str(line));
        if shown < row.len() {
            folded.push_str(&format!(
                "[… the line above comes {} more times …]\n",
                row.len() - shown
            ));
        }
    }
    folded
}

/// A line of at most [`LONGEST_LINE`] characters.
pub fn cut_line(line: &str) -> String {
    let (head, rest) = split_chars(line, LONGEST_LINE);
    if rest.is_empty() {
        head.to_owned()
    } else {
        format!("{head} [… {} characters cut]", rest.chars().count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_goes_and_is_counted() {
        assert_eq!(cut_middle("abc", 3), "abc");
        assert_eq!(cut_middle("ääbbbcc", 4), "ää\n[… 3 characters cut from the middle …]\ncc");
    }

    #[test]
    fn equal_lines_are_counted() {
        assert_eq!(fold_repeats("a\na\nb"), "a\na\nb");
        let text = format!("first\n{}last", "y\n".repeat(50));
        assert_eq!(
            fold_repeats(&text),
            "first\ny\ny\ny\n[… the line above comes 47 more times …]\nlast"
        );
    }

    #[test]
    fn long_lines_are_cut() {
        assert_eq!(cut_line("short"), "short");
        let cut = cut_line(&"x".repeat(LONGEST_LINE + 5));
        assert!(cut.ends_with("x [… 5 characters cut]"), "{cut}");
    }
}
