//! The message layer of an association (RFC 7252 clause 4): repetitions, acknowledgements and
//! retransmissions.
//!
//! A repeated request is answered again, but not processed again. Message IDs and tokens match only
//! within an association (RFC 7252 clause 9.1.1), so each has its own [`Exchanges`].

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::answered::{Answered, EXCHANGE_LIFETIME};
use super::message::{Code, Kind, Message, Parts, Token};

/// Time after which a request is acknowledged without its response. Clients repeat a request after
/// two seconds or more.
const ACKNOWLEDGEMENT_DELAY: Duration = Duration::from_secs(1);
/// Maximum number of repetitions of a confirmable message.
const MAX_RETRANSMIT: u32 = 4;
/// Maximum number of requests without a response. More requests are dropped, and their clients
/// repeat them.
const MAX_OPEN: usize = 16;
/// Maximum number of own confirmable messages in progress.
const MAX_SENT: usize = 16;

/// A request that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exchange {
    id: u16,
    token: Token,
}

/// The result of a received datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// There is nothing to do.
    Nothing,
    /// The datagram to send.
    Reply(Bytes),
    /// A request.
    Request(Exchange, Parts),
    /// The response to an own request, and the datagram to send, if any.
    Response(Token, Parts, Option<Bytes>),
    /// The peer rejected an own request.
    Rejected(Token),
}

/// The result of [`Exchanges::poll`].
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Datagrams to send.
    pub datagrams: Vec<Bytes>,
    /// Number of repetitions among them.
    pub repeated: usize,
    /// Own requests without a response.
    pub failed: Vec<Token>,
}

/// The error for an own request while too many others are in progress, or one has its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many messages to the peer are in progress")]
pub struct Busy;

/// The message layer of an association.
#[derive(Debug)]
pub struct Exchanges {
    next_id: u16,
    acknowledgement_timeout: Duration,
    open: Vec<Open>,
    answered: Answered,
    sent: Vec<Sent>,
}

/// A request without a response.
#[derive(Debug)]
struct Open {
    id: u16,
    token: Token,
    kind: Kind,
    /// Time at which a confirmable request is acknowledged, unless it was.
    acknowledge_at: Option<Instant>,
}

/// A message that waits for an acknowledgement, or an own request that waits for its response.
#[derive(Debug)]
struct Sent {
    id: u16,
    token: Token,
    is_request: bool,
    /// The datagram until it is acknowledged.
    datagram: Option<Bytes>,
    repetitions: u32,
    /// Time of the next repetition, or of the failure.
    at: Instant,
    timeout: Duration,
}

impl Exchanges {
    /// Creates the message layer of a new association. `first_id` is random, and so is
    /// `acknowledgement_timeout`, between 2 and 3 seconds (RFC 7252 clause 4.8).
    #[must_use]
    pub fn new(first_id: u16, acknowledgement_timeout: Duration) -> Self {
        Self {
            next_id: first_id,
            acknowledgement_timeout,
            open: Vec::new(),
            answered: Answered::default(),
            sent: Vec::new(),
        }
    }

    /// Handles a datagram of the peer.
    pub fn receive(&mut self, datagram: &Bytes, now: Instant) -> Received {
        self.answered.expire(now);
        let message = match Message::parse(datagram) {
            Ok(message) => message,
            Err(malformed) => {
                return malformed.reset().map_or(Received::Nothing, |rst| reply(&rst));
            }
        };
        let Message { kind, id, token, parts } = message;
        match kind {
            Kind::Confirmable | Kind::NonConfirmable if parts.code == Code::EMPTY => {
                // A ping (RFC 7252 clause 4.3).
                reply(&Message::empty(Kind::Reset, id))
            }
            Kind::Confirmable | Kind::NonConfirmable => {
                if let Some(open) = self.open.iter().find(|open| open.id == id) {
                    let is_acknowledged = open.acknowledge_at.is_none();
                    return match open.kind {
                        Kind::Confirmable if is_acknowledged => {
                            reply(&Message::empty(Kind::Acknowledgement, id))
                        }
                        _ => Received::Nothing,
                    };
                }
                if let Some(answer) = self.answered.get(id) {
                    let answer = answer.filter(|_| kind == Kind::Confirmable);
                    return answer.cloned().map_or(Received::Nothing, Received::Reply);
                }
                if parts.code.is_request() {
                    self.request_received(kind, id, token, parts, now)
                } else {
                    self.separate_response(kind, id, token, parts, now)
                }
            }
            Kind::Acknowledgement => self.acknowledged(id, token, parts, now),
            Kind::Reset => self.rejected(id),
        }
    }

    fn request_received(
        &mut self,
        kind: Kind,
        id: u16,
        token: Token,
        parts: Parts,
        now: Instant,
    ) -> Received {
        if self.open.len() >= MAX_OPEN {
            return Received::Nothing;
        }
        let is_confirmable = kind == Kind::Confirmable;
        let acknowledge_at = is_confirmable.then(|| now + ACKNOWLEDGEMENT_DELAY);
        self.open.push(Open { id, token, kind, acknowledge_at });
        Received::Request(Exchange { id, token }, parts)
    }

    fn separate_response(
        &mut self,
        kind: Kind,
        id: u16,
        token: Token,
        parts: Parts,
        now: Instant,
    ) -> Received {
        let is_confirmable = kind == Kind::Confirmable;
        let Some(at) = self.sent.iter().position(|s| s.is_request && s.token == token) else {
            let reset = is_confirmable.then(|| Message::empty(Kind::Reset, id));
            return reset.map_or(Received::Nothing, |rst| reply(&rst));
        };
        self.sent.swap_remove(at);
        let acknowledgement =
            is_confirmable.then(|| Message::empty(Kind::Acknowledgement, id).to_bytes());
        self.answered.insert(id, acknowledgement.clone(), now);
        Received::Response(token, parts, acknowledgement)
    }

    fn acknowledged(&mut self, id: u16, token: Token, parts: Parts, now: Instant) -> Received {
        let Some(at) = self.sent.iter().position(|s| s.id == id && s.datagram.is_some()) else {
            return Received::Nothing;
        };
        let Some(sent) = self.sent.get_mut(at) else { return Received::Nothing };
        if parts.code == Code::EMPTY {
            if sent.is_request {
                // The response follows in a message of its own.
                sent.datagram = None;
                sent.at = now + EXCHANGE_LIFETIME;
            } else {
                self.sent.swap_remove(at);
            }
            Received::Nothing
        } else if sent.is_request && sent.token == token {
            self.sent.swap_remove(at);
            Received::Response(token, parts, None)
        } else {
            Received::Nothing
        }
    }

    fn rejected(&mut self, id: u16) -> Received {
        let Some(at) = self.sent.iter().position(|sent| sent.id == id) else {
            return Received::Nothing;
        };
        let sent = self.sent.swap_remove(at);
        if sent.is_request { Received::Rejected(sent.token) } else { Received::Nothing }
    }

    /// Creates the datagram with the response to a request. Returns `None` if the request is not
    /// open.
    pub fn respond(&mut self, exchange: Exchange, response: Parts, now: Instant) -> Option<Bytes> {
        let Exchange { id, token } = exchange;
        let own_id = self.next_id;
        let at = self.open.iter().position(|open| open.id == id && open.token == token)?;
        let Open { kind, acknowledge_at, .. } = self.open.swap_remove(at);
        let (is_confirmable, is_acknowledged) =
            (kind == Kind::Confirmable, acknowledge_at.is_none());
        let (kind, message_id) = match (is_confirmable, is_acknowledged) {
            (true, false) => (Kind::Acknowledgement, id),
            (true, true) => (Kind::Confirmable, own_id),
            (false, _) => (Kind::NonConfirmable, own_id),
        };
        let datagram = Message { kind, id: message_id, token, parts: response }.to_bytes();
        let answer = match kind {
            Kind::Acknowledgement => Some(datagram.clone()),
            Kind::Confirmable => Some(Message::empty(Kind::Acknowledgement, id).to_bytes()),
            Kind::NonConfirmable | Kind::Reset => None,
        };
        self.answered.insert(id, answer, now);
        if kind != Kind::Acknowledgement {
            self.next_id = own_id.wrapping_add(1);
        }
        if kind == Kind::Confirmable {
            if self.sent.len() >= MAX_SENT
                && let Some(at) = self.sent.iter().position(|sent| !sent.is_request)
            {
                self.sent.remove(at);
            }
            self.send(own_id, token, datagram.clone(), false, now);
        }
        Some(datagram)
    }

    /// Creates the datagram with an own request.
    ///
    /// # Errors
    /// Returns an error if too many messages are in progress, or the token is in use.
    pub fn request(&mut self, token: Token, request: Parts, now: Instant) -> Result<Bytes, Busy> {
        let is_used = self.sent.iter().any(|sent| sent.is_request && sent.token == token);
        if is_used || self.sent.len() >= MAX_SENT {
            return Err(Busy);
        }
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        let datagram = Message { kind: Kind::Confirmable, id, token, parts: request }.to_bytes();
        self.send(id, token, datagram.clone(), true, now);
        Ok(datagram)
    }

    /// Gives up an own request. A response to it is rejected from now on.
    pub fn cancel(&mut self, token: Token) {
        self.sent.retain(|sent| !sent.is_request || sent.token != token);
    }

    /// Returns what is due: acknowledgements of requests that take long, and repetitions.
    pub fn poll(&mut self, now: Instant) -> Due {
        self.answered.expire(now);
        let mut due = Due::default();
        for open in &mut self.open {
            if open.acknowledge_at.take_if(|at| *at <= now).is_some() {
                let ack = Message::empty(Kind::Acknowledgement, open.id);
                due.datagrams.push(ack.to_bytes());
            }
        }
        self.sent.retain_mut(|sent| {
            if sent.at > now {
                return true;
            }
            match &sent.datagram {
                Some(datagram) if sent.repetitions < MAX_RETRANSMIT => {
                    due.datagrams.push(datagram.clone());
                    due.repeated += 1;
                    sent.repetitions += 1;
                    sent.timeout *= 2;
                    sent.at = now + sent.timeout;
                    true
                }
                _ => {
                    if sent.is_request {
                        due.failed.push(sent.token);
                    }
                    false
                }
            }
        });
        due
    }

    /// Returns the time of the next call of [`Self::poll`].
    #[must_use]
    pub fn next_poll(&self) -> Option<Instant> {
        let open = self.open.iter().filter_map(|open| open.acknowledge_at);
        let sent = self.sent.iter().map(|sent| sent.at);
        open.chain(self.answered.next_expiry()).chain(sent).min()
    }

    fn send(&mut self, id: u16, token: Token, datagram: Bytes, is_request: bool, now: Instant) {
        let timeout = self.acknowledgement_timeout;
        self.sent.push(Sent {
            id,
            token,
            is_request,
            datagram: Some(datagram),
            repetitions: 0,
            at: now + timeout,
            timeout,
        });
    }
}

fn reply(message: &Message) -> Received {
    Received::Reply(message.to_bytes())
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;
