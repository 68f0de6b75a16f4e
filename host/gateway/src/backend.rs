//! Backends of the pipeline: the embedded CSE, another CSE over HTTP or MQTT, a MAF, or a MEF.

pub mod embedded;
pub mod maf;
pub mod maf_store;
pub mod mef;
mod outcome;
mod reachability;
pub mod remote;

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use saegis_cse::EmbeddedCse;
use saegis_onem2m::id::AeIdStem;
use saegis_onem2m::primitive::{Operation, RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::target::Target;

use self::embedded::EmbeddedBackend;
use self::maf::MafBackend;
use self::mef::MefBackend;
pub use self::outcome::{Asker, Outcome};
pub use self::reachability::Reachability;
use self::remote::RemoteBackend;

/// The backend of a gateway.
pub enum Backend {
    /// The embedded CSE.
    Embedded(EmbeddedBackend),
    /// Another CSE, over the HTTP or MQTT binding.
    Remote(RemoteBackend),
    /// An M2M Authentication Function.
    Maf(MafBackend),
    /// An M2M Enrolment Function.
    Mef(MefBackend),
}

impl Backend {
    /// Returns the embedded CSE, if it is the backend.
    pub fn embedded(&self) -> Option<&EmbeddedBackend> {
        match self {
            Self::Embedded(embedded) => Some(embedded),
            Self::Remote(_) | Self::Maf(_) | Self::Mef(_) => None,
        }
    }

    /// Returns the MEF, if it is the backend.
    pub fn mef(&self) -> Option<&MefBackend> {
        match self {
            Self::Mef(mef) => Some(mef),
            Self::Embedded(_) | Self::Remote(_) | Self::Maf(_) => None,
        }
    }

    /// Returns the store of the embedded CSE, if it is the backend.
    pub fn cse(&self) -> Option<&Arc<EmbeddedCse>> {
        self.embedded().map(EmbeddedBackend::cse)
    }

    /// Returns whether its store cannot be read or written.
    pub fn store_fails(&self) -> bool {
        match self {
            Self::Embedded(embedded) => embedded.cse().store_fails(),
            Self::Maf(maf) => maf.store_fails(),
            Self::Remote(_) | Self::Mef(_) => false,
        }
    }

    /// Returns whether the CSE behind the gateway can be reached, if there is one.
    pub fn reachability(&self) -> Option<Reachability> {
        match self {
            Self::Remote(remote) => Some(remote.reachability()),
            Self::Embedded(_) | Self::Maf(_) | Self::Mef(_) => None,
        }
    }

    /// Handles a request to a CSE. Always returns a response. The work stops when this future is
    /// dropped, and when the authority of the credential ends.
    pub async fn handle(
        &self,
        request: RequestPrimitive,
        asker: Asker<'_>,
        timeout: Duration,
    ) -> Outcome {
        match self {
            // Boxed, because its future is far larger than that of a remote CSE, and each request moves it.
            Self::Embedded(embedded) => Box::pin(embedded.handle(request, asker)).await,
            Self::Remote(remote) => remote.try_handle(request, timeout).await,
            Self::Maf(_) | Self::Mef(_) => {
                let (id, release) = (&request.request_id, request.release.as_deref());
                let why = "this is not a CSE";
                let response =
                    ResponsePrimitive::refusal(id, release, Rsc::TargetNotReachable, why);
                Outcome { response, is_answered: false }
            }
        }
    }

    /// Removes expired resources periodically.
    pub async fn sweep(&self) {
        match self {
            Self::Embedded(embedded) => embedded.sweep().await,
            Self::Maf(maf) => maf.sweep().await,
            Self::Remote(_) | Self::Mef(_) => {}
        }
    }
}

/// Creates a request of the gateway itself on behalf of an AE. Returns `None` if `resource` is not
/// a CSE-relative address.
pub fn as_ae(operation: Operation, resource: &str, stem: &AeIdStem) -> Option<RequestPrimitive> {
    let to = Target::from_address(resource.trim_start_matches('/')).ok()?;
    let id = format!("{:016x}", rand::rng().random::<u64>());
    Some(RequestPrimitive::own(operation, to, stem.to_string(), id))
}
