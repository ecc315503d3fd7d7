//! Lines that came together, stored as one row.

use modal_proto::client::FileDescriptor;

use super::Source;

/// Bytes of a block; a longer line is cut.
pub(crate) const MAX_BLOCK: usize = 64 << 10;
/// Lines within this many seconds get one time.
const SAME_TIME: f64 = 0.1;

/// What is appended: a line with its end, a piece of a line, or many whole lines at once.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LogLine {
    pub(crate) data: String,
    pub(crate) from: FileDescriptor,
    /// Seconds since 1970.
    pub(crate) at: f64,
}

/// Lines of one source and time.
#[derive(Debug, PartialEq)]
pub(super) struct Block<'a> {
    pub(super) source: &'a Source,
    pub(super) from: FileDescriptor,
    pub(super) at: f64,
    pub(super) data: String,
}

impl Block<'_> {
    /// How many lines it has, the last maybe without an end.
    pub(super) fn lines(&self) -> i64 {
        count_lines(&self.data)
    }

    fn takes(&self, source: &Source, line: &LogLine) -> bool {
        let earlier = line.at - self.at;
        self.data.ends_with('\n')
            && self.data.len() + line.data.len() <= MAX_BLOCK
            && self.from == line.from
            && (0.0..SAME_TIME).contains(&earlier)
            && self.source == source
    }
}

/// The lines of a text, each with its end.
pub(super) fn lines(text: &str) -> impl DoubleEndedIterator<Item = &str> {
    text.split_inclusive('\n')
}

pub(super) fn count_lines(text: &str) -> i64 {
    let ends = text.bytes().filter(|byte| *byte == b'\n').count() as i64;
    ends + i64::from(!text.is_empty() && !text.ends_with('\n'))
}

/// Packs lines in their order; a sequence of small ones of one source becomes one block.
#[derive(Debug, Default)]
pub(super) struct Packer<'a> {
    pub(super) blocks: Vec<Block<'a>>,
}

impl<'a> Packer<'a> {
    pub(super) fn push(&mut self, source: &'a Source, line: &LogLine) {
        if line.data.is_empty() {
            return;
        }
        match self.blocks.last_mut().filter(|block| block.takes(source, line)) {
            Some(block) => block.data.push_str(&line.data),
            None => {
                let (from, at, data) = (line.from, line.at, line.data.clone());
                self.blocks.push(Block { source, from, at, data });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(data: &str, from: FileDescriptor, at: f64) -> LogLine {
        LogLine { data: data.to_owned(), from, at }
    }

    #[test]
    fn neighbours_of_one_source_and_time_share_a_block() {
        use FileDescriptor::{Stderr, Stdout};
        let one = Source { task: "ta-1".to_owned(), ..Source::default() };
        let two = Source { task: "ta-2".to_owned(), ..Source::default() };
        let mut packer = Packer::default();
        for (source, line) in [
            (&one, line("a\n", Stdout, 1.0)),
            (&one, line("b\nc\n", Stdout, 1.05)),
            (&one, line("open", Stdout, 1.05)),
            (&one, line(" end\n", Stdout, 1.05)),
            (&one, line("late\n", Stdout, 2.0)),
            (&one, line("error\n", Stderr, 2.0)),
            (&two, line("other\n", Stderr, 2.0)),
            (&two, line("", Stderr, 2.0)),
        ] {
            packer.push(source, &line);
        }
        let blocks: Vec<_> =
            packer.blocks.iter().map(|it| (it.data.as_str(), it.lines())).collect();
        assert_eq!(
            blocks,
            [("a\nb\nc\nopen", 4), (" end\n", 1), ("late\n", 1), ("error\n", 1), ("other\n", 1)]
        );
    }

    #[test]
    fn a_block_has_as_many_lines_as_are_read_from_it() {
        for text in ["", "\n", "a", "a\n", "a\nb", "a\n\nb\n"] {
            assert_eq!(count_lines(text), lines(text).count() as i64, "{text:?}");
        }
    }
}
