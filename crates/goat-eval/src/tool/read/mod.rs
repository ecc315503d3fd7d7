//! The tool Read: lines of a file, pages of a PDF.

pub(crate) mod pdf;

use std::{
    io::{self, BufRead, BufReader},
    path::Path,
};

use async_trait::async_trait;
use serde_json::json;

use super::{
    Arguments, Tool, ToolError, ToolOutput, ToolSpec, Workspace, blocking,
    encoding::{self, Encoding},
    text::{LONGEST_LINE, cut_line},
    workspace::open_file,
};

/// Lines of one call, unless it says otherwise.
const LINES: u64 = 2_000;

/// Characters of one call at most, so that one file can't fill a model's context.
const MOST: usize = 100_000;

/// Bytes of a file in another encoding than UTF-8 at most: it is read as a whole.
const LARGEST_FOREIGN: u64 = 64 << 20;

/// Shows lines of a file.
#[derive(Debug)]
pub(crate) struct Read {
    workspace: Workspace,
}

impl Read {
    pub(crate) fn new(workspace: Workspace) -> Self {
        Read { workspace }
    }
}

#[async_trait]
impl Tool for Read {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "Read".into(),
            description: "Reads a text file, with line numbers: 2000 lines from the first one, or `limit` lines from \
                          line `offset`. Lines of more than 2000 characters are cut. Of a PDF, the text of `pages`."
                .into(),
            brief: "Reads lines of a text file, with line numbers.".into(),
            parameters: json!({
                "type": "object",
                "properties": {
                    "file_path": {"type": "string", "description": "Absolute path of the file"},
                    "offset": {"type": "integer", "description": "First line, from 1"},
                    "limit": {"type": "integer", "description": "Lines at most", "default": LINES},
                    "pages": {"type": "string", "description": "Pages of a PDF, such as 3 or 2-5; 20 at most"},
                },
                "required": ["file_path"],
            }),
            read_only: true,
        }
    }

    async fn call(&self, arguments: Arguments) -> Result<ToolOutput, ToolError> {
        let path = self.workspace.resolve(&arguments.required_text("file_path")?);
        let first = arguments.number("offset")?.unwrap_or(1).max(1);
        let limit = arguments.number("limit")?.filter(|limit| *limit > 0).unwrap_or(LINES);
        let pages = arguments.text("pages")?.filter(|pages| !pages.is_empty());
        let pages = pages.map(|pages| pdf::range(&pages)).transpose()?;
        blocking(move || read(&path, first, limit, pages)).await.map(ToolOutput::ok)
    }
}

fn read(
    path: &Path,
    first: u64,
    limit: u64,
    pages: Option<(u32, u32)>,
) -> Result<String, ToolError> {
    let (file, metadata) = open_file(path)?;
    let mut reader = BufReader::with_capacity(64 << 10, file);
    let start = reader.fill_buf().map_err(ToolError::io("read", path))?;
    if start.starts_with(b"%PDF-") {
        return pdf::read(path, pages);
    }
    let binary = || {
        let (path, bytes) = (path.display(), metadata.len());
        ToolError::Failed(format!(
            "`{path}` is a binary file of {bytes} bytes; look at it with a program in Bash (`file`, `xxd`)"
        ))
    };
    match Encoding::of(start).ok_or_else(binary)? {
        Encoding::Utf8 { mark } => {
            reader.consume(if mark { 3 } else { 0 });
            let page = page(&mut reader, first, limit).map_err(ToolError::io("read", path))?;
            if page.foreign && metadata.len() <= LARGEST_FOREIGN {
                return foreign(path, first, limit, binary);
            }
            Ok(page.render(first))
        }
        _ if metadata.len() <= LARGEST_FOREIGN => foreign(path, first, limit, binary),
        _ => Err(binary()),
    }
}

/// Lines of a file in another encoding, which is named.
fn foreign(
    path: &Path,
    first: u64,
    limit: u64,
    binary: impl Fn() -> ToolError,
) -> Result<String, ToolError> {
    let bytes = std::fs::read(path).map_err(ToolError::io("read", path))?;
    let (text, encoding) = encoding::decode(&bytes).ok_or_else(binary)?;
    let page = page(&mut text.as_bytes(), first, limit).map_err(ToolError::io("read", path))?;
    let text = page.render(first);
    let gap = if text.ends_with('\n') { "" } else { "\n" };
    let note = encoding.name().map(|name| format!("{gap}[The file is {name}.]"));
    Ok(text + &note.unwrap_or_default())
}

/// What one call shows.
#[derive(Debug, Default)]
struct Page {
    text: String,
    /// Number of the last line in `text`.
    last: u64,
    /// Lines of the file, as far as it was read.
    seen: u64,
    more: bool,
    /// Whether a line that is shown is no UTF-8.
    foreign: bool,
}

impl Page {
    fn render(self, first: u64) -> String {
        match (self.text.is_empty(), self.seen) {
            (true, 0) => "[The file is empty.]".into(),
            (true, seen) => format!("[The file has {seen} lines; there is no line {first}.]"),
            _ if self.more => {
                let next = self.last + 1;
                format!(
                    "{}[Lines {first} to {} are shown; go on with offset {next}.]",
                    self.text, self.last
                )
            }
            _ => self.text,
        }
    }
}

fn page(reader: &mut impl BufRead, first: u64, limit: u64) -> io::Result<Page> {
    let mut page = Page::default();
    let mut line = Vec::new();
    let mut size = 0;
    loop {
        let full = page.seen >= first.saturating_sub(1).saturating_add(limit) || size >= MOST;
        if full {
            page.more = !reader.fill_buf()?.is_empty();
            return Ok(page);
        }
        let Some(length) = next_line(reader, &mut line)? else { return Ok(page) };
        page.seen += 1;
        if page.seen >= first {
            page.foreign |= length == line.len() && std::str::from_utf8(&line).is_err();
            let text = shown_line(&line, length);
            size += text.len();
            page.text.push_str(&format!("{:>6}\t{text}\n", page.seen));
            page.last = page.seen;
        }
    }
}

/// Reads a line, keeping no more of it than is shown; returns its whole length, or nothing at the end.
fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Option<usize>> {
    line.clear();
    let mut length = 0;
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok((length > 0).then_some(length));
        }
        let end = buffer.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        let taken = end.unwrap_or(buffer.len());
        let room = (4 * LONGEST_LINE + 8).saturating_sub(line.len());
        line.extend_from_slice(&buffer[..taken.min(room)]);
        length += taken;
        reader.consume(taken);
        if end.is_some() {
            return Ok(Some(length));
        }
    }
}

fn shown_line(line: &[u8], length: usize) -> String {
    let kept = line.len();
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches(['\n', '\r']);
    if length > kept {
        let shown = super::text::split_chars(text, LONGEST_LINE).0;
        return format!("{shown} [… cut; the line has {length} bytes]");
    }
    cut_line(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(content: impl AsRef<[u8]>, first: u64, limit: u64) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        std::fs::write(&path, content).unwrap();
        read(&path, first, limit, None)
            .unwrap_or_else(|error| error.to_string().replace(&path.display().to_string(), "f"))
    }

    #[test]
    fn lines_are_numbered_and_pages_go_on() {
        assert_eq!(shown("a\r\nb\n", 1, LINES), "     1\ta\n     2\tb\n");
        insta::assert_snapshot!(shown("a\nb\nc\nd", 2, 2), @r"
             2	b
             3	c
        [Lines 2 to 3 are shown; go on with offset 4.]
        ");
        assert_eq!(shown("a\nb\nc\nd", 4, 2), "     4\td\n");
    }

    #[test]
    fn ends_are_said() {
        assert_eq!(shown("", 1, LINES), "[The file is empty.]");
        assert_eq!(shown("a\n", 5, LINES), "[The file has 1 lines; there is no line 5.]");
    }

    #[test]
    fn long_lines_and_long_files_are_cut() {
        let text = shown("x".repeat(1_000_000) + "\ny\n", 1, LINES);
        assert!(
            text.contains("x [… cut; the line has 1000001 bytes]\n     2\ty\n"),
            "{}",
            text.len()
        );
        let text = shown(format!("{}\n", "z".repeat(1_999)).repeat(1_000), 1, LINES);
        assert!(text.ends_with("go on with offset 52.]"), "{}", &text[text.len() - 80..]);
        let text = shown("l\n".repeat(3_000), 1, LINES);
        assert!(text.ends_with("[Lines 1 to 2000 are shown; go on with offset 2001.]"));
    }

    #[test]
    fn binary_files_are_refused_and_other_encodings_named() {
        insta::assert_snapshot!(shown(b"\x7fELF\0\0", 1, LINES), @"`f` is a binary file of 6 bytes; look at it with a program in Bash (`file`, `xxd`)");
        assert_eq!(
            shown(b"caf\xe9\n", 1, LINES),
            "     1\tcaf\u{e9}\n[The file is Latin-1 (windows-1252).]"
        );
        let utf16: Vec<u8> =
            "\u{feff}a\r\nb\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(shown(utf16, 2, LINES), "     2\tb\n[The file is UTF-16 (little endian).]");
        assert_eq!(shown(b"\xef\xbb\xbfa\n", 1, LINES), "     1\ta\n");
    }
}
