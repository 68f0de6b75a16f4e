//! The records of an established association.
//!
//! OpenSSL keeps 70 KB for each association over datagrams as long as it exists: the buffers of the
//! handshake, and a record layer for each epoch. So OpenSSL performs the handshake, and after it the
//! keys are all that remains.

use super::protection::{EPOCH, MAX_PLAINTEXT, Protection};
use super::read::Read;
use super::record::{
    ALERT, APPLICATION_DATA, CHANGE_CIPHER_SPEC, FATAL, FINISHED, HANDSHAKE, MESSAGE_HEADER,
    Record, VERSION_1_2, records,
};

/// Number of sequence numbers of an epoch.
const MAX_SEQUENCE: u64 = 1 << 48;
/// Maximum number of repetitions of the last flight, as in OpenSSL.
const MAX_REPETITIONS: u8 = 12;
/// Content of the alert that ends an association: a warning, close_notify.
const CLOSE_NOTIFY: [u8; 2] = [1, 0];

/// The keys and the sequence numbers of an association. It performs no I/O.
pub(super) struct RecordLayer {
    protection: Protection,
    next_sequence: u64,
    received: ReplayWindow,
    /// The last flight of the handshake, until the peer has certainly received it. The peer repeats
    /// its own if it has not (RFC 6347 clause 4.2.4).
    last_flight: Vec<Vec<u8>>,
    repetitions: u8,
    outgoing: Vec<Vec<u8>>,
    is_closed: bool,
}

impl RecordLayer {
    /// Starts with the first record, which ends the handshake.
    pub fn start(protection: Protection) -> Self {
        Self::new(protection, 0, Vec::new())
    }

    /// Sets the last flight of the handshake, which is repeated if the peer repeats its own.
    pub fn set_last_flight(&mut self, datagram: Vec<u8>) {
        self.last_flight = vec![datagram];
    }

    /// Continues after a handshake that has sent the records before `next_sequence`, and `last` at its end.
    pub fn new(protection: Protection, next_sequence: u64, mut last: Vec<Vec<u8>>) -> Self {
        // The flight before it was repeated at the same time if its timer had expired.
        last.retain(|datagram| records(datagram).any(|record| is_of_last_flight(&record)));
        Self {
            protection,
            next_sequence,
            received: ReplayWindow::default(),
            last_flight: last,
            repetitions: 0,
            outgoing: Vec::new(),
            is_closed: false,
        }
    }

    /// Decrypts a datagram of the peer. Records that are not authentic are dropped.
    pub fn receive(&mut self, datagram: &[u8]) -> Read {
        let mut messages = Vec::new();
        let mut repeats_flight = false;
        for record in records(datagram) {
            let Some(content) = self.open(&record) else { continue };
            match (record.content_type, content.as_slice()) {
                (APPLICATION_DATA, _) => {
                    // The peer sends it after its handshake.
                    self.last_flight = Vec::new();
                    messages.push(content);
                }
                (ALERT, alert) if alert == CLOSE_NOTIFY || alert.first() == Some(&FATAL) => {
                    self.is_closed = true;
                    return Read::Closed;
                }
                // The last flight was lost.
                (HANDSHAKE, [FINISHED, ..]) => repeats_flight |= content.len() >= MESSAGE_HEADER,
                // A warning, or a renegotiation, which is not supported.
                _ => {}
            }
        }
        if repeats_flight {
            self.repeat_last_flight();
        }
        Read::Messages(messages)
    }

    /// Repeats the last flight as it was: the nonces of its records protect the same plaintexts again. The
    /// number of repetitions is bounded, because the address of the datagram may be another's.
    fn repeat_last_flight(&mut self) {
        self.outgoing.extend_from_slice(&self.last_flight);
        self.repetitions += 1;
        if self.repetitions >= MAX_REPETITIONS {
            self.last_flight = Vec::new();
            self.repetitions = 0;
        }
    }

    /// Decrypts a record. Returns `None` if it is not authentic, or was received before.
    pub fn open(&mut self, record: &Record<'_>) -> Option<Vec<u8>> {
        let is_expected = record.epoch == EPOCH
            && record.version == VERSION_1_2
            && self.received.is_new(record.sequence);
        let content = is_expected.then(|| self.protection.open(record))??;
        self.received.add(record.sequence);
        Some(content)
    }

    /// Encrypts a message. Returns whether the association is open.
    pub fn send(&mut self, message: &[u8]) -> bool {
        self.seal(APPLICATION_DATA, message)
    }

    /// Encrypts the alert that ends the association.
    pub fn close(&mut self) {
        self.seal(ALERT, &CLOSE_NOTIFY);
        self.is_closed = true;
    }

    /// Returns the datagrams that are to be sent.
    pub fn outgoing(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.outgoing)
    }

    /// Encrypts a record, which becomes an outgoing datagram. Returns whether the association is open.
    pub fn seal(&mut self, content_type: u8, content: &[u8]) -> bool {
        let sequence = self.next_sequence;
        if self.is_closed || sequence >= MAX_SEQUENCE || content.len() > MAX_PLAINTEXT {
            return false;
        }
        // A number is not used again, even after an error.
        self.next_sequence += 1;
        let record = self.protection.seal(content_type, sequence, content);
        let is_sealed = record.is_ok();
        self.outgoing.extend(record.ok());
        is_sealed
    }
}

/// Returns whether a record is ChangeCipherSpec, or an encrypted one.
fn is_of_last_flight(record: &Record<'_>) -> bool {
    record.epoch == EPOCH || record.content_type == CHANGE_CIPHER_SPEC
}

/// The sequence numbers that were received (RFC 6347 clause 4.1.2.6).
#[derive(Debug, Default)]
struct ReplayWindow {
    /// One more than the highest number.
    end: u64,
    /// Whether the numbers before the end were received, the highest in the lowest bit.
    received: u64,
}

impl ReplayWindow {
    /// Returns whether a number was not received, and is not too old to know.
    fn is_new(&self, sequence: u64) -> bool {
        match self.end.checked_sub(sequence + 1) {
            Some(age) => age < 64 && self.received >> age & 1 == 0,
            None => true,
        }
    }

    /// Adds the number of an authentic record.
    fn add(&mut self, sequence: u64) {
        let end = sequence + 1;
        match self.end.checked_sub(end) {
            Some(age) => self.received |= 1u64.checked_shl(bits(age)).unwrap_or_default(),
            None => {
                let moved = self.received.checked_shl(bits(end - self.end)).unwrap_or_default();
                self.received = moved | 1;
                self.end = end;
            }
        }
    }
}

fn bits(age: u64) -> u32 {
    u32::try_from(age).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(last: Vec<Vec<u8>>) -> RecordLayer {
        RecordLayer::new(Protection::with_equal_keys().unwrap(), 1, last)
    }

    /// A repeated Finished, with a new sequence number.
    fn finished(peer: &mut RecordLayer, length: usize) -> Vec<u8> {
        assert!(peer.seal(HANDSHAKE, &[&[FINISHED][..], &vec![0; length - 1]].concat()));
        peer.outgoing().remove(0)
    }

    #[test]
    fn repetitions_of_last_flight_are_bounded() {
        let flight = |content_type, epoch| {
            vec![content_type, 0xFE, 0xFD, 0, epoch, 0, 0, 0, 0, 0, 0, 0, 1, 7]
        };
        let last = [flight(CHANGE_CIPHER_SPEC, 0), flight(HANDSHAKE, 1)].concat();
        let mut own = layer(vec![flight(HANDSHAKE, 0), last.clone()]);
        let mut peer = layer(Vec::new());
        own.receive(&finished(&mut peer, 11));
        assert!(own.outgoing().is_empty());
        let datagram: Vec<_> = (0..20).flat_map(|_| finished(&mut peer, 24)).collect();
        own.receive(&datagram);
        assert_eq!(own.outgoing(), [last]);
        for _ in 0..50 {
            own.receive(&finished(&mut peer, 24));
        }
        assert_eq!(own.outgoing().len(), usize::from(MAX_REPETITIONS) - 1);
        assert!(own.send(b"answer"));
        assert_eq!(peer.receive(&own.outgoing().concat()), Read::Messages(vec![b"answer".into()]));
    }

    #[test]
    fn each_number_is_new_once() {
        let mut window = ReplayWindow::default();
        for sequence in [0, 1, 5, 3, 100, 99, 37, 101] {
            assert!(window.is_new(sequence), "{sequence}");
            window.add(sequence);
            assert!(!window.is_new(sequence), "{sequence}");
        }
        // The window has 64 numbers.
        assert!(window.is_new(38) && !window.is_new(37) && !window.is_new(4));
        let highest = MAX_SEQUENCE - 1;
        assert!(window.is_new(highest));
        window.add(highest);
        assert!(!window.is_new(highest) && !window.is_new(101) && window.is_new(highest - 63));
        assert!(!window.is_new(highest - 64));
    }
}
