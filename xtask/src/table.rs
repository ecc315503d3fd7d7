//! Plain tables for people.

/// Columns as wide as their widest cell, two spaces between, nothing at line ends.
pub(crate) fn render(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let header = header.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
    let lines: Vec<String> =
        std::iter::once(&header).chain(rows).map(|row| line(row, &widths)).collect();
    lines.join("\n")
}

fn line(row: &[String], widths: &[usize]) -> String {
    let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
    cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}

/// The beginning of a text, on one line.
pub(crate) fn short(text: &str, longest: usize) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() <= longest {
        return text;
    }
    let kept: String = text.chars().take(longest.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// Both ends of a text, on one line, where it is too long: the last cause stands last.
pub(crate) fn ends(text: &str, longest: usize) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let length = text.chars().count();
    if length <= longest {
        return text;
    }
    let half = longest.saturating_sub(3) / 2;
    let head: String = text.chars().take(half).collect();
    let tail: String = text.chars().skip(length - half).collect();
    format!("{} … {}", head.trim_end(), tail.trim_start())
}

/// `1.2 s`, `2 min 5 s`.
pub(crate) fn seconds(time: f64) -> String {
    if time < 60.0 {
        return format!("{time:.1} s");
    }
    let whole = time.round();
    format!("{:.0} min {:.0} s", (whole / 60.0).floor(), whole % 60.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_needed() {
        let rows =
            [vec!["a".to_owned(), "passed".to_owned()], vec!["länger".to_owned(), String::new()]];
        insta::assert_snapshot!(render(&["task", "outcome"], &rows), @r"
        task    outcome
        a       passed
        länger
        ");
    }

    #[test]
    fn long_texts_are_cut_and_times_read_well() {
        assert_eq!(short("one\n two  three", 9), "one two …");
        assert_eq!(ends("one two three four", 13), "one t … four");
        assert_eq!((seconds(1.25), seconds(125.0)), ("1.2 s".into(), "2 min 5 s".into()));
    }
}
