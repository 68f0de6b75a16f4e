//! Block-wise transfers of a server (RFC 7959).
//!
//! The blocks of a request belong together if association, method and all options but those of the
//! transfer are equal. So From, Request Identifier and target are equal in all blocks, and the
//! request is decided on once, when it is whole. A response in blocks is kept, so that a client that
//! fetches its later blocks does not repeat the request.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::block::{Block, MAX_EXPONENT};
use super::format::ResponseForm;
use super::message::{Code, Parts};
use super::options::{BLOCK1, BLOCK2, CONTENT_FORMAT, OneM2m, Options, SIZE1, SIZE2};
use super::parameters::{Refusal, text};
use super::response::write_refusal;
use crate::binding::{BindingError, bad};
use crate::rsc::Rsc;

/// Length of a message without its options and its payload, and with the options of a block.
pub(super) const OVERHEAD: usize = 32;
/// Maximum length of the header and the token of a message, and of the marker before its payload.
const HEADER: usize = 4 + 8 + 1;
/// Memory of a body beside its options and its data, and of an option beside its value, in bytes.
const OF_BODY: usize = 512;
const OF_OPTION: usize = 64;
/// Maximum age of a body, as a multiple of the lifetime after its last block.
const MAX_AGE: u32 = 8;

/// Limits of transfers.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Maximum size of the body of a request, in bytes.
    pub max_body: usize,
    /// Maximum number of bodies of an association. A new one replaces the oldest.
    pub max_per_association: usize,
    /// Maximum memory of all bodies together, in bytes. If it is used up, the owner that uses the
    /// most loses its oldest body.
    pub max_bytes: usize,
    /// Time after its last block until a body is dropped. Later blocks extend it eight times at
    /// most.
    pub lifetime: Duration,
    /// Maximum size of a message, in bytes. A larger response is sent in blocks.
    pub max_message: usize,
}

/// The next step for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The request is whole.
    Request(Parts),
    /// The response to a block.
    Answer(Parts),
}

/// The bodies of requests and responses that are being transferred, by association. The memory of
/// all is shared fairly between the owners of the associations, such as credentials.
#[derive(Debug)]
pub struct Transfers<K, O> {
    limits: Limits,
    associations: HashMap<K, Bodies<O>>,
    /// Bytes of each owner.
    of_owner: HashMap<O, usize>,
    bytes: usize,
}

/// The bodies of an association.
#[derive(Debug)]
struct Bodies<O> {
    owner: O,
    all: Vec<Body>,
}

/// A body, with the message that it belongs to.
#[derive(Debug)]
struct Body {
    data: Data,
    method: Code,
    options: Options,
    /// Bytes that it counts for.
    size: usize,
    since: Instant,
    used: Instant,
}

#[derive(Debug)]
enum Data {
    /// The blocks of a request until now.
    Request(BytesMut),
    /// A whole response.
    Response { head: Parts, body: Bytes, exponent: u8 },
}

impl Body {
    fn new(data: Data, method: Code, options: Options, since: Instant, now: Instant) -> Self {
        let of = |options: &Options| options.length() + OF_OPTION * options.len();
        let of_data = match &data {
            Data::Request(blocks) => blocks.capacity(),
            Data::Response { head, body, .. } => body.len() + of(&head.options),
        };
        let size = OF_BODY + of(&options) + of_data;
        Self { data, method, options, size, since, used: now }
    }

    fn is_request(&self) -> bool {
        matches!(self.data, Data::Request(_))
    }

    /// Returns whether it is not to be dropped yet.
    fn is_current(&self, lifetime: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.used) < lifetime
            && now.saturating_duration_since(self.since) < lifetime * MAX_AGE
    }
}

impl<K: Hash + Eq + Clone, O: Hash + Eq + Clone> Transfers<K, O> {
    /// Creates an empty table.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, associations: HashMap::new(), of_owner: HashMap::new(), bytes: 0 }
    }

    /// Handles a request of an association, which may be a block or ask for one.
    pub fn receive(
        &mut self,
        (association, owner): (&K, &O),
        request: Parts,
        now: Instant,
    ) -> Step {
        let form = ResponseForm::of(&request);
        let id = text(&request.options, form.table, OneM2m::RequestId).ok().flatten();
        self.step((association, owner), request, now).unwrap_or_else(|mut refusal| {
            refusal.error.request_id = id;
            let mut answer = write_refusal(&refusal, form);
            if refusal.code == Code::REQUEST_ENTITY_TOO_LARGE {
                let max = u32::try_from(self.limits.max_body).unwrap_or(u32::MAX);
                answer.options.push_uint(SIZE1, max);
            }
            Step::Answer(answer)
        })
    }

    fn step(
        &mut self,
        (association, owner): (&K, &O),
        request: Parts,
        now: Instant,
    ) -> Result<Step, Refusal> {
        let block1 = Block::read(&request.options, BLOCK1)?;
        let block2 = Block::read(&request.options, BLOCK2)?;
        match (block1, block2.filter(|block| block.number > 0)) {
            (Some(_), Some(_)) => {
                Err(bad("a request has a block of its own and asks for a later block").into())
            }
            (None, Some(block)) => {
                self.later_block(association, &request, block, now).map(Step::Answer)
            }
            (None, None) if request.payload.len() > self.limits.max_body => Err(self.too_large()),
            (None, None) => Ok(Step::Request(request)),
            (Some(block), None) => self.join((association, owner), request, block, now),
        }
    }

    /// Adds a block to its request.
    fn join(
        &mut self,
        (association, owner): (&K, &O),
        request: Parts,
        block: Block,
        now: Instant,
    ) -> Result<Step, Refusal> {
        let length = request.payload.len();
        if length > block.size() || (block.more && length < block.size()) {
            return Err(bad("a block does not have the size in its option").into());
        }
        let announced = request.options.uint(SIZE1, 4)?.unwrap_or_default();
        let announced = usize::try_from(announced).unwrap_or(usize::MAX);
        let options = request.options.without(&[BLOCK1, BLOCK2, SIZE1, SIZE2]);
        // A first block starts again, and any other must follow the one before.
        let former = self.take(association, true, request.code, &options);
        let is_continued = |f: &Body| block.number > 0 && f.is_current(self.limits.lifetime, now);
        let former = former.filter(is_continued);
        let (mut data, since) = match former {
            Some(Body { data: Data::Request(blocks), since, .. })
                if blocks.len() == block.offset() =>
            {
                (blocks, since)
            }
            None if block.number == 0 => (BytesMut::new(), now),
            _ => {
                let error = bad("a block does not follow the one before; start with the first");
                return Err(Refusal { code: Code::REQUEST_ENTITY_INCOMPLETE, error });
            }
        };
        if announced.max(data.len() + length) > self.limits.max_body {
            return Err(self.too_large());
        }
        data.extend_from_slice(&request.payload);
        if !block.more {
            return Ok(Step::Request(Parts { payload: data.freeze(), ..request }));
        }
        let body = Body::new(Data::Request(data), request.code, options, since, now);
        self.keep((association, owner), body, now)?;
        let mut answer = Parts::new(Code::CONTINUE);
        block.write(&mut answer.options, BLOCK1);
        Ok(Step::Answer(answer))
    }

    /// Returns the message that starts the response to a whole request: the response, or its first
    /// block.
    pub fn respond(
        &mut self,
        of: (&K, &O),
        request: &Parts,
        response: Parts,
        now: Instant,
    ) -> Parts {
        self.respond_within(self.limits.max_message, of, request, response, now)
    }

    /// Does the same as [`Self::respond`] for an association whose messages have another maximum size.
    pub fn respond_within(
        &mut self,
        max_message: usize,
        (association, owner): (&K, &O),
        request: &Parts,
        mut response: Parts,
        now: Instant,
    ) -> Parts {
        if let Ok(Some(block)) = Block::read(&request.options, BLOCK1) {
            block.write(&mut response.options, BLOCK1);
        }
        let options = response_key(&request.options);
        self.take(association, false, request.code, &options);
        let asked = Block::read(&request.options, BLOCK2).ok().flatten();
        let room = max_message.saturating_sub(response.options.length() + OVERHEAD);
        if asked.is_none() && response.payload.len() <= room {
            return response;
        }
        let fitting = (0..=MAX_EXPONENT).rev().find(|exponent| 16 << exponent <= room);
        let exponent = asked.map_or(MAX_EXPONENT, |block| block.exponent);
        let exponent = exponent.min(fitting.unwrap_or(0));
        let first = Block { number: 0, more: false, exponent };
        if response.payload.len() <= first.size() {
            first.write(&mut response.options, BLOCK2);
            return response;
        }
        let body = response.payload.clone();
        let head = Parts { payload: Bytes::new(), ..response };
        let answer = block_of(&head, &body, first);
        let data = Data::Response { head, body, exponent };
        let body = Body::new(data, request.code, options, now, now);
        match self.keep((association, owner), body, now) {
            Ok(()) => answer,
            Err(refusal) => write_refusal(&refusal, ResponseForm::of(request)),
        }
    }

    /// Returns a later block of a response.
    fn later_block(
        &mut self,
        association: &K,
        request: &Parts,
        block: Block,
        now: Instant,
    ) -> Result<Parts, Refusal> {
        let options = response_key(&request.options);
        let lifetime = self.limits.lifetime;
        let bodies = self.associations.get_mut(association);
        let mut bodies = bodies.into_iter().flat_map(|bodies| &mut bodies.all).filter(|body| {
            body.method == request.code && body.options == options && body.is_current(lifetime, now)
        });
        let body = bodies.find(|body| !body.is_request());
        let Some(Body { data: Data::Response { head, body, exponent }, used, .. }) = body else {
            let error = bad("the response to this block is not known; start with the first");
            return Err(Refusal { code: Code::REQUEST_ENTITY_INCOMPLETE, error });
        };
        if block.offset() >= body.len() {
            return Err(bad("the response has no block with this number").into());
        }
        *used = now;
        // A client may ask for a larger size than that of the first block.
        let exponent = (*exponent).min(block.exponent);
        let number = block.number << (block.exponent - exponent);
        Ok(block_of(head, body, Block { number, more: false, exponent }))
    }

    /// Drops bodies whose lifetime is over.
    pub fn expire(&mut self, now: Instant) {
        let lifetime = self.limits.lifetime;
        let mut dropped = Vec::new();
        self.associations.retain(|_, Bodies { owner, all }| {
            all.retain(|body| {
                let is_current = body.is_current(lifetime, now);
                if !is_current {
                    dropped.push((owner.clone(), body.size));
                }
                is_current
            });
            !all.is_empty()
        });
        dropped.iter().for_each(|(owner, size)| self.release(owner, *size));
    }

    /// Drops the bodies of an association that ended.
    pub fn end(&mut self, association: &K) {
        let Some(Bodies { owner, all }) = self.associations.remove(association) else { return };
        self.release(&owner, all.iter().map(|body| body.size).sum());
    }

    /// Returns the number of bodies, and their memory in bytes.
    #[must_use]
    pub fn held(&self) -> (usize, usize) {
        (self.associations.values().map(|bodies| bodies.all.len()).sum(), self.bytes)
    }

    fn release(&mut self, owner: &O, size: usize) {
        self.bytes -= size;
        if let Some(share) = self.of_owner.get_mut(owner) {
            *share -= size;
            if *share == 0 {
                self.of_owner.remove(owner);
            }
        }
    }

    fn take(
        &mut self,
        association: &K,
        is_request: bool,
        method: Code,
        options: &Options,
    ) -> Option<Body> {
        let all = &self.associations.get(association)?.all;
        let at = all.iter().position(|body| {
            body.is_request() == is_request && body.method == method && body.options == *options
        })?;
        self.remove(association, at)
    }

    fn remove(&mut self, association: &K, at: usize) -> Option<Body> {
        let Bodies { owner, all } = self.associations.get_mut(association)?;
        let (owner, body) = (owner.clone(), all.swap_remove(at));
        if all.is_empty() {
            self.associations.remove(association);
        }
        self.release(&owner, body.size);
        Some(body)
    }

    fn keep(
        &mut self,
        (association, owner): (&K, &O),
        body: Body,
        now: Instant,
    ) -> Result<(), Refusal> {
        if let Some(Bodies { all, .. }) = self.associations.get(association)
            && all.len() >= self.limits.max_per_association
            && let Some((at, _)) = all.iter().enumerate().min_by_key(|(_, body)| body.used)
        {
            self.remove(association, at);
        }
        let is_full = |s: &Self| s.bytes + body.size > s.limits.max_bytes;
        if is_full(self) {
            self.expire(now);
        }
        while is_full(self) {
            if !self.displace_for(owner, body.size) {
                let error = bad("too many transfers in blocks are in progress");
                let error = BindingError { rsc: Rsc::InternalServerError, ..error };
                return Err(Refusal { code: Code::SERVICE_UNAVAILABLE, error });
            }
        }
        self.bytes += body.size;
        *self.of_owner.entry(owner.clone()).or_default() += body.size;
        let bodies = self.associations.entry(association.clone());
        let bodies = bodies.or_insert_with(|| Bodies { owner: owner.clone(), all: Vec::new() });
        bodies.all.push(body);
        Ok(())
    }

    /// Drops the oldest body of the owner that uses the most memory. Returns false if that is
    /// `owner`, with what it adds, and it has no body to drop.
    fn displace_for(&mut self, owner: &O, added: usize) -> bool {
        let own = self.of_owner.get(owner).copied().unwrap_or_default() + added;
        let most = self.of_owner.iter().max_by_key(|(_, share)| **share);
        let victim = most.filter(|(_, share)| **share > own).map_or(owner, |(other, _)| other);
        let of_victim = self.associations.iter().filter(|(_, bodies)| bodies.owner == *victim);
        let all = of_victim.flat_map(|(association, Bodies { all, .. })| {
            all.iter().enumerate().map(move |(at, body)| (body.used, association, at))
        });
        let Some((_, association, at)) = all.min_by_key(|(used, ..)| *used) else { return false };
        let association = association.clone();
        self.remove(&association, at).is_some()
    }

    fn too_large(&self) -> Refusal {
        let why = format!("the content is longer than {} bytes", self.limits.max_body);
        Refusal { code: Code::REQUEST_ENTITY_TOO_LARGE, error: bad(why) }
    }
}

/// Returns a response that is not longer than a message may be. Refusals have no blocks, so one that is
/// too long loses its diagnostic payload.
#[must_use]
pub fn bounded(response: Parts, max_message: usize) -> Parts {
    let without_payload = HEADER + response.options.length();
    if without_payload + response.payload.len() <= max_message {
        response
    } else if response.code.class() > 2 && without_payload <= max_message {
        let options = response.options.without(&[CONTENT_FORMAT]);
        Parts { options, payload: Bytes::new(), ..response }
    } else {
        Parts::new(Code::INTERNAL_SERVER_ERROR)
    }
}

/// Returns the options by which a request for a later block belongs to the request. It has no
/// content.
fn response_key(options: &Options) -> Options {
    options.without(&[BLOCK1, BLOCK2, SIZE1, SIZE2, CONTENT_FORMAT])
}

/// Returns the message with a block of a body.
fn block_of(head: &Parts, data: &[u8], block: Block) -> Parts {
    let rest = data.get(block.offset()..).unwrap_or_default();
    let payload = rest.get(..block.size()).unwrap_or(rest);
    let mut answer = Parts { payload: Bytes::copy_from_slice(payload), ..head.clone() };
    Block { more: rest.len() > payload.len(), ..block }.write(&mut answer.options, BLOCK2);
    if block.number == 0 {
        let size = u32::try_from(data.len()).unwrap_or(u32::MAX);
        answer.options.push_uint(SIZE2, size);
    }
    answer
}

#[cfg(test)]
#[path = "transfer_tests.rs"]
mod tests;
