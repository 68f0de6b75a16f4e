//! `saegis ae watch`: subscribes to a resource, and prints each notification.

use saegis_client::Session;
use saegis_onem2m::primitive::{Operation, RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::config::AeConfig;
use super::error::{AeError, broken};
use super::request::{ask, container_address, text};

/// Changes that are notified: an update, a deletion, and a new child.
const EVENTS: [u8; 3] = [1, 2, 3];

/// Subscribes to a resource, prints each notification until interrupted, and deletes the subscription.
pub(super) async fn watch(
    session: &mut Session,
    config: &AeConfig,
    resource: &str,
    as_json: bool,
) -> Result<(), AeError> {
    // Listens from the start on. A listener for each wait would miss an interrupt between two waits.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| broken(e.to_string()))?;
    let own = format!("-/{}", config.ae.resource_name());
    let to = container_address(&own, resource);
    let kind = ResourceType::Subscription;
    let body = json!({ kind.root(): {
        "nu": [config.ae.ae_id.as_str()],
        "enc": { "net": EVENTS },
    }});
    let created = ask(session, Operation::Create, &to, Some((kind, body))).await?;
    let subscription = format!("{to}/{}", text(&created.content, kind.root(), "rn"));
    if !as_json {
        crate::output::print(&format!("watching {to}; interrupt to stop"));
    }
    loop {
        let request = tokio::select! {
            request = session.request_of_registrar() => request?,
            _ = interrupt.recv() => break,
        };
        let (rsc, shown) = received(&request, as_json);
        if let Some(shown) = shown {
            crate::output::print(&shown);
        }
        session.respond(&ResponsePrimitive::to(&request, rsc)).await?;
    }
    ask(session, Operation::Delete, &subscription, None).await?;
    Ok(())
}

/// The response to a request of the registrar, and what is printed of it.
fn received(request: &RequestPrimitive, as_json: bool) -> (Rsc, Option<String>) {
    if request.operation != Operation::Notify {
        return (Rsc::OperationNotAllowed, None);
    }
    let content = request.content.as_ref();
    let content = content.and_then(|content| serde_json::from_slice(content.bytes()).ok());
    let content: Value = content.unwrap_or_default();
    if as_json {
        return (Rsc::Ok, Some(content.to_string()));
    }
    let representation = content.pointer("/m2m:sgn/nev/rep");
    let value = representation.and_then(|rep| rep.pointer("/m2m:cin/con"));
    let shown = match (value, representation) {
        (Some(Value::String(value)), _) => value.clone(),
        (Some(other), _) | (None, Some(other)) => other.to_string(),
        (None, None) => content.to_string(),
    };
    (Rsc::Ok, Some(shown))
}
