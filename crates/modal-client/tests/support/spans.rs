//! What a program that collects `tracing` would see.

use std::{
    collections::HashMap,
    fmt::Debug,
    sync::{Arc, Mutex},
};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id},
    subscriber::DefaultGuard,
};
use tracing_subscriber::{
    layer::{Context, Layer, SubscriberExt as _},
    registry::LookupSpan,
};

/// The spans that were opened and closed, by name and method, and the warnings.
#[derive(Clone, Default)]
pub(crate) struct Spans(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    names: HashMap<u64, String>,
    open: Vec<String>,
    closed: Vec<String>,
    warnings: Vec<String>,
}

impl Spans {
    /// Collects for this thread, as long as the guard is held.
    pub(crate) fn collect() -> (Self, DefaultGuard) {
        let spans = Self::default();
        let subscriber = tracing_subscriber::registry().with(spans.clone());
        (spans, tracing::subscriber::set_default(subscriber))
    }

    pub(crate) fn is_open(&self, name: &str) -> bool {
        self.0.lock().unwrap().open.iter().any(|open| open == name)
    }

    pub(crate) fn is_closed(&self, name: &str) -> bool {
        self.0.lock().unwrap().closed.iter().any(|closed| closed == name) && !self.is_open(name)
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        self.0.lock().unwrap().warnings.clone()
    }
}

struct Fields(Vec<(&'static str, String)>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.push((field.name(), format!("{value:?}").trim_matches('"').to_owned()));
    }
}

impl Fields {
    fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(field, _)| *field == name).map_or("", |(_, value)| value)
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _: Context<'_, S>) {
        let mut fields = Fields(Vec::new());
        attributes.record(&mut fields);
        let name = format!("{} {}", attributes.metadata().name(), fields.get("method"));
        let mut seen = self.0.lock().unwrap();
        seen.names.insert(id.into_u64(), name.clone());
        seen.open.push(name);
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() == tracing::Level::WARN {
            let mut fields = Fields(Vec::new());
            event.record(&mut fields);
            self.0.lock().unwrap().warnings.push(fields.get("message").to_owned());
        }
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        let mut seen = self.0.lock().unwrap();
        let Some(name) = seen.names.remove(&id.into_u64()) else { return };
        let at = seen.open.iter().position(|open| *open == name);
        if let Some(at) = at {
            seen.open.swap_remove(at);
        }
        seen.closed.push(name);
    }
}
