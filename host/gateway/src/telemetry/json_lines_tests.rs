use std::io;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Layer as _, Registry, fmt};

use super::*;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    /// Returns the lines without their timestamps.
    fn take(&self) -> Vec<String> {
        let text = String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap();
        let without = |line: &str| {
            let (time, rest) = line.split_once(',').unwrap();
            assert!(time.starts_with("{\"timestamp\":\"20"), "{line}");
            format!("{{{rest}")
        };
        text.lines().map(without).collect()
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

fn write_events() {
    let all: String = (0..0x100).filter_map(char::from_u32).collect();
    let nothing = None::<u64>;
    tracing::info!(target: "a\"b", event = "gateway.ready", nothing, "said {all}");
    let outer = tracing::info_span!("connection", peer = %"127.0.0.1:1", association = tracing::field::Empty);
    let _outer = outer.enter();
    tracing::warn!(text = all, shown = %all, debug = ?all, flag = true);
    outer.record("association", 7);
    let inner = tracing::info_span!("request", request_id = "\"\n");
    let _inner = inner.enter();
    let _empty = tracing::info_span!("empty").entered();
    tracing::error!(least = i64::MIN, most = u64::MAX, part = 0.1, none = f64::NAN, large = 1_i128);
    tracing::info!(error = &io::Error::other("it\u{1}") as &(dyn std::error::Error + 'static), "é");
}

#[test]
fn lines_are_those_of_library() {
    let own: [Lines; 2] = Default::default();
    let library: [Lines; 2] = Default::default();
    let json = || fmt::layer().json().flatten_event(true).with_current_span(false);
    let lines = |format| fmt::layer().fmt_fields(JsonFields).event_format(format);
    let layers = vec![
        json().with_writer(library[0].clone()).boxed(),
        json().with_target(false).with_span_list(false).with_writer(library[1].clone()).boxed(),
        lines(JsonLines::of_log()).with_writer(own[0].clone()).boxed(),
        lines(JsonLines::of_trail()).with_writer(own[1].clone()).boxed(),
    ];
    let subscriber = Registry::default().with(layers);
    tracing::subscriber::with_default(subscriber, write_events);
    let (log, expected) = (own[0].take(), library[0].take());
    assert_eq!(log.len(), 4);
    for (line, expected) in log.iter().zip(&expected) {
        let (line, expected): (Value, Value) =
            (serde_json::from_str(line).unwrap(), serde_json::from_str(expected).unwrap());
        assert_eq!(line, expected);
    }
    assert_eq!(own[1].take(), library[1].take());
}
