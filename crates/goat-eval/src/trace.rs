//! What a call of the model carries so that traces of one task belong together.
//!
//! A LiteLLM proxy takes the trace's id from the W3C header `traceparent` and the rest from the body's `metadata`
//! (seen with LiteLLM 1.102.4 and Langfuse's SDK 2, and with 1.109.1 and SDK 4): `session_id`, `trace_name`, `tags`.
//! `trace_id` is given too, since SDK 2 would else take the session for it. Nothing is sent that was not given:
//! other servers refuse a `metadata` that they do not know.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// What the flags for traces say; empty without them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// W3C trace context: version, trace, parent span, flags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// What groups traces: the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// What the trace is called: the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Words to find traces by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

impl Trace {
    /// Whether nothing was given.
    pub fn is_empty(&self) -> bool {
        *self == Trace::default()
    }

    /// The body's `metadata`; none where only the header, or nothing, was given.
    pub fn metadata(&self) -> Option<Value> {
        let mut fields = Map::new();
        if let Some(session) = &self.session {
            fields.insert("session_id".into(), json!(session));
        }
        if let Some(name) = &self.name {
            fields.insert("trace_name".into(), json!(name));
        }
        if !self.tags.is_empty() {
            fields.insert("tags".into(), json!(self.tags));
        }
        if let Some(id) = self.parent.as_deref().and_then(|parent| parent.split('-').nth(1))
            && !fields.is_empty()
        {
            fields.insert("trace_id".into(), json!(id));
        }
        (!fields.is_empty()).then_some(Value::Object(fields))
    }
}

/// Whether this is `00-<32 hex>-<16 hex>-<2 hex>`, neither id all zeros (W3C Trace Context, section 3.2.2).
pub fn is_traceparent(text: &str) -> bool {
    let is_hex = |part: &str, length| {
        part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_id = |part: &str, length| is_hex(part, length) && part.bytes().any(|byte| byte != b'0');
    match text.split('-').collect::<Vec<_>>()[..] {
        ["00", trace, span, flags] => is_id(trace, 32) && is_id(span, 16) && is_hex(flags, 2),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn metadata_holds_what_was_given() {
        let header_only = Trace { parent: Some(PARENT.into()), ..Trace::default() };
        assert_eq!((Trace::default().metadata(), header_only.metadata()), (None, None));
        let whole = Trace {
            session: Some("run".into()),
            name: Some("task".into()),
            tags: vec!["baseline".into()],
            ..header_only
        };
        assert_eq!(
            whole.metadata().unwrap(),
            json!({"session_id": "run", "trace_name": "task", "tags": ["baseline"],
                   "trace_id": "0af7651916cd43dd8448eb211c80319c"})
        );
    }

    #[test]
    fn a_traceparent_has_its_form() {
        assert!(is_traceparent(PARENT));
        for bad in [
            "",
            "00-0-0-01",
            &PARENT.to_uppercase(),
            &PARENT.replace("b7ad6b7169203331", "0000000000000000"),
        ] {
            assert!(!is_traceparent(bad), "{bad}");
        }
    }
}
