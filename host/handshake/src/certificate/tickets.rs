//! Session tickets whose chain of sessions ends.
//!
//! A resumed handshake issues a new ticket. Without a bound, a client would need its private key only
//! once (RFC 8446 clause 4.6.1). Each ticket therefore has the time of the handshake in which the
//! client proved its key, and a session is resumed for [`MAX_SESSION_AGE`] after that.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::server::ProducesTickets;

/// Maximum time between the proof of the private key and a resumed handshake.
const MAX_SESSION_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Length of the time in a ticket: seconds since 1970, big-endian.
const TIME_LEN: usize = 8;

/// The tickets of one connection.
#[derive(Debug)]
pub(super) struct Tickets {
    ticketer: Arc<dyn ProducesTickets>,
    /// Time of the proof in the ticket that the client presented.
    proved: Mutex<Option<[u8; TIME_LEN]>>,
}

impl Tickets {
    /// Creates the tickets of a connection with this encryption.
    pub fn new(ticketer: Arc<dyn ProducesTickets>) -> Self {
        Self { ticketer, proved: Mutex::default() }
    }

    fn encrypt_at(&self, session: &[u8], now: SystemTime) -> Option<Vec<u8>> {
        let shown = *self.proved.lock().unwrap_or_else(PoisonError::into_inner);
        let proved = match shown {
            Some(proved) => proved,
            None => now.duration_since(UNIX_EPOCH).ok()?.as_secs().to_be_bytes(),
        };
        self.ticketer.encrypt(&[&proved[..], session].concat())
    }

    fn decrypt_at(&self, ticket: &[u8], now: SystemTime) -> Option<Vec<u8>> {
        let decrypted = self.ticketer.decrypt(ticket)?;
        let (proved, session) = decrypted.split_first_chunk::<TIME_LEN>()?;
        let since = UNIX_EPOCH + Duration::from_secs(u64::from_be_bytes(*proved));
        // After a change of the clock, the age may be unknown.
        let age = now.duration_since(since).ok()?;
        if age > MAX_SESSION_AGE {
            return None;
        }
        *self.proved.lock().unwrap_or_else(PoisonError::into_inner) = Some(*proved);
        Some(session.to_vec())
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        self.ticketer.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.ticketer.lifetime()
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        self.encrypt_at(session, SystemTime::now())
    }

    /// Decrypts a ticket. For one that is not accepted it returns `None`, and a full handshake
    /// follows.
    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.decrypt_at(ticket, SystemTime::now())
    }
}

#[cfg(test)]
mod tests {
    use rustls::crypto::aws_lc_rs::Ticketer;

    use super::*;

    const HOUR: Duration = Duration::from_secs(60 * 60);

    /// Returns the tickets of a new connection.
    fn tickets(ticketer: &Arc<dyn ProducesTickets>) -> Tickets {
        Tickets::new(ticketer.clone())
    }

    #[test]
    fn session_is_resumed_for_one_day_after_proof() {
        let ticketer = Ticketer::new().unwrap();
        let proof = SystemTime::now();
        let ticket = tickets(&ticketer).encrypt_at(b"session", proof).unwrap();
        for (age, accepted) in [(0, true), (1, true), (23, true), (25, false)] {
            let session = tickets(&ticketer).decrypt_at(&ticket, proof + age * HOUR);
            assert_eq!(session.is_some_and(|s| s == b"session"), accepted, "{age} hours");
        }
        assert_eq!(tickets(&ticketer).decrypt_at(&ticket, proof - HOUR), None);
    }

    /// A new ticket does not extend the time.
    #[test]
    fn ticket_of_resumed_session_has_time_of_proof() {
        let ticketer = Ticketer::new().unwrap();
        let proof = SystemTime::now();
        let mut ticket = tickets(&ticketer).encrypt_at(b"session", proof).unwrap();
        for age in [10, 20] {
            let connection = tickets(&ticketer);
            assert!(connection.decrypt_at(&ticket, proof + age * HOUR).is_some());
            ticket = connection.encrypt_at(b"session", proof + age * HOUR).unwrap();
        }
        assert_eq!(tickets(&ticketer).decrypt_at(&ticket, proof + 25 * HOUR), None);
        assert!(tickets(&ticketer).decrypt_at(&ticket, proof + 23 * HOUR).is_some());
    }

    #[test]
    fn changed_or_foreign_ticket_is_not_accepted() {
        let ticketer = Ticketer::new().unwrap();
        let now = SystemTime::now();
        let ticket = tickets(&ticketer).encrypt_at(b"session", now).unwrap();
        for at in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert_eq!(tickets(&ticketer).decrypt_at(&changed, now), None, "byte {at}");
        }
        assert_eq!(tickets(&Ticketer::new().unwrap()).decrypt_at(&ticket, now), None);
        let short = ticketer.encrypt(b"short").unwrap();
        assert_eq!(tickets(&ticketer).decrypt_at(&short, now), None);
    }
}
