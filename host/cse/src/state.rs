//! The state that requests use.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};

use crate::attempts::Attempts;
use crate::awaited_resources::AwaitedResources;
use crate::channel_requests::ChannelRequests;
use crate::error::Refusal;
use crate::receipts::Receipts;
use crate::retries::Retries;
use crate::settings::Settings;
use crate::store::polling_queues::PollingQueues;
use crate::store::{Store, StoreError};

/// Returns whether another component stores the notifications of the AE with this AE-ID-Stem.
pub(crate) type StoresFor = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// The state of a CSE.
pub(crate) struct State {
    /// Resources.
    pub(crate) store: Store,
    /// Settings.
    pub(crate) settings: Settings,
    /// Queues of the polling channels.
    pub(crate) queues: Arc<PollingQueues>,
    /// Responses to notifications that are not stored yet.
    pub(crate) receipts: Arc<Receipts>,
    /// Returns whether another component stores the notifications of an AE that are sent over its own
    /// connection.
    pub(crate) stores_for: OnceLock<StoresFor>,
    /// Attempts to access resources that were not reported yet.
    pub(crate) attempts: Attempts,
    /// Resources that requests wait for.
    pub(crate) awaited: Arc<AwaitedResources>,
    /// Requests in polling channels whose responses are awaited.
    pub(crate) channel_requests: Arc<ChannelRequests>,
    /// Notifications that no target has received yet.
    pub(crate) retries: Arc<Retries>,
    /// Length of the file after its last compaction, as in the store, or 0.
    pub(crate) compacted_length: AtomicU64,
}

impl State {
    /// Returns whether another component stores notifications for this destination.
    pub(crate) fn is_stored_elsewhere(&self, ae: &str) -> bool {
        self.stores_for.get().is_some_and(|stores_for| stores_for(ae))
    }

    /// Makes the next access reopen the store after an error, if that can help.
    pub(crate) fn suspect_store(&self, error: &StoreError) {
        match error {
            // Reopening would not change the result.
            StoreError::Corrupt(_) | StoreError::Stopped(_) => {}
            StoreError::File(error) if error.is_paused() => {}
            // The writer that flushed has reported it.
            StoreError::Flush(_) => {}
            _ => self.store.suspect(),
        }
    }

    /// Creates the response that refuses a request, and logs a failure of the store.
    pub(crate) fn refuse(
        &self,
        request: &RequestPrimitive,
        refusal: &Refusal,
    ) -> ResponsePrimitive {
        if let Refusal::Store(StoreError::Stopped(stop)) = refusal {
            let (operation, to) = (request.operation.name(), &request.to);
            tracing::debug!(event = "request.stopped", operation, %to, "request stopped: {stop}");
        } else if let Refusal::Store(error) = refusal {
            let (operation, to) = (request.operation.name(), &request.to);
            tracing::error!(event = "cse.store-failed", operation, %to,
                "CSE store failed: {error}");
            self.suspect_store(error);
        }
        // The refusal of an unsupported release version has the latest supported one.
        let release = match refusal {
            Refusal::Release(_) => self.settings.release_versions.last(),
            _ => request.release.as_ref(),
        };
        let release = release.map(String::as_str);
        let why = refusal.to_string();
        ResponsePrimitive::refusal(&request.request_id, release, refusal.rsc(), &why)
    }
}
