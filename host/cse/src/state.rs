//! The state that requests are carried out on.

use std::sync::Arc;

use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};

use crate::error::Refusal;
use crate::settings::Settings;
use crate::store::polling_queues::PollingQueues;
use crate::store::{Store, StoreError};

/// The state of a CSE.
pub(crate) struct State {
    /// The resources.
    pub(crate) store: Store,
    /// Who the CSE is.
    pub(crate) settings: Settings,
    /// The queues of the polling channels.
    pub(crate) queues: Arc<PollingQueues>,
}

impl State {
    /// Opens the store anew before it is used again, where the error leaves that open.
    pub(crate) fn suspect_store(&self, error: &StoreError) {
        match error {
            // Opening it anew would show the same.
            StoreError::Corrupt(_) | StoreError::Stopped(_) => {}
            StoreError::File(error) if error.is_paused() => {}
            _ => self.store.suspect(),
        }
    }

    /// Returns the answer that refuses a request, and logs a failure of the store.
    pub(crate) fn refuse(
        &self,
        request: &RequestPrimitive,
        refusal: &Refusal,
    ) -> ResponsePrimitive {
        if let Refusal::Store(StoreError::Stopped(stop)) = refusal {
            let (operation, to) = (request.operation.name(), &request.to);
            tracing::debug!(event = "request.stopped", operation, %to, "a request stops: {stop}");
        } else if let Refusal::Store(error) = refusal {
            let (operation, to) = (request.operation.name(), &request.to);
            tracing::error!(event = "cse.store-failed", operation, %to,
                "the CSE's store failed: {error}");
            self.suspect_store(error);
        }
        // A version that we don't speak is answered in the latest that we do.
        let release = match refusal {
            Refusal::Release(_) => self.settings.release_versions.last(),
            _ => request.release.as_ref(),
        };
        let release = release.map(String::as_str);
        let why = refusal.to_string();
        ResponsePrimitive::refusal(&request.request_id, release, refusal.rsc(), &why)
    }
}
