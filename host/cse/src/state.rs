//! The state that requests use.

use std::sync::Arc;

use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};

use crate::error::Refusal;
use crate::settings::Settings;
use crate::store::polling_queues::PollingQueues;
use crate::store::{Store, StoreError};

/// The state of a CSE.
pub(crate) struct State {
    /// Resources.
    pub(crate) store: Store,
    /// Settings.
    pub(crate) settings: Settings,
    /// Queues of the polling channels.
    pub(crate) queues: Arc<PollingQueues>,
}

impl State {
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
