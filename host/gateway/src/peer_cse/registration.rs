//! Registration of this CSE with another (TS-0001 clause 10.2.2.7): created, renewed before it
//! expires, and recreated after it is lost.

use std::time::{Duration, SystemTime};

use rand::RngExt;
use saegis_onem2m::primitive::Operation;
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::timestamp;
use serde_json::{Value, json};

use super::registration_state::RegistrationState;
use crate::peer_cse::{NoAnswer, PeerCse};
use saegis_onem2m::cse::Cse;

/// Minimum and maximum delay after a failed registration.
const MIN_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(120);

/// Error of a registration.
#[derive(Debug, thiserror::Error)]
enum NotRegistered {
    #[error("{0}")]
    NoAnswer(#[from] NoAnswer),
    #[error("refused with {rsc}: {why}")]
    Refused { rsc: Rsc, why: String },
}

/// Keeps a CSE registered with another, and reports each change to `tell`.
pub async fn keep(remote: &PeerCse, own: &Cse, tell: impl Fn(bool)) {
    tell(false);
    let mut pause = MIN_BACKOFF;
    let mut registered = false;
    loop {
        let done = if registered { renew(remote, own).await } else { register(remote, own).await };
        match done {
            Ok(until) => {
                let fresh = !matches!(remote.registration.standing(), RegistrationState::Until(_));
                remote.registration.set(RegistrationState::Until(until));
                tell(true);
                if fresh {
                    let cse = &remote.peer.cse_id;
                    tracing::info!(event = "peer.registered", %cse,
                        until = timestamp::format(until), "registered with the CSE {cse}");
                }
                (registered, pause) = (true, MIN_BACKOFF);
                let left = until.duration_since(SystemTime::now()).unwrap_or_default();
                // Leaves time for several attempts before it expires.
                tokio::time::sleep(left.mul_f64(2.0 / 3.0).max(MIN_BACKOFF)).await;
            }
            // The registration was deleted at the peer: recreates it at once.
            Err(NotRegistered::Refused { rsc: Rsc::NotFound, .. }) if registered => {
                registered = false;
            }
            Err(error) => {
                let cse = &remote.peer.cse_id;
                tracing::warn!(event = "peer.registration-failed", %cse,
                    "the registration with the CSE {cse} failed: {error}; next attempt in {} s",
                    pause.as_secs());
                let until = match remote.registration.standing() {
                    RegistrationState::Until(until) if until > SystemTime::now() => Some(until),
                    _ => None,
                };
                if until.is_none() {
                    registered = false;
                    tell(false);
                    remote.registration.set(RegistrationState::Failed(error.to_string()));
                }
                // Jitter, so that many gateways that lost a registrar do not return at the same
                // moment.
                let apart = rand::rng().random_range(0.7..1.3);
                tokio::time::sleep(pause.mul_f64(apart)).await;
                pause = (pause * 2).min(MAX_BACKOFF);
            }
        }
    }
}

async fn register(remote: &PeerCse, own: &Cse) -> Result<SystemTime, NotRegistered> {
    let id = &own.cse_id;
    let mut csr = what_changes(remote);
    if let Value::Object(members) = &mut csr {
        members.insert("rn".into(), json!(id.bare()));
        members.insert("csi".into(), json!(id.to_string()));
        members.insert("cb".into(), json!(format!("{id}/{}", own.csebase_name)));
        members.insert("cst".into(), json!(own.kind.number()));
        members.insert("srv".into(), json!(["2a", "3", "4", "5"]));
    }
    let done = ask(remote, Operation::Create, "-".into(), csr).await;
    match done {
        // A registration that an earlier run of this gateway left is updated.
        Err(NotRegistered::Refused {
            rsc: Rsc::OriginatorHasAlreadyRegistered | Rsc::Conflict,
            ..
        }) => renew(remote, own).await,
        other => other,
    }
}

async fn renew(remote: &PeerCse, own: &Cse) -> Result<SystemTime, NotRegistered> {
    let to = format!("-/{}", own.cse_id.bare());
    ask(remote, Operation::Update, to, what_changes(remote)).await
}

fn what_changes(remote: &PeerCse) -> Value {
    let lifetime = Duration::from_secs(remote.peer.registration_seconds);
    let poa = &remote.peer.point_of_access;
    let et = timestamp::format(SystemTime::now() + lifetime);
    let mut csr = json!({ "rr": !poa.is_empty(), "et": et });
    if let Value::Object(members) = &mut csr
        && !poa.is_empty()
    {
        members.insert("poa".into(), json!(poa));
    }
    csr
}

/// Requests the registration, and returns its expiration time.
async fn ask(
    remote: &PeerCse,
    operation: Operation,
    resource: String,
    csr: Value,
) -> Result<SystemTime, NotRegistered> {
    let kind = ResourceType::RemoteCse;
    let request =
        remote.own_request(operation, resource, Some((kind, json!({ kind.root(): csr }))))?;
    let timeout = Duration::from_secs(remote.peer.timeout_seconds);
    let response = remote.ask(&request, timeout).await?;
    let content: Value =
        serde_json::from_slice(response.content.as_deref().unwrap_or_default()).unwrap_or_default();
    if !response.rsc.is_success() {
        return Err(NotRegistered::Refused { rsc: response.rsc, why: response.reason_or_none() });
    }
    // The peer may have shortened it.
    let granted = content.get(kind.root()).and_then(|csr| csr.get("et")).and_then(Value::as_str);
    let granted = granted.and_then(|et| timestamp::parse(et).ok());
    let asked = SystemTime::now() + Duration::from_secs(remote.peer.registration_seconds);
    Ok(granted.map_or(asked, |granted| granted.min(asked)))
}
