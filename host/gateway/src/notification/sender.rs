//! Sends notifications to AEs, of the embedded CSE and of the upstream CSE. Uses HTTP if a rule
//! allows the address, a security association with the AE (HTTP or CoAP), or the registrar CSE of
//! the AE.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use saegis_cse::{Destination, NamedBy, Notification};
use saegis_onem2m::coap::write_notification as write_coap_notification;
use saegis_onem2m::http::write_notification;
use saegis_onem2m::id::{CredentialId, OriginatorId};
use saegis_onem2m::point_of_access::Scheme;
use saegis_onem2m::primitive::{Content, Operation, RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::target::Target;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use crate::notification::ae_channels::AeChannels;
use crate::notification::ae_connections::Aes;
use crate::notification::failure::Failure;
use crate::notification::fair_limiter::FairLimiter;
use crate::notification::resolver::Targets;
use crate::notification::response::{read, read_status};
use crate::peer_cse::PeerCses;
use crate::session::durable_sessions::Durable;
use saegis_onem2m::routing::cse_of;

/// Maximum number of active batches of notifications: in total, and of one AE.
const MAX_CONCURRENT: usize = 256;
const MAX_PER_NAMER: usize = 32;

/// Timeout of a batch, as a multiple of the timeout for a response, for any number of
/// notifications.
const BATCH: u32 = 8;

/// Sender of notifications.
pub struct Notifier {
    targets: Arc<Targets>,
    aes: Arc<Aes>,
    channels: Arc<AeChannels>,
    cses: Arc<PeerCses>,
    own: saegis_onem2m::cse::Cse,
    timeout: Duration,
    batches: Arc<FairLimiter<NamedBy>>,
}

impl Notifier {
    /// Creates a sender.
    pub fn new(
        own: saegis_onem2m::cse::Cse,
        targets: Arc<Targets>,
        (aes, channels): (Arc<Aes>, Arc<AeChannels>),
        cses: Arc<PeerCses>,
        timeout: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            targets,
            aes,
            channels,
            cses,
            own,
            timeout,
            batches: FairLimiter::new(MAX_CONCURRENT, MAX_PER_NAMER),
        })
    }

    /// Sends a notification that a request of `cause` has caused, and waits for the response.
    ///
    /// # Errors
    /// Fails if no rule allows the address or no valid response is received. The failure is logged.
    pub async fn ask(
        &self,
        notification: &Notification,
        cause: &CredentialId,
    ) -> Result<ResponsePrimitive, Failure> {
        let asked = tokio::time::timeout(self.timeout, self.send(notification, cause)).await;
        let failed = |why: &Failure| {
            tracing::warn!(
                event = "notification.failed",
                to = %notification.to,
                named_by = %notification.named_by,
                about = notification.about,
                "cannot send a notification: {why}"
            );
        };
        let response = asked.unwrap_or(Err(Failure::Late)).inspect_err(failed);
        match &response {
            Ok(_) => notification.receipt.responded(),
            Err(why) if why.is_final() => notification.receipt.settled(),
            Err(_) if notification.receipt.is_stored() => {
                match self.is_revoked(&notification.named_by).await {
                    true => notification.receipt.settled(),
                    false => notification.receipt.failed(),
                }
            }
            Err(_) => {}
        }
        response
    }

    /// Returns whether policy no longer has the credential of an AE.
    async fn is_revoked(&self, named_by: &NamedBy) -> bool {
        let NamedBy::Ae { stem, .. } = named_by else { return false };
        let Ok(holder) = self.holder(stem, registrant(named_by)) else { return false };
        self.aes.is_revoked_now(&holder).await
    }

    /// Returns whether the notifications for an AE are stored for a session that outlives its
    /// connections.
    pub fn stores_for(&self, ae: &str) -> bool {
        self.holder(ae, None).is_ok_and(|holder| self.channels.stores_for(&holder))
    }

    /// Returns the timeout for a response.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Returns the maximum time until the outcome of a notification is reported.
    pub fn outcome_timeout(&self) -> Duration {
        BATCH * self.timeout
    }

    /// Checks that the rules allow a destination, and that there is a route to it.
    ///
    /// # Errors
    /// Fails if no rule allows the address, or there is no route to the CSE.
    pub async fn check(&self, to: &Destination) -> Result<(), Failure> {
        match to {
            Destination::PointOfAccess(there) => {
                let found = self.targets.address(there.uri());
                let found = tokio::time::timeout(self.timeout, found).await;
                found.unwrap_or(Err(Failure::Late)).map(|_| ())
            }
            Destination::Connection(ae) => match self.aes.holder(ae) {
                Ok(holder) if self.channels.is_open(&holder) => Ok(()),
                _ => Err(Failure::NotConnected),
            },
            Destination::Elsewhere(to) => {
                let at = cse_of(&self.own, to).ok_or(Failure::NoWay)?;
                self.cses.route_to(at, None).map(|_| ()).ok_or(Failure::NoWay)
            }
            Destination::PollingChannel { .. } => Ok(()),
        }
    }

    /// Sends notifications that a request of `cause` has caused, in the background. Those of one AE are
    /// sent one after the other. Waits until those for sessions that outlive their connections are on
    /// disk.
    pub async fn send_all(
        self: &Arc<Self>,
        notifications: Vec<Notification>,
        cause: &CredentialId,
    ) {
        for durable in self.start_all(notifications, cause) {
            // A failure is logged, and the notification waits in memory.
            durable.wait().await;
        }
    }

    /// Sends notifications like [`send_all`](Self::send_all), and waits for nothing.
    pub fn send_in_background(
        self: &Arc<Self>,
        notifications: Vec<Notification>,
        cause: &CredentialId,
    ) {
        drop(self.start_all(notifications, cause));
    }

    fn start_all(
        self: &Arc<Self>,
        notifications: Vec<Notification>,
        cause: &CredentialId,
    ) -> Vec<Durable> {
        let mut batches: Vec<Vec<Notification>> = Vec::new();
        let mut stored = Vec::new();
        for notification in notifications {
            let notification = match self.send_over_connection(notification, cause) {
                Err(notification) => *notification,
                Ok(durable) => {
                    stored.extend(durable);
                    continue;
                }
            };
            let by = |batch: &&mut Vec<Notification>| {
                batch.first().is_some_and(|first| first.named_by == notification.named_by)
            };
            match batches.iter_mut().find(by) {
                Some(batch) => batch.push(notification),
                None => batches.push(vec![notification]),
            }
        }
        batches.into_iter().for_each(|batch| self.send_batch(batch, cause.clone()));
        stored
    }

    /// Has a notification that goes over the AE's own connection sent when that is open, and returns
    /// when it is durable.
    ///
    /// # Errors
    /// Returns all other notifications.
    pub fn send_over_connection(
        &self,
        notification: Notification,
        cause: &CredentialId,
    ) -> Result<Option<Durable>, Box<Notification>> {
        let Destination::Connection(ae) = &notification.to else {
            return Err(Box::new(notification));
        };
        let (ae, about) = (ae.clone(), notification.about.clone());
        let why = match self.holder(&ae, registrant(&notification.named_by)) {
            Ok(holder) => return Ok(self.channels.send((&holder, cause), &ae, notification)),
            Err(why) => why,
        };
        tracing::warn!(
            event = "notification.failed",
            to = ae,
            about,
            "cannot send a notification: {why}"
        );
        if why.is_final() {
            notification.receipt.settled();
        } else {
            notification.receipt.failed();
        }
        Ok(None)
    }

    /// Returns the credential of a registered AE. It must be the registrant, if there is one.
    fn holder(&self, stem: &str, registrant: Option<&str>) -> Result<CredentialId, Failure> {
        // After a restart, an AE may have a session before it connects.
        let in_session = |why| self.channels.holder_of_session(stem, registrant).ok_or(why);
        let holder = self.aes.holder(stem).or_else(in_session)?;
        match registrant {
            Some(registrant) if holder.to_string() != registrant => Err(Failure::OtherRegistration),
            _ => Ok(holder),
        }
    }

    fn send_batch(self: &Arc<Self>, batch: Vec<Notification>, cause: CredentialId) {
        let Some(named_by) = batch.first().map(|first| first.named_by.clone()) else { return };
        let Some(permit) = self.batches.begin(by(&named_by)) else {
            tracing::warn!(
                event = "notification.dropped",
                notifications = batch.len(),
                %named_by,
                "dropped notifications: too many are being sent"
            );
            batch.iter().for_each(|notification| notification.receipt.failed());
            return;
        };
        let notifier = self.clone();
        tokio::spawn(async move {
            let mut sent = 0;
            let all = async {
                for notification in &batch {
                    // The receipt takes the result.
                    let _ = notifier.ask(notification, &cause).await;
                    sent += 1;
                }
            };
            let in_time = tokio::time::timeout(notifier.timeout * BATCH, all);
            let is_cut = tokio::select! {
                sent = in_time => sent.is_err(),
                () = permit.displaced() => true,
            };
            if is_cut {
                tracing::warn!(
                    event = "notification.dropped",
                    notifications = batch.len() - sent,
                    %named_by,
                    "dropped notifications: the batch timed out"
                );
                batch.iter().skip(sent).for_each(|notification| notification.receipt.failed());
            }
        });
    }

    async fn send(
        &self,
        notification: &Notification,
        cause: &CredentialId,
    ) -> Result<ResponsePrimitive, Failure> {
        let holder = match &notification.named_by {
            NamedBy::Ae { stem, registrant } => Some(self.holder(stem, registrant.as_deref())),
            _ => None,
        };
        if let (NamedBy::Ae { stem, .. }, Some(Ok(holder))) = (&notification.named_by, &holder)
            && self.channels.takes(holder, &notification.to)
        {
            let response = self.channels.ask((holder, cause), stem, notification).await?;
            return answered_by(response, |from| is_of(&self.own, from, stem));
        }
        let there = match &notification.to {
            Destination::Connection(_) | Destination::PollingChannel { .. } => {
                return Err(Failure::NotConnected);
            }
            Destination::Elsewhere(to) => return self.by_way_of_its_cse(notification, to).await,
            Destination::PointOfAccess(there) => there,
        };
        let Notification { from, request_id, release, category, content, .. } = notification;
        let (uri, serialization) = (there.uri(), there.serialization());
        let content = serialization.from_json(content.clone());
        let content = (serialization, content.map_err(|e| Failure::NoResponse(e.to_string()))?);
        let http = |content| {
            let written = write_notification(uri, from, request_id, release, *category, content);
            written.map(|r| r.map(Full::new)).map_err(|e| Failure::NoResponse(e.to_string()))
        };
        let response = match (holder, there.scheme()) {
            (Some(Err(why @ Failure::OtherRegistration)), _) => return Err(why),
            (Some(holder), Scheme::Https) => self.aes.ask(&holder?, http(content)?).await?,
            (Some(holder), Scheme::Coaps) => {
                let written =
                    write_coap_notification(uri, from, request_id, release, *category, content);
                let written = written.map_err(|e| Failure::NoResponse(e.to_string()))?;
                self.aes.ask_over_coap(&holder?, uri, written).await?
            }
            (_, Scheme::Http) => {
                // No association proves that the AE still has its credential.
                if self.is_revoked(&notification.named_by).await {
                    return Err(Failure::Revoked);
                }
                self.in_the_clear(uri, http(content)?, &notification.named_by).await?
            }
            (None, Scheme::Https | Scheme::Coaps) => return Err(Failure::NotAllowed),
        };
        match &notification.named_by {
            NamedBy::Ae { stem, .. } => answered_by(response, |from| is_of(&self.own, from, stem)),
            _ => Ok(response),
        }
    }

    /// Sends over HTTP without an association.
    async fn in_the_clear(
        &self,
        url: &Uri,
        request: http::Request<Full<bytes::Bytes>>,
        named_by: &NamedBy,
    ) -> Result<ResponsePrimitive, Failure> {
        let address = self.targets.address(url).await?;
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends with this future, or with the process.
        let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
        let (mut parts, body) = request.into_parts();
        let authority = url.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        let host = http::HeaderValue::from_str(authority);
        let host = host.map_err(|e| Failure::NoResponse(e.to_string()))?;
        parts.headers.insert(http::header::HOST, host);
        let path = parts.uri.path_and_query().cloned();
        parts.uri = path.map_or_else(|| Uri::from_static("/"), Into::into);
        let request = http::Request::from_parts(parts, body);
        let response = sender.send_request(request).await?;
        match named_by {
            NamedBy::Ae { .. } => read(response).await,
            // A URL in a subscription.
            _ => read_status(&response),
        }
    }

    /// Sends through the registrar CSE of an AE.
    async fn by_way_of_its_cse(
        &self,
        notification: &Notification,
        to: &Target,
    ) -> Result<ResponsePrimitive, Failure> {
        let at = cse_of(&self.own, to).ok_or(Failure::NoWay)?;
        let remote = self.cses.route_to(at, None).ok_or(Failure::NoWay)?;
        let (from, id) = (notification.from.clone(), notification.request_id.clone());
        let content = Content::parse(notification.content.clone());
        let request = RequestPrimitive {
            release: Some(notification.release.clone()),
            content: Some(content.map_err(|e| Failure::NoResponse(e.to_string()))?),
            parameters: notification.parameters(),
            ..RequestPrimitive::own(Operation::Notify, to.clone(), from, id)
        };
        let _under_way = self.cses.enter(&request).ok_or(Failure::NoWay)?;
        Ok(remote.ask(&request, self.timeout).await?)
    }
}

/// Rejects a response whose From does not match the AE (TS-0003 clause 7.2.1, in the other
/// direction).
pub fn answered_by(
    response: ResponsePrimitive,
    is_its_own: impl Fn(&str) -> bool,
) -> Result<ResponsePrimitive, Failure> {
    match response.from.as_deref().filter(|from| !is_its_own(from)) {
        None => Ok(response),
        Some(other) => Err(Failure::InAnotherName(other.chars().take(MAX_NAME).collect())),
    }
}

/// Maximum length of a name in the log, in characters.
const MAX_NAME: usize = 100;

/// Returns whether a From identifies the AE, in any of its forms.
pub fn is_of(own: &saegis_onem2m::cse::Cse, from: &str, ae: &str) -> bool {
    let ours = |cse: &str| cse == own.cse_id.bare();
    match OriginatorId::parse(from) {
        Ok(OriginatorId::Stem(stem)) => stem == ae,
        Ok(OriginatorId::SpRelative(id)) => ae.starts_with('S') && id == ae,
        Ok(OriginatorId::SpRelativeAe { cse, stem }) => ours(cse) && stem == ae,
        Ok(OriginatorId::Absolute { sp, first, stem }) => {
            let of_our_sp = own.service_provider.as_deref();
            let of_our_sp = of_our_sp.is_some_and(|our| our.eq_ignore_ascii_case(sp));
            of_our_sp
                && match stem {
                    Some(stem) => ours(first) && stem == ae,
                    None => ae.starts_with('S') && first == ae,
                }
        }
        Ok(
            OriginatorId::AssignByRegistrar
            | OriginatorId::AssignByServiceProvider
            | OriginatorId::SpRelativeAssign { .. },
        )
        | Err(_) => false,
    }
}

/// Returns the credential to which the AE-ID of an AE must still belong.
fn registrant(named_by: &NamedBy) -> Option<&str> {
    match named_by {
        NamedBy::Ae { registrant, .. } => registrant.as_deref(),
        _ => None,
    }
}

/// Returns the key of the limit: all AEs behind a CSE share that of the CSE.
fn by(named_by: &NamedBy) -> NamedBy {
    match named_by {
        NamedBy::Subscriber(from) => match from.strip_prefix('/').and_then(|f| f.split_once('/')) {
            Some((cse, _)) => NamedBy::Subscriber(format!("/{cse}")),
            None => named_by.clone(),
        },
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_reason_hides_network_details() {
        let not_found = || std::io::Error::other("failed to lookup address information");
        let told: Vec<_> = [Failure::NotAllowed, Failure::NoSuchName(not_found()), Failure::Busy]
            .iter()
            .map(Failure::for_originator)
            .collect();
        assert!(told.iter().all(|why| why == &told[0] && !why.contains("lookup")), "{told:?}");
        let refused = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "10.0.0.1:22");
        assert!(!Failure::from(refused).for_originator().contains("10.0"));
    }
}
