//! Announcement of resources to the registrar CSE (TS-0001 clause 10.2.13): one request after the
//! other, in the background, with turns of the owners. A request that asks for an announcement waits for it.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use saegis_cse::{
    AnnouncementOutcome, AnnouncementTask, EmbeddedCse, Position, StoreError, Synchronization,
};
use saegis_onem2m::id::CredentialId;
use saegis_onem2m::primitive::{Operation, RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::target::Target;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::backend::embedded::announcement_failures::AnnouncementFailures;
use crate::peer_cse::{NoAnswer, PeerCse, RegistrationState};
use crate::session::usage::{COMMIT_COST, Usage, metered};

/// Interval between checks for announcements that are due.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Minimum and maximum delay after the registrar CSE could not be reached.
const MIN_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(120);

/// Maximum time that a request waits for its announcement.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// Maximum number of found announcements that are compared with the original.
const MAX_CANDIDATES: usize = 8;

/// Result contents of the requests: the response must be small, whatever was announced.
const NOTHING: &str = "0";
const MODIFIED_ATTRIBUTES: &str = "9";

/// Error of a task, which is repeated.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the registrar CSE does not respond: {0}")]
    NoAnswer(#[from] NoAnswer),
    #[error("the store: {0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Task(#[from] tokio::task::JoinError),
}

impl Failure {
    /// Returns whether other tasks would fail as well.
    fn concerns_all(&self) -> bool {
        match self {
            Self::NoAnswer(NoAnswer::Unreachable(_)) => true,
            Self::NoAnswer(NoAnswer::Failed(_) | NoAnswer::Late) | Self::Task(_) => false,
            Self::Store(error) => !matches!(error, StoreError::Corrupt(_)),
        }
    }
}

/// The announcements to the registrar CSE.
pub struct Announcer {
    cse: Arc<EmbeddedCse>,
    registrar: Arc<PeerCse>,
    usage: Arc<Usage>,
    requested: Notify,
    progress: Notify,
    is_down: AtomicBool,
}

impl Announcer {
    /// Creates the announcer of a CSE with a registrar CSE.
    pub fn new(cse: Arc<EmbeddedCse>, registrar: Arc<PeerCse>, usage: Arc<Usage>) -> Self {
        Self {
            cse,
            registrar,
            usage,
            requested: Notify::new(),
            progress: Notify::new(),
            is_down: AtomicBool::new(false),
        }
    }

    /// Sends the announcements that are due, as long as the gateway runs.
    pub async fn run(&self) {
        let mut backoff = MIN_BACKOFF;
        let mut failures = AnnouncementFailures::default();
        let mut last_owner = String::new();
        loop {
            if !self.is_registered() {
                tokio::time::sleep(MIN_BACKOFF).await;
                continue;
            }
            let performed = self.perform_next(&mut last_owner, &mut failures).await;
            self.is_down.store(is_down(&performed, &failures), Ordering::Relaxed);
            match performed {
                Ok(true) => {
                    backoff = MIN_BACKOFF;
                    self.progress.notify_waiters();
                    if failures.are_of_several() {
                        tokio::time::sleep(MIN_BACKOFF).await;
                    }
                }
                Ok(false) => {
                    let _ = tokio::time::timeout(CHECK_INTERVAL, self.requested.notified()).await;
                }
                Err(error) => {
                    self.progress.notify_waiters();
                    let cse = &self.registrar.peer.cse_id;
                    tracing::warn!(event = "announcement.delayed", %cse,
                        "announcements to the CSE {cse} are delayed: {error}; next attempt in {} s",
                        backoff.as_secs());
                    tokio::time::sleep(backoff).await;
                    backoff = (backoff * 2).min(MAX_BACKOFF);
                }
            }
        }
    }

    /// Waits for the announcement that a request asked for, and adds its address to the response.
    pub async fn complete(&self, of: Target, response: &mut ResponsePrimitive) {
        let until = Instant::now() + MAX_WAIT;
        self.requested.notify_one();
        loop {
            let mut progress = pin!(self.progress.notified());
            progress.as_mut().enable();
            let of = of.clone();
            let status = self.blocking(move |cse| cse.announcement_status(&of, SystemTime::now()));
            let Ok(Some(status)) = status.await else { return };
            if !status.is_pending {
                return add_address(response, status.address.as_deref());
            }
            let waits = self.is_registered() && !self.is_down.load(Ordering::Relaxed);
            if !waits || tokio::time::timeout_at(until, progress).await.is_err() {
                return;
            }
        }
    }

    fn is_registered(&self) -> bool {
        matches!(self.registrar.registration.standing(), RegistrationState::Until(_))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&EmbeddedCse) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Failure> {
        let cse = self.cse.clone();
        Ok(tokio::task::spawn_blocking(move || work(&cse)).await??)
    }

    /// Performs the next task, and charges it to the owner of the resource. Returns whether there was
    /// one. A task that fails alone is set back.
    ///
    /// # Errors
    /// Returns a failure that concerns all tasks.
    async fn perform_next(
        &self,
        last_owner: &mut String,
        failures: &mut AnnouncementFailures,
    ) -> Result<bool, Failure> {
        let after = last_owner.clone();
        let next = self.blocking(move |cse| cse.next_announcement(&after, SystemTime::now()));
        let Some(task) = next.await? else { return Ok(false) };
        task.owner().clone_into(last_owner);
        let cause = task.registrant().and_then(|id| CredentialId::parse(id).ok());
        let charge = |used: Duration| {
            if let Some(cause) = &cause {
                self.usage.charge(cause, used);
            }
        };
        let performed = metered(pin!(self.perform(&task)), charge).await;
        charge(COMMIT_COST);
        match performed {
            Ok(()) => failures.end(task.id()),
            Err(error) if error.concerns_all() => return Err(error),
            Err(error) => {
                let delay = failures.add(task.id());
                let (cse, original) = (&self.registrar.peer.cse_id, task.id());
                tracing::warn!(event = "announcement.delayed", %cse, original,
                    "the announcement of {original} to the CSE {cse} is delayed: {error}; next \
                     attempt in {} s", delay.as_secs());
                self.record(&task, AnnouncementOutcome::Failed(delay)).await?;
            }
        }
        Ok(true)
    }

    async fn perform(&self, task: &AnnouncementTask) -> Result<(), Failure> {
        let outcome = match task {
            AnnouncementTask::Delete(deletion) => {
                let response = self.ask(Operation::Delete, &deletion.address, None).await?;
                match outcome_of(&response) {
                    None => AnnouncementOutcome::Gone,
                    Some(refusal) => refusal,
                }
            }
            AnnouncementTask::Synchronize(resource) => match &resource.position {
                Position::At(address) => self.update(resource, address.clone()).await?,
                Position::Below(parent) => later(self.create(task, resource, parent).await?),
                Position::BelowCse => later(self.create_below_cse(task, resource).await?),
            },
            _ => AnnouncementOutcome::Delayed,
        };
        self.record(task, outcome).await
    }

    async fn record(
        &self,
        task: &AnnouncementTask,
        outcome: AnnouncementOutcome,
    ) -> Result<(), Failure> {
        let task = task.clone();
        self.blocking(move |cse| cse.announcement_outcome(&task, &outcome, SystemTime::now())).await
    }

    async fn update(
        &self,
        resource: &Synchronization,
        address: String,
    ) -> Result<AnnouncementOutcome, Failure> {
        for representation in [Some(&resource.representation), resource.policies.as_ref()] {
            let Some(representation) = representation else { continue };
            let content = (resource.kind, representation.clone());
            let response = self.ask(Operation::Update, &address, Some(content)).await?;
            if let Some(refusal) = outcome_of(&response) {
                report(resource, &response);
                return Ok(refusal);
            }
        }
        Ok(AnnouncementOutcome::Done(address))
    }

    /// Creates an announcement below the `<CSEBaseAnnc>` of this CSE, which is created first if it
    /// does not exist.
    async fn create_below_cse(
        &self,
        task: &AnnouncementTask,
        resource: &Synchronization,
    ) -> Result<AnnouncementOutcome, Failure> {
        let registrar = self.registrar.peer.cse_id.to_string();
        let known = self.blocking(move |cse| cse.own_announcement_at(&registrar)).await?;
        if let Some(parent) = known {
            let outcome = self.create(task, resource, &parent).await?;
            if outcome != AnnouncementOutcome::Gone {
                return Ok(outcome);
            }
        }
        let kind = ResourceType::CseBaseAnnc;
        let own = self.cse.own_announcement(SystemTime::now());
        let link = own.get(kind.root()).and_then(|own| own.get("lnk")).cloned();
        let link = link.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
        let response = self.ask(Operation::Create, "-", Some((kind, own))).await?;
        let parent = match response.rsc {
            Rsc::Conflict => self.find("-", kind, &link).await?,
            _ => outcome_of(&response).is_none().then(|| self.address(&response)).flatten(),
        };
        let Some(parent) = parent else {
            return Ok(outcome_of(&response).unwrap_or(AnnouncementOutcome::Delayed));
        };
        let own = parent.clone();
        self.blocking(move |cse| cse.set_own_announcement(&own)).await?;
        self.create(task, resource, &parent).await
    }

    async fn create(
        &self,
        task: &AnnouncementTask,
        resource: &Synchronization,
        parent: &str,
    ) -> Result<AnnouncementOutcome, Failure> {
        if resource.may_exist
            && let Some(address) = self.find(parent, resource.kind, &resource.link).await?
        {
            return Ok(AnnouncementOutcome::Found(address));
        }
        self.record(task, AnnouncementOutcome::Attempted).await?;
        let content = (resource.kind, resource.representation.clone());
        let response = self.ask(Operation::Create, parent, Some(content)).await?;
        Ok(match (outcome_of(&response), self.address(&response)) {
            (None, Some(address)) => AnnouncementOutcome::Done(address),
            (None, None) => AnnouncementOutcome::Delayed,
            (Some(refusal), _) => {
                report(resource, &response);
                refusal
            }
        })
    }

    /// Returns the address of the announcement of an original, if it exists directly below a resource.
    async fn find(
        &self,
        parent: &str,
        kind: ResourceType,
        link: &str,
    ) -> Result<Option<String>, Failure> {
        let ty = kind.number().to_string();
        let filter = [("fu", "1"), ("ty", &ty), ("lnk", link), ("lvl", "1")];
        let response = self.retrieve(parent, &filter).await?;
        let list = response.get("m2m:uril").and_then(Value::as_array).into_iter().flatten();
        let own = format!("{}/", self.registrar.peer.cse_id);
        for found in list.filter_map(Value::as_str).take(MAX_CANDIDATES) {
            let address = match found.starts_with('/') {
                true => found.to_owned(),
                false => format!("{own}{found}"),
            };
            // A CSE that ignores a condition returns other announcements as well.
            if address.starts_with(&own) && self.link_at(&address).await?.as_deref() == Some(link) {
                return Ok(Some(address));
            }
        }
        Ok(None)
    }

    /// Returns the address of the original of the announcement at an address.
    async fn link_at(&self, address: &str) -> Result<Option<String>, Failure> {
        let response = self.retrieve(address, &[("atrl", "lnk")]).await?;
        let announcement = response.as_object().and_then(|members| members.values().next());
        let link = announcement.and_then(|announcement| announcement.get("lnk"));
        Ok(link.and_then(Value::as_str).map(ToOwned::to_owned))
    }

    /// Retrieves a resource, or discovers resources below it.
    async fn retrieve(&self, address: &str, options: &[(&str, &str)]) -> Result<Value, Failure> {
        let mut request = self.request(Operation::Retrieve, address, None)?;
        let options = options.iter();
        request.options =
            options.map(|(name, value)| ((*name).into(), vec![(*value).into()])).collect();
        let response = self.send(&request).await?;
        let content = response.content.as_deref().unwrap_or_default();
        Ok(serde_json::from_slice(content).unwrap_or_default())
    }

    /// Returns the address of the resource that a response represents.
    fn address(&self, response: &ResponsePrimitive) -> Option<String> {
        let content: Value = serde_json::from_slice(response.content.as_deref()?).ok()?;
        let ri = content.as_object()?.values().next()?.get("ri")?.as_str()?.to_owned();
        Some(format!("{}/{ri}", self.registrar.peer.cse_id))
    }

    fn request(
        &self,
        operation: Operation,
        address: &str,
        content: Option<(ResourceType, Value)>,
    ) -> Result<RequestPrimitive, NoAnswer> {
        // An announcement may be at a former registrar CSE.
        let own = self.registrar.own_request(operation, "-".into(), content)?;
        if address == "-" {
            return Ok(own);
        }
        let to = Target::from_address(address).map_err(|e| NoAnswer::Failed(e.to_string()))?;
        Ok(RequestPrimitive { to, ..own })
    }

    async fn send(&self, request: &RequestPrimitive) -> Result<ResponsePrimitive, NoAnswer> {
        let timeout = Duration::from_secs(self.registrar.peer.timeout_seconds);
        self.registrar.ask(request, timeout).await
    }

    async fn ask(
        &self,
        operation: Operation,
        address: &str,
        content: Option<(ResourceType, Value)>,
    ) -> Result<ResponsePrimitive, Failure> {
        let mut request = self.request(operation, address, content)?;
        let result = match operation {
            Operation::Create => MODIFIED_ATTRIBUTES,
            _ => NOTHING,
        };
        request.options.push(("rcn".into(), vec![result.into()]));
        Ok(self.send(&request).await?)
    }
}

/// Returns whether the registrar CSE is probably down, so that a request does not wait for its
/// announcement. If nothing is left to announce, the next announcement is a new attempt.
fn is_down(performed: &Result<bool, Failure>, failures: &AnnouncementFailures) -> bool {
    match performed {
        Ok(true) => failures.are_of_several(),
        Ok(false) => false,
        Err(_) => true,
    }
}

/// Logs a refusal of the registrar CSE, except that the announcement does not exist any more.
fn report(resource: &Synchronization, response: &ResponsePrimitive) {
    if response.rsc == Rsc::NotFound {
        return;
    }
    tracing::warn!(
        event = "announcement.refused",
        original = resource.link,
        rsc = response.rsc.code(),
        "the registrar CSE rejected the announcement of {}: {}",
        resource.link,
        response.reason_or_none()
    );
}

/// Returns the outcome of a request that was not successful.
fn outcome_of(response: &ResponsePrimitive) -> Option<AnnouncementOutcome> {
    match response.rsc {
        rsc if rsc.is_success() => None,
        Rsc::NotFound => Some(AnnouncementOutcome::Gone),
        Rsc::BadRequest
        | Rsc::ContentsUnacceptable
        | Rsc::InvalidChildResourceType
        | Rsc::NotImplemented
        | Rsc::OperationNotAllowed
        | Rsc::SpecializationSchemaNotFound => Some(AnnouncementOutcome::Refused),
        _ => Some(AnnouncementOutcome::Delayed),
    }
}

/// Returns the outcome of a creation, which is repeated later if its parent does not exist.
fn later(outcome: AnnouncementOutcome) -> AnnouncementOutcome {
    match outcome {
        AnnouncementOutcome::Gone => AnnouncementOutcome::Delayed,
        other => other,
    }
}

/// Returns whether a request asks for an announcement, or ends one.
pub fn announces(request: &RequestPrimitive) -> bool {
    let Some(content) = &request.content else { return false };
    if !matches!(request.operation, Operation::Create | Operation::Update)
        || !content.bytes().windows(4).any(|part| part == b"\"at\"")
    {
        return false;
    }
    let content: Value = serde_json::from_slice(content.bytes()).unwrap_or_default();
    let mut members = content.as_object().into_iter().flat_map(|members| members.values());
    members.any(|attributes| attributes.get("at").is_some())
}

/// Adds the address of the announcement to the representation in a response.
fn add_address(response: &mut ResponsePrimitive, address: Option<&str>) {
    let (Some(address), Some(content)) = (address, &response.content) else { return };
    let Ok(Value::Object(mut content)) = serde_json::from_slice::<Value>(content) else { return };
    let representation = content
        .iter_mut()
        .map(|(root, value)| match root.as_str() {
            "m2m:rce" => value.as_object_mut().and_then(|rce| {
                rce.iter_mut().find(|(name, _)| *name != "uri").map(|(_, value)| value)
            }),
            _ => Some(value),
        })
        .next()
        .flatten();
    if let Some(Value::Object(attributes)) = representation {
        attributes.insert("at".into(), json!([address]));
        response.content = Some(Value::Object(content).to_string().into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registrar_is_tried_again_when_nothing_is_left() {
        let unreachable = || Failure::NoAnswer(NoAnswer::Unreachable("refused".into()));
        let mut failures = AnnouncementFailures::default();
        assert!(is_down(&Err(unreachable()), &failures));
        assert!(!is_down(&Ok(true), &failures));
        failures.add("one");
        failures.add("two");
        assert!(is_down(&Ok(true), &failures));
        // The resources were deleted before their announcements were repeated.
        assert!(!is_down(&Ok(false), &failures));
    }
}
