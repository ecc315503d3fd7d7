//! Pages of a PDF as text.
//!
//! A PDF comes from anywhere and its parser is not ours, so it is read by a process of its own (this program with
//! [`HELPER`] as its first argument) with bounds on memory and time: what breaks there is an error of one call.

use std::{
    io::{Read, Write},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use lopdf::Document;

use crate::tool::{ToolError, text::cut_middle};

/// The first argument of the process that reads.
pub(crate) const HELPER: &str = "--internal-read-pdf";

/// Pages of one call at most.
const PAGES: u32 = 20;

/// Characters of one call at most.
const MOST: usize = 100_000;

/// Memory of the process.
const MEMORY: u64 = 1 << 30;

/// Time of the process.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes that a page's text may have when it is unpacked.
const LARGEST_PAGE: usize = 64 << 20;

/// The first and last page of `3` or `2-5`.
pub(super) fn range(pages: &str) -> Result<(u32, u32), ToolError> {
    let wrong = ToolError::WrongType {
        name: "pages",
        expected: "a page or a range of pages, such as 3 or 2-5",
    };
    let (first, last) = pages.split_once('-').unwrap_or((pages, pages));
    match (first.trim().parse(), last.trim().parse()) {
        (Ok(first), Ok(last)) if first >= 1 && last >= first => Ok((first, last)),
        _ => Err(wrong),
    }
}

/// Reads pages in a process of its own.
pub(super) fn read(path: &Path, pages: Option<(u32, u32)>) -> Result<String, ToolError> {
    let program = std::env::current_exe().map_err(ToolError::io("start the reader of", path))?;
    let (first, last) = pages.unwrap_or((1, PAGES));
    let mut child = Command::new(program)
        .arg(HELPER)
        .arg(path)
        .args([first.to_string(), last.to_string()])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(ToolError::io("start the reader of", path))?;
    let output = child.stdout.take();
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        output.map(|output| output.take(8 << 20).read_to_end(&mut text));
        text
    });
    let start = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if start.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(5)),
            // Another part of this program may have taken leave of it already.
            _ => break None,
        }
    };
    let _ = child.kill();
    let _ = child.wait();
    let text = String::from_utf8_lossy(&reader.join().unwrap_or_default()).into_owned();
    let told = |reason: &str| {
        Err(ToolError::Failed(format!("cannot read the PDF `{}`: {reason}", path.display())))
    };
    match (status.and_then(|status| status.code()), text.strip_prefix("ok\n")) {
        (Some(0), Some(text)) => Ok(text.to_owned()),
        (Some(1), _) => told(text.trim()),
        _ if start.elapsed() >= PATIENCE => told("it takes more than 60 seconds"),
        (_, Some(text)) if status.is_none() => Ok(text.to_owned()),
        _ => told("it is damaged, or too large to be read"),
    }
}

/// The process's work: prints the pages, or why not; returns its exit code.
pub(crate) fn help(arguments: &[std::ffi::OsString]) -> u8 {
    let limit = rustix::process::Rlimit { current: Some(MEMORY), maximum: Some(MEMORY) };
    let _ = rustix::process::setrlimit(rustix::process::Resource::As, limit);
    let [path, first, last] = arguments else { return 2 };
    let number = |text: &std::ffi::OsString| text.to_str().and_then(|it| it.parse().ok());
    let (Some(first), Some(last)) = (number(first), number(last)) else { return 2 };
    let (text, code) = match extract(Path::new(path), first, last) {
        Ok(text) => (format!("ok\n{text}"), 0),
        Err(reason) => (reason, 1),
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => code,
        Err(_) => 2,
    }
}

fn extract(path: &Path, first: u32, last: u32) -> Result<String, String> {
    let document = Document::load(path).map_err(|error| error.to_string())?;
    if document.is_encrypted() {
        return Err("it is encrypted".into());
    }
    let count = u32::try_from(document.get_pages().len()).unwrap_or(u32::MAX);
    if first > count {
        return Err(format!("it has {count} pages; there is no page {first}"));
    }
    let end = last.min(count).min(first.saturating_add(PAGES - 1));
    let mut text = String::new();
    for page in first..=end {
        let content = document.extract_text_with_limit(&[page], LARGEST_PAGE);
        let content =
            content.unwrap_or_else(|error| format!("[this page cannot be read: {error}]"));
        let content = content.trim();
        let content =
            if content.is_empty() { "[no text on this page; it may be an image]" } else { content };
        text.push_str(&format!("--- page {page} of {count} ---\n{}\n", cut_middle(content, MOST)));
    }
    let mut text = cut_middle(&text, MOST);
    if end < count.min(last) || (end < count && last >= PAGES) {
        text.push_str(&format!(
            "[Pages {first} to {end} are shown; go on with pages {}.]",
            end + 1
        ));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use lopdf::{
        Object, Stream,
        content::{Content, Operation},
        dictionary,
    };

    use super::*;

    /// A document with these pages, in a standard font.
    fn document(pages: &[&str]) -> tempfile::NamedTempFile {
        let mut document = Document::with_version("1.5");
        let tree = document.new_object_id();
        let font = document.add_object(
            dictionary! {"Type" => "Font", "Subtype" => "Type1", "BaseFont" => "Courier"},
        );
        let resources = document.add_object(dictionary! {"Font" => dictionary! {"F1" => font}});
        let kids: Vec<Object> = pages
            .iter()
            .map(|text| {
                let operations = vec![
                    Operation::new("BT", vec![]),
                    Operation::new("Tf", vec!["F1".into(), 12.into()]),
                    Operation::new("Td", vec![50.into(), 700.into()]),
                    Operation::new("Tj", vec![Object::string_literal(*text)]),
                    Operation::new("ET", vec![]),
                ];
                let content = Content { operations }.encode().unwrap();
                let content = document.add_object(Stream::new(dictionary! {}, content));
                document
                    .add_object(
                        dictionary! {"Type" => "Page", "Parent" => tree, "Contents" => content},
                    )
                    .into()
            })
            .collect();
        let count = i64::try_from(kids.len()).unwrap();
        document.objects.insert(
            tree,
            dictionary! {"Type" => "Pages", "Kids" => kids, "Count" => count, "Resources" => resources,
                "MediaBox" => vec![0.into(), 0.into(), 595.into(), 842.into()]}
            .into(),
        );
        let catalog = document.add_object(dictionary! {"Type" => "Catalog", "Pages" => tree});
        document.trailer.set("Root", catalog);
        let mut file = tempfile::Builder::new().suffix(".pdf").tempfile().unwrap();
        document.save_to(file.as_file_mut()).unwrap();
        file
    }

    #[test]
    fn pages_are_shown_one_by_one() {
        let file = document(&["Hello goat", "second"]);
        let all = extract(file.path(), 1, 20).unwrap();
        assert_eq!(all, "--- page 1 of 2 ---\nHello goat\n--- page 2 of 2 ---\nsecond\n");
        assert_eq!(extract(file.path(), 2, 2).unwrap(), "--- page 2 of 2 ---\nsecond\n");
        assert_eq!(extract(file.path(), 3, 3), Err("it has 2 pages; there is no page 3".into()));
        let many = document(&["x"; 30]);
        assert!(
            extract(many.path(), 1, 30)
                .unwrap()
                .ends_with("[Pages 1 to 20 are shown; go on with pages 21.]")
        );
    }

    #[test]
    fn what_is_no_document_is_an_error() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"%PDF-1.7\nnothing of the kind").unwrap();
        assert!(extract(file.path(), 1, 1).is_err());
    }

    #[test]
    fn ranges_are_read() {
        assert_eq!(range("3").unwrap(), (3, 3));
        assert_eq!(range(" 2 - 5").unwrap(), (2, 5));
        for bad in ["0", "5-2", "a", "", "1-"] {
            assert!(range(bad).is_err(), "{bad}");
        }
    }
}
