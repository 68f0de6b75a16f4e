//! OpenSSL over datagrams in memory.

use std::collections::VecDeque;
use std::io;

use openssl::error::ErrorStack;
use openssl::ssl::{ErrorCode, Ssl, SslRef, SslStream};

use super::protection::{EPOCH, EXPLICIT_NONCE, LastRecord};
use super::read::Read;
use super::record::{Record, VERSION_1_2, records};

/// Maximum size of the content of a record, in bytes.
const MAX_CONTENT: usize = (1 << 14) + 256;
/// Maximum number of encrypted records that a handshake passes to OpenSSL. The peer sends one, and
/// repeats it. OpenSSL stores up to 100 that come early, each with a buffer of 17 KB.
const MAX_ENCRYPTED_RECORDS: usize = 16;

/// The datagrams between OpenSSL and the socket. Each write of OpenSSL is one datagram.
#[derive(Debug, Default)]
pub(super) struct Queue {
    incoming: VecDeque<Vec<u8>>,
    outgoing: Vec<Vec<u8>>,
    /// Number of encrypted records of the handshake.
    encrypted_records: usize,
    /// The last encrypted record that was sent.
    last_sent: Option<LastRecord>,
}

impl io::Read for Queue {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let datagram = self.incoming.pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        // OpenSSL's buffer has the maximum size of a record. A longer datagram is cut, as by a
        // socket.
        let length = datagram.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..length), datagram.get(..length)) {
            to.copy_from_slice(from);
        }
        Ok(length)
    }
}

impl io::Write for Queue {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        for record in records(datagram).filter(|record| record.epoch == EPOCH) {
            let explicit_nonce = record.content.first_chunk::<EXPLICIT_NONCE>();
            let sent = LastRecord {
                sequence: record.sequence,
                explicit_nonce: explicit_nonce.copied().unwrap_or_default(),
            };
            self.last_sent = Some(sent);
        }
        self.outgoing.push(datagram.into());
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The handshake of an association, and its records with suites for which OpenSSL does that too. It
/// performs no I/O.
pub(super) struct Engine(SslStream<Queue>);

impl Engine {
    pub fn new(ssl: Ssl) -> Result<Self, ErrorStack> {
        SslStream::new(ssl, Queue::default()).map(Self)
    }

    pub fn ssl(&self) -> &SslRef {
        self.0.ssl()
    }

    /// Returns the last encrypted record that was sent.
    pub fn last_sent(&self) -> Option<LastRecord> {
        self.0.get_ref().last_sent
    }

    /// Queues a datagram for the handshake, or drops it if the handshake had too many encrypted
    /// records.
    pub fn push(&mut self, datagram: Vec<u8>) {
        let queue = self.0.get_mut();
        let count = queue.encrypted_records + encrypted_records(&datagram);
        if count <= MAX_ENCRYPTED_RECORDS {
            queue.encrypted_records = count;
            self.queue(datagram);
        }
    }

    /// Queues a datagram. OpenSSL would take an empty one for the end.
    fn queue(&mut self, datagram: Vec<u8>) {
        if !datagram.is_empty() {
            self.0.get_mut().incoming.push_back(datagram);
        }
    }

    /// Continues the handshake with the queued datagrams. Returns whether it has finished.
    pub fn handshake(&mut self) -> Result<bool, openssl::ssl::Error> {
        match self.0.do_handshake() {
            Ok(()) => Ok(true),
            Err(error) if error.code() == ErrorCode::WANT_READ => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Decrypts a datagram of the peer. The answers of the engine are outgoing then.
    ///
    /// OpenSSL ends an association if an encrypted record is too short for its cipher, and parses the
    /// content of a record of another version as a record. Anybody can send such datagrams from the
    /// address of the peer, so they are dropped before.
    pub fn receive(&mut self, datagram: Vec<u8>) -> Read {
        let cipher = self.ssl().current_cipher().map_or("", |cipher| cipher.name());
        if !is_plausible(&datagram, cipher) {
            return Read::Messages(Vec::new());
        }
        // A plaintext is shorter than its record.
        let mut buffer = vec![0; datagram.len().max(1)];
        self.queue(datagram);
        let mut messages = Vec::new();
        loop {
            match self.0.ssl_read(&mut buffer) {
                Ok(length) if length > 0 => {
                    messages.push(buffer.get(..length).unwrap_or_default().into());
                }
                Err(error) if error.code() == ErrorCode::WANT_READ => {
                    return Read::Messages(messages);
                }
                Ok(_) | Err(_) => return Read::Closed,
            }
        }
    }

    /// Encrypts a message, which becomes one outgoing datagram. Returns whether the association is
    /// open.
    pub fn send(&mut self, message: &[u8]) -> bool {
        self.0.ssl_write(message).is_ok()
    }

    /// Ends the association, with an outgoing datagram that says so.
    pub fn close(&mut self) {
        // The peer may have closed it already.
        let _ = self.0.shutdown();
    }

    /// Returns the datagrams that are to be sent.
    pub fn outgoing(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.0.get_mut().outgoing)
    }
}

/// Returns whether OpenSSL drops a datagram with these records if they are not authentic.
fn is_plausible(datagram: &[u8], cipher: &str) -> bool {
    // An explicit nonce of 8 bytes and a tag of 8 or 16 bytes, or only such a tag.
    let shortest = if cipher.contains("GCM") { 24 } else { 16 };
    let mut length = 0;
    let is_record = |record: Record<'_>| {
        length += record.length();
        record.version == VERSION_1_2
            && record.content.len() <= MAX_CONTENT
            && (record.epoch == 0 || record.content.len() >= shortest)
    };
    records(datagram).all(is_record) && length == datagram.len()
}

/// Returns how many records of a datagram OpenSSL could store for the next epoch, which is the first
/// or the second one.
///
/// This counts headers at each offset: OpenSSL parses the content of a discarded record as records.
fn encrypted_records(datagram: &[u8]) -> usize {
    datagram.windows(5).filter(|bytes| matches!(bytes, [_, 0xFE, _, 0, 1 | 2])).count()
}

#[cfg(test)]
mod tests {
    use openssl::ssl::{SslContext, SslMethod};

    use super::*;

    fn engine() -> Engine {
        let context = SslContext::builder(SslMethod::dtls_server()).unwrap().build();
        Engine::new(Ssl::new(&context).unwrap()).unwrap()
    }

    /// A record with one byte of content.
    fn record(epoch: u8, sequence: u8) -> Vec<u8> {
        vec![22, 0xFE, 0xFD, 0, epoch, 0, 0, 0, 0, 0, sequence, 0, 1, 7]
    }

    fn queued_records(engine: &mut Engine) -> usize {
        engine.0.get_mut().incoming.iter().map(|datagram| datagram.len() / 14).sum()
    }

    #[test]
    fn encrypted_records_of_handshake_are_bounded() {
        for epoch in [1, 2] {
            let mut engine = engine();
            (0..100).for_each(|sequence| engine.push(record(epoch, sequence)));
            assert_eq!(queued_records(&mut engine), MAX_ENCRYPTED_RECORDS);
            // Others still pass.
            engine.push(record(0, 1));
            assert_eq!(queued_records(&mut engine), MAX_ENCRYPTED_RECORDS + 1);
        }
    }

    #[test]
    fn each_encrypted_record_of_datagram_counts() {
        let all: Vec<_> = (0..17).flat_map(|sequence| record(1, sequence)).collect();
        let before = |header: &[u8]| [header, &all].concat();
        for datagram in [
            all.clone(),
            before(&record(0, 1)),
            // OpenSSL discards only these headers.
            before(&[22, 3, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 238]),
            before(&[22, 0xFE, 0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 0, 238]),
        ] {
            let mut engine = engine();
            engine.push(datagram);
            assert_eq!(queued_records(&mut engine), 0);
        }
        let mut engine = engine();
        engine.push([record(0, 1), record(1, 0)].concat());
        assert_eq!(engine.0.get_mut().encrypted_records, 1);
    }
}
