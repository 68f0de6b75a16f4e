//! The messages of an established association.

use super::engine::Engine;
use super::protection::{MAX_PLAINTEXT, Protection};
use super::read::Read;
use super::record_layer::RecordLayer;

/// An association over datagrams. It performs no I/O.
pub struct Channel {
    records: Records,
    max_message: usize,
}

enum Records {
    /// Those of suites with authenticated encryption.
    Own(RecordLayer),
    /// Those of CBC, which OpenSSL verifies in constant time.
    OpenSsl(Engine),
}

impl Channel {
    /// Continues after a handshake, with the datagrams that it sent last. `max_fragment` is the maximum
    /// length of a plaintext, if one was negotiated.
    pub(super) fn after(
        engine: Engine,
        last_flight: Vec<Vec<u8>>,
        max_fragment: Option<usize>,
    ) -> Self {
        // A nonce must not occur again, so those of the handshake are continued. OpenSSL can do what fails
        // here.
        let last = engine.last_sent();
        let own = last.and_then(|last| {
            let protection = Protection::of(engine.ssl(), last).ok().flatten()?;
            Some(RecordLayer::new(protection, last.sequence + 1, last_flight))
        });
        let records = own.map_or(Records::OpenSsl(engine), Records::Own);
        Self { records, max_message: max_fragment.unwrap_or(MAX_PLAINTEXT) }
    }

    /// Continues after a handshake without OpenSSL. `max_fragment` is as above.
    pub(super) fn of(records: RecordLayer, max_fragment: Option<usize>) -> Self {
        let max_message = max_fragment.unwrap_or(MAX_PLAINTEXT);
        Self { records: Records::Own(records), max_message }
    }

    /// Returns the maximum length of a message that is sent, in bytes.
    #[must_use]
    pub fn max_message(&self) -> usize {
        self.max_message
    }

    /// Decrypts a datagram of the peer. The answers of the association are outgoing then.
    pub fn receive(&mut self, datagram: Vec<u8>) -> Read {
        match &mut self.records {
            Records::Own(records) => records.receive(&datagram),
            Records::OpenSsl(engine) => engine.receive(datagram),
        }
    }

    /// Encrypts a message, which becomes one outgoing datagram. Returns whether the association is
    /// open. A message that is too long is not sent.
    pub fn send(&mut self, message: &[u8]) -> bool {
        if message.len() > self.max_message {
            return true;
        }
        match &mut self.records {
            Records::Own(records) => records.send(message),
            Records::OpenSsl(engine) => engine.send(message),
        }
    }

    /// Ends the association, with an outgoing datagram that says so.
    pub fn close(&mut self) {
        match &mut self.records {
            Records::Own(records) => records.close(),
            Records::OpenSsl(engine) => engine.close(),
        }
    }

    /// Returns the datagrams that are to be sent.
    pub fn outgoing(&mut self) -> Vec<Vec<u8>> {
        match &mut self.records {
            Records::Own(records) => records.outgoing(),
            Records::OpenSsl(engine) => engine.outgoing(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_beyond_negotiated_length_is_not_sent() {
        let protection = Protection::with_equal_keys().unwrap();
        let records = Records::Own(RecordLayer::new(protection, 1, Vec::new()));
        let mut channel = Channel { records, max_message: 512 };
        assert!(channel.send(&[0; 513]) && channel.outgoing().is_empty());
        assert!(channel.send(&[0; 512]));
        assert_eq!(channel.outgoing().len(), 1);
    }
}
