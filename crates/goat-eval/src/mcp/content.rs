//! What servers answer, as text: the model's side of a tool result takes nothing else.

use base64::{Engine, prelude::BASE64_STANDARD};
use rmcp::model::{CallToolResult, ContentBlock, Resource, ResourceContents};

use crate::tool::{
    Full, ToolOutput,
    text::{LONGEST_RESULT, cut_middle},
};

/// A call's result. What a server says beyond a result's length is cut in the middle.
pub(super) fn output(result: CallToolResult) -> ToolOutput {
    let mut parts: Vec<String> = result.content.iter().map(block).collect();
    if let Some(value) = result.structured_content.filter(|_| parts.is_empty()) {
        parts.push(value.to_string());
    }
    let whole = match parts.join("\n") {
        empty if empty.is_empty() => "[no output]".to_owned(),
        text => text,
    };
    let text = cut_middle(&whole, LONGEST_RESULT);
    let full = (text != whole).then(|| Full::of(whole.as_bytes()));
    ToolOutput { text, is_error: result.is_error == Some(true), full }
}

/// What a resource holds.
pub(super) fn resource(contents: &[ResourceContents]) -> String {
    let parts: Vec<String> = contents.iter().map(contents_text).collect();
    cut_middle(&parts.join("\n"), LONGEST_RESULT)
}

fn block(block: &ContentBlock) -> String {
    match block {
        ContentBlock::Text(text) => text.text.clone(),
        ContentBlock::Image(image) => binary("image", &image.mime_type, &image.data),
        ContentBlock::Audio(audio) => binary("audio", &audio.mime_type, &audio.data),
        ContentBlock::Resource(embedded) => contents_text(&embedded.resource),
        ContentBlock::ResourceLink(link) => {
            format!("[a resource, to be read with ReadMcpResource: {}]", entry(link))
        }
        _ => "[content of a kind that this agent does not know]".to_owned(),
    }
}

/// A resource in a list.
pub(super) fn entry(resource: &Resource) -> String {
    let mut text = format!("{} ({}", resource.uri, resource.name);
    if let Some(kind) = &resource.mime_type {
        text.push_str(&format!(", {kind}"));
    }
    text.push(')');
    if let Some(description) = &resource.description {
        text.push_str(&format!(": {}", crate::progress::shorten(description, 300)));
    }
    text
}

fn contents_text(contents: &ResourceContents) -> String {
    match contents {
        ResourceContents::TextResourceContents { uri, text, .. } => format!("[{uri}]\n{text}"),
        ResourceContents::BlobResourceContents { uri, mime_type, blob, .. } => {
            let kind = mime_type.as_deref().unwrap_or("application/octet-stream");
            let is_text =
                kind.starts_with("text/") || kind.contains("json") || kind.contains("xml");
            let decoded = BASE64_STANDARD.decode(blob).ok().filter(|_| is_text);
            match decoded.and_then(|bytes| String::from_utf8(bytes).ok()) {
                Some(text) => format!("[{uri}]\n{text}"),
                None => format!("[{uri}]\n{}", binary("data", kind, blob)),
            }
        }
        _ => "[a resource of a kind that this agent does not know]".to_owned(),
    }
}

/// A model that reads text is told what there is.
fn binary(what: &str, kind: &str, data: &str) -> String {
    let bytes = data.trim_end_matches('=').len() * 3 / 4;
    format!("[{what} of type {kind}, {bytes} bytes; it can't be shown as text]")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(value: serde_json::Value) -> ToolOutput {
        output(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn everything_becomes_text() {
        let output = shown(json!({"content": [
            {"type": "text", "text": "hello"},
            {"type": "image", "data": "aGVsbG8=", "mimeType": "image/png"},
            {"type": "audio", "data": "aGVsbG8h", "mimeType": "audio/wav"},
            {"type": "resource", "resource": {"uri": "a://1", "text": "inside"}},
            {"type": "resource", "resource": {"uri": "a://2", "mimeType": "text/csv", "blob": "YSxi"}},
            {"type": "resource", "resource": {"uri": "a://3", "mimeType": "application/gzip", "blob": "YSxi"}},
            {"type": "resource_link", "uri": "a://4", "name": "four", "description": "the fourth"},
        ]}));
        assert!(!output.is_error);
        insta::assert_snapshot!(output.text, @r"
        hello
        [image of type image/png, 5 bytes; it can't be shown as text]
        [audio of type audio/wav, 6 bytes; it can't be shown as text]
        [a://1]
        inside
        [a://2]
        a,b
        [a://3]
        [data of type application/gzip, 3 bytes; it can't be shown as text]
        [a resource, to be read with ReadMcpResource: a://4 (four): the fourth]
        ");
    }

    #[test]
    fn errors_structured_results_and_floods() {
        assert!(
            shown(json!({"content": [{"type": "text", "text": "no"}], "isError": true})).is_error
        );
        assert_eq!(shown(json!({"structuredContent": {"a": 1}})).text, r#"{"a":1}"#);
        assert_eq!(shown(json!({"content": []})).text, "[no output]");
        let flood = shown(json!({"content": [{"type": "text", "text": "x".repeat(1_000_000)}]}));
        assert!(flood.text.len() < 31_000 && flood.text.contains("970000 characters cut"));
    }
}
