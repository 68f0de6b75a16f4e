//! The datagrams of a handshake.

use std::io;
use std::time::Duration;

use tokio::sync::mpsc;

use super::record::{alert_record, records};
use crate::refusal::{Alert, Refusal};

/// Interval in which an unfinished handshake checks whether to repeat its flight. OpenSSL repeats
/// it after one second, and doubles the time.
pub(super) const TICK: Duration = Duration::from_millis(500);

/// The datagrams of one address.
pub struct Transport<'a> {
    /// Received datagrams.
    pub incoming: &'a mut mpsc::Receiver<Vec<u8>>,
    /// Sends a datagram.
    pub send: &'a mut (dyn FnMut(&[u8]) + Send),
}

/// The transport with the next sequence number of epoch 0.
pub(super) struct Link<'a> {
    transport: Transport<'a>,
    next_sequence: u64,
}

impl<'a> Link<'a> {
    /// `next_sequence` is the number of the ClientHello (RFC 6347 clause 4.2.1): the client drops a
    /// record with the number of a HelloVerifyRequest.
    pub fn new(transport: Transport<'a>, next_sequence: u64) -> Self {
        Self { transport, next_sequence }
    }

    pub fn send(&mut self, datagrams: &[Vec<u8>]) {
        for datagram in datagrams {
            for record in records(datagram).filter(|record| record.epoch == 0) {
                self.next_sequence = self.next_sequence.max(record.sequence + 1);
            }
            (self.transport.send)(datagram);
        }
    }

    pub fn send_alert(&mut self, alert: Alert) {
        self.send(&[alert_record(self.next_sequence, alert)]);
    }

    /// Returns the next datagram.
    pub async fn receive(&mut self) -> Result<Vec<u8>, Refusal> {
        let ended = || Refusal::Connection(io::ErrorKind::UnexpectedEof.into());
        self.transport.incoming.recv().await.ok_or_else(ended)
    }

    /// Returns the next datagram, or `None` if it is time to check for a repetition.
    pub async fn receive_or_tick(&mut self) -> Result<Option<Vec<u8>>, Refusal> {
        match tokio::time::timeout(TICK, self.receive()).await {
            Ok(received) => received.map(Some),
            Err(_) => Ok(None),
        }
    }
}
