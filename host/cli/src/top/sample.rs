//! Samples of the state of a running gateway.

use std::path::Path;
use std::time::{Duration, Instant};

use saegis_gateway::admin::protocol::{AssociationList, Request, StatusReport, TotalsReport};

use super::rates::Rates;
use crate::admin::{self, AdminError};

/// Timeout for a response. The gateway only reads counters.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The state of a gateway at a time.
pub struct Sample {
    at: Instant,
    /// Its state.
    pub status: StatusReport,
    /// Its associations.
    pub associations: AssociationList,
    /// Its counters.
    pub totals: TotalsReport,
}

impl Sample {
    /// Queries the gateway.
    ///
    /// # Errors
    /// Fails if no gateway answers.
    pub fn take(socket: &Path) -> Result<Self, AdminError> {
        Ok(Self {
            at: Instant::now(),
            status: admin::query(socket, &Request::Status, TIMEOUT)?,
            associations: admin::query(socket, &Request::Associations, TIMEOUT)?,
            totals: admin::query(socket, &Request::Totals, TIMEOUT)?,
        })
    }

    /// Returns the rates since an earlier sample, or since the start of the gateway if it was started
    /// between them.
    pub fn rates_since(&self, earlier: Option<&Self>) -> Option<Rates> {
        let earlier = earlier.filter(|e| e.status.pid == self.status.pid)?;
        let seconds = self.at.duration_since(earlier.at).as_secs_f64();
        Some(Rates::between(&earlier.totals, &self.totals, seconds))
    }
}
