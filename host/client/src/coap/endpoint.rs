//! Requests of this process to one peer, over an association that is established on demand.

use std::sync::Arc;
use std::time::{Duration, Instant};

use saegis_handshake::dtls::Connected;
use saegis_onem2m::coap::Parts;
use saegis_onem2m::primitive::ResponsePrimitive;
use tokio::sync::{Mutex, Semaphore};

use super::CoapClient;
use super::driver::IDLE_TIMEOUT;
use crate::endpoint::NoAnswer;

/// A peer to which requests are sent.
pub struct CoapEndpoint {
    current: Mutex<Option<Current>>,
    permits: Semaphore,
}

struct Current {
    client: Arc<CoapClient>,
    used: Instant,
}

impl CoapEndpoint {
    /// Creates an endpoint without an association. At most `max_concurrent` requests are sent at a
    /// time (RFC 7252 clause 4.7).
    #[must_use]
    pub fn new(max_concurrent: usize) -> Self {
        Self { current: Mutex::default(), permits: Semaphore::new(max_concurrent) }
    }

    /// Sends a request, and waits for the response, with at most `max_content` bytes of content. If
    /// there is no association, `establish` establishes it within the time that it gets.
    ///
    /// # Errors
    /// Returns the reason why there is no response.
    pub async fn ask<F>(
        &self,
        request: Parts,
        max_content: usize,
        timeout: Duration,
        establish: impl FnOnce(Duration) -> F,
    ) -> Result<ResponsePrimitive, NoAnswer>
    where
        F: Future<Output = Result<Connected, String>>,
    {
        let deadline = tokio::time::Instant::now() + timeout;
        // A wrong key shows only by the end of this time, which is the error to report.
        let ready = async {
            let permit = self.permits.acquire().await.map_err(|e| e.to_string())?;
            Ok::<_, String>((permit, self.client(|| establish(timeout * 3 / 4)).await?))
        };
        let ready = tokio::time::timeout_at(deadline, ready).await.map_err(|_| NoAnswer::Late)?;
        let (_permit, client) = ready.map_err(NoAnswer::Unreachable)?;
        let since = Instant::now();
        match tokio::time::timeout_at(deadline, client.ask(request, max_content)).await {
            Ok(response) => response.map_err(NoAnswer::Failed),
            Err(_) => {
                if client.last_heard() < since {
                    self.forget(&client).await;
                }
                Err(NoAnswer::Late)
            }
        }
    }

    /// Returns the association, or establishes one.
    async fn client<F>(&self, establish: impl FnOnce() -> F) -> Result<Arc<CoapClient>, String>
    where
        F: Future<Output = Result<Connected, String>>,
    {
        let mut current = self.current.lock().await;
        if let Some(Current { client, used }) = &mut *current
            && !client.is_closed()
            && used.elapsed() < IDLE_TIMEOUT
        {
            *used = Instant::now();
            return Ok(client.clone());
        }
        *current = None;
        let connected = establish().await?;
        let client = Arc::new(CoapClient::start(connected.connection, None));
        *current = Some(Current { client: client.clone(), used: Instant::now() });
        Ok(client)
    }

    /// Drops an association whose peer is silent.
    async fn forget(&self, silent: &Arc<CoapClient>) {
        let mut current = self.current.lock().await;
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(&current.client, silent)) {
            *current = None;
        }
    }
}
