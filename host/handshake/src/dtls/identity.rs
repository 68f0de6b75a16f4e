//! Holds datagrams back, from the ClientKeyExchange on, until the credential was looked up.

use super::record::{CLIENT_KEY_EXCHANGE, Record, fragments, records};

/// Maximum size of a ClientKeyExchange, in bytes: an identity and a key share.
const MAX_MESSAGE: usize = 1024;
/// Maximum number of datagrams that are held back.
const MAX_HELD: usize = 8;

/// The psk_identity as far as it has arrived, and the datagrams that wait for its lookup.
#[derive(Default)]
pub(super) struct IdentityReader {
    message: Vec<Option<u8>>,
    held: Vec<Vec<u8>>,
}

impl IdentityReader {
    /// Reads a datagram. It is held back if it has a part of a ClientKeyExchange, came after one, or
    /// has an encrypted record, which OpenSSL would store; otherwise it is returned.
    pub fn read(&mut self, datagram: Vec<u8>) -> Option<Vec<u8>> {
        let is_first = self.message.is_empty();
        for fragment in records(&datagram).collect::<Vec<_>>().iter().flat_map(fragments) {
            if fragment.message_type != CLIENT_KEY_EXCHANGE || fragment.length > MAX_MESSAGE {
                continue;
            }
            if self.message.is_empty() {
                // A message without content has no identity either.
                self.message = vec![None; fragment.length.max(2)];
            }
            let range = fragment.offset..fragment.offset.saturating_add(fragment.content.len());
            for (to, from) in
                self.message.get_mut(range).into_iter().flatten().zip(fragment.content)
            {
                to.get_or_insert(*from);
            }
        }
        let is_encrypted = records(&datagram).any(|record| record.epoch > 0);
        if is_first && self.message.is_empty() && !is_encrypted {
            return Some(datagram);
        }
        self.hold(datagram);
        None
    }

    /// Holds a datagram back, unless it repeats one. OpenSSL would answer each.
    pub fn hold(&mut self, datagram: Vec<u8>) {
        let is_repeated = self.held.iter().any(|held| repeats(held, &datagram));
        if !is_repeated && self.held.len() < MAX_HELD {
            self.held.push(datagram);
        }
    }

    /// Returns the psk_identity (RFC 4279 clause 2) once it has arrived, or an empty one if the
    /// message has none.
    ///
    /// OpenSSL reads the message by itself, and gets the key of this identity only for an equal one.
    pub fn identity(&self) -> Option<Vec<u8>> {
        let message = self.message()?;
        let [a, b, rest @ ..] = message.as_slice() else { return None };
        let identity = rest.get(..usize::from(u16::from_be_bytes([*a, *b])));
        Some(identity.unwrap_or_default().into())
    }

    /// Returns the content of the ClientKeyExchange once it has arrived.
    pub fn message(&self) -> Option<Vec<u8>> {
        self.message.iter().copied().collect()
    }

    /// Returns the datagrams that were held back.
    pub fn release(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.held)
    }
}

/// Returns whether two datagrams are equal but for the sequence numbers of their records. The
/// content of encrypted records differs, because the numbers are part of it.
fn repeats(one: &[u8], other: &[u8]) -> bool {
    let plain = |record: Record<'_>| {
        let content = if record.epoch == 0 { record.content.to_vec() } else { Vec::new() };
        (record.content_type, record.epoch, record.content.len(), content)
    };
    records(one).map(plain).eq(records(other).map(plain))
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
