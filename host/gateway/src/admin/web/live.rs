//! Streams of updates to open pages, as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Map, Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, broadcast};

use super::chart::{CHARTS, number_of};
use super::context::Context;
use super::guard::{Body, plain};
use super::health;
use super::history;
use super::text::visible;
use crate::admin::web_access::Session;

/// Interval between two checks whether something has changed, and whether a session has ended.
const INTERVAL: Duration = Duration::from_secs(2);

/// A stream of one page.
struct Stream {
    context: Arc<Context>,
    session: Arc<Session>,
    updates: broadcast::Receiver<Bytes>,
    /// The first update.
    first: Option<Bytes>,
    _permit: OwnedSemaphorePermit,
}

impl Stream {
    /// Returns the next update. Returns `None` after the end of the session.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        loop {
            let update = tokio::time::timeout(INTERVAL, self.updates.recv()).await;
            if !self.context.access.is_active(&self.session) {
                return None;
            }
            match update {
                Ok(Ok(update)) => return Some(update),
                Ok(Err(RecvError::Closed)) => return None,
                Ok(Err(RecvError::Lagged(_))) | Err(_) => {}
            }
        }
    }
}

/// Responds with a stream of updates until the session ends.
pub fn respond(context: &Arc<Context>, session: Arc<Session>) -> Response<Body> {
    let Ok(permit) = context.updates.permits.clone().try_acquire_owned() else {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "too many open pages\n");
    };
    let stream = Stream {
        updates: context.updates.sender.subscribe(),
        first: Some(update(context)),
        context: context.clone(),
        session,
        _permit: permit,
    };
    let frames = stream::unfold(stream, |mut stream| async move {
        let update = stream.next().await?;
        Some((Ok::<_, Infallible>(Frame::data(update)), stream))
    });
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

/// Samples the counters, and sends updates to the open pages.
pub async fn run(context: Arc<Context>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let per_sample = history::INTERVAL.as_secs() / INTERVAL.as_secs();
    let mut sent = None;
    for number in 0_u64.. {
        ticks.tick().await;
        let gateway = &context.commands.gateway;
        context.access.tidy();
        context.history.in_force_since(gateway.policy.current().number);
        let is_sampled = number.is_multiple_of(per_sample);
        if is_sampled {
            context.history.add(&context.commands.totals(), gateway.associations.count());
        }
        if context.updates.sender.receiver_count() == 0 {
            continue;
        }
        let state = Some(state(&context));
        if is_sampled || state != sent {
            // The pages may have been closed meanwhile.
            let _ = context.updates.sender.send(update(&context));
            sent = state;
        }
    }
}

/// State of the gateway as attributes and texts of the page.
#[derive(PartialEq)]
struct State {
    state: Map<String, Value>,
    text: Map<String, Value>,
}

fn state(context: &Context) -> State {
    let health = health::of(context);
    let (mut state, mut text) = (Map::new(), Map::new());
    for item in &health.items {
        state.insert(item.key.into(), item.state().into());
        text.insert(item.key.into(), visible(&item.text).into());
    }
    let faults: Vec<_> = health.faults.iter().map(|fault| visible(fault)).collect();
    text.insert("faults".into(), faults.join("\n").into());
    State { state, text }
}

/// Returns an update with the whole state.
fn update(context: &Context) -> Bytes {
    let (State { state, mut text }, samples) = (state(context), context.history.samples());
    let latest = samples.last().copied().unwrap_or_default();
    let mut points = Map::new();
    for chart in &CHARTS {
        for line in chart.lines {
            text.insert(line.key.into(), number_of((line.value)(&latest)).into());
        }
        let of_lines = chart.points(&samples).into_iter();
        points.extend(of_lines.map(|(key, points)| (key.to_string(), points.into())));
    }
    let update = json!({ "state": state, "text": text, "points": points });
    Bytes::from(format!("event: update\ndata: {update}\n\n"))
}
