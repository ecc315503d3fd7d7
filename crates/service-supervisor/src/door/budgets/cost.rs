//! What LiteLLM says that an answer cost.

use http::header::CONTENT_TYPE;
use serde_json::Value;

use crate::door::answer::Answer;

/// LiteLLM's header, on every answer whose cost it knows before the first byte: all but streams.
const HEADER: &str = "x-litellm-response-cost";

/// What the head of an answer says.
pub(super) struct Said {
    is_success: bool,
    is_stream: bool,
    header: Option<f64>,
}

impl Said {
    pub(super) fn by(answer: &Answer) -> Self {
        let text = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let kind = text(CONTENT_TYPE.as_str()).unwrap_or_default();
        Self {
            is_success: answer.status().is_success(),
            is_stream: kind.starts_with("text/event-stream"),
            header: text(HEADER).and_then(|text| text.parse().ok()).filter(is_sound),
        }
    }

    /// US dollars, given the end of the body. `unpriced` where it should say something and does not.
    pub(super) fn cost(&self, tail: &[u8], unpriced: f64) -> Option<f64> {
        match (self.is_success, self.is_stream) {
            (false, _) => self.header.filter(|usd| *usd > 0.0),
            (true, false) => Some(self.header.or_else(|| in_body(tail)).unwrap_or(unpriced)),
            // The head of a stream was written before anything was spent.
            (true, true) => {
                Some(in_body(tail).or(self.header.filter(|usd| *usd > 0.0)).unwrap_or(unpriced))
            }
        }
    }
}

/// `usage.cost` of the last event that has one, with LiteLLM's setting `include_cost_in_streaming_usage`.
fn in_body(tail: &[u8]) -> Option<f64> {
    let text = String::from_utf8_lossy(tail);
    let events = text.lines().rev().map(|line| line.strip_prefix("data:").unwrap_or(line));
    events.filter_map(|event| serde_json::from_str(event.trim()).ok()).find_map(|event: Value| {
        let usage = event.get("usage").or_else(|| event.get("response")?.get("usage"))?;
        usage.get("cost")?.as_f64().filter(is_sound)
    })
}

fn is_sound(usd: &f64) -> bool {
    usd.is_finite() && *usd >= 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(is_success: bool, is_stream: bool, header: Option<f64>, tail: &str) -> Option<f64> {
        Said { is_success, is_stream, header }.cost(tail.as_bytes(), 0.01)
    }

    #[test]
    fn an_answer_s_cost_is_found_or_assumed() {
        let plain = r#"{"usage": {"prompt_tokens": 1}}"#;
        assert_eq!(cost(true, false, Some(0.5), plain), Some(0.5));
        assert_eq!(cost(true, false, Some(0.0), plain), Some(0.0), "a model of our own");
        assert_eq!(cost(true, false, None, plain), Some(0.01));
        assert_eq!(cost(false, false, None, plain), None);
        assert_eq!(cost(false, false, Some(0.2), plain), Some(0.2));
    }

    #[test]
    fn a_stream_s_cost_stands_in_its_last_events() {
        let stream = "ut\"}}]}\n\ndata: {\"choices\": []}\n\ndata: {\"usage\": {\"cost\": 0.25}}\n\ndata: [DONE]\n\n";
        assert_eq!(cost(true, true, Some(0.0), stream), Some(0.25));
        let response = "data: {\"response\": {\"usage\": {\"cost\": 0.125}}}\n\n";
        assert_eq!(cost(true, true, None, response), Some(0.125));
        assert_eq!(cost(true, true, Some(0.0), "data: {\"usage\": {}}\n\n"), Some(0.01));
        assert_eq!(cost(true, true, None, "data: {\"usage\": {\"cost\": -1}}\n\n"), Some(0.01));
    }
}
