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
const OVERHEAD: usize = 32;

/// Limits of transfers.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Maximum size of the body of a request, in bytes.
    pub max_body: usize,
    /// Maximum number of bodies of all associations.
    pub max_bodies: usize,
    /// Maximum number of bodies of an association. A new one replaces the oldest.
    pub max_per_association: usize,
    /// Maximum size of all bodies together, in bytes.
    pub max_bytes: usize,
    /// Time after its last block until a body is dropped.
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

/// The bodies of requests and responses that are being transferred.
#[derive(Debug)]
pub struct Transfers<K> {
    limits: Limits,
    associations: HashMap<K, Vec<Body>>,
    bodies: usize,
    bytes: usize,
}

/// A body, with the message that it belongs to.
#[derive(Debug)]
struct Body {
    direction: Direction,
    method: Code,
    options: Options,
    data: BytesMut,
    used: Instant,
}

#[derive(Debug)]
enum Direction {
    /// The blocks of a request until now.
    Request,
    /// A whole response.
    Response { head: Parts, exponent: u8 },
}

impl Body {
    fn size(&self) -> usize {
        let head = match &self.direction {
            Direction::Request => 0,
            Direction::Response { head, .. } => head.options.length(),
        };
        self.data.len() + self.options.length() + head
    }

    fn is_request(&self) -> bool {
        matches!(self.direction, Direction::Request)
    }
}

impl<K: Hash + Eq + Clone> Transfers<K> {
    /// Creates an empty table.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, associations: HashMap::new(), bodies: 0, bytes: 0 }
    }

    /// Handles a request, which may be a block or ask for one.
    pub fn receive(&mut self, association: &K, request: Parts, now: Instant) -> Step {
        let form = ResponseForm::of(&request);
        let id = text(&request.options, form.table, OneM2m::RequestId).ok().flatten();
        self.step(association, request, now).unwrap_or_else(|mut refusal| {
            refusal.error.request_id = id;
            let mut answer = write_refusal(&refusal, form);
            if refusal.code == Code::REQUEST_ENTITY_TOO_LARGE {
                let max = u32::try_from(self.limits.max_body).unwrap_or(u32::MAX);
                answer.options.push_uint(SIZE1, max);
            }
            Step::Answer(answer)
        })
    }

    fn step(&mut self, association: &K, request: Parts, now: Instant) -> Result<Step, Refusal> {
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
            (Some(block), None) => self.join(association, request, block, now),
        }
    }

    /// Adds a block to its request.
    fn join(
        &mut self,
        association: &K,
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
        let lifetime = self.limits.lifetime;
        let is_current = |f: &Body| now.saturating_duration_since(f.used) < lifetime;
        let former = former.filter(|former| block.number > 0 && is_current(former));
        let mut data = match former {
            Some(former) if former.data.len() == block.offset() => former.data,
            None if block.number == 0 => BytesMut::new(),
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
        let direction = Direction::Request;
        let body = Body { direction, method: request.code, options, data, used: now };
        self.keep(association, body, now)?;
        let mut answer = Parts::new(Code::CONTINUE);
        block.write(&mut answer.options, BLOCK1);
        Ok(Step::Answer(answer))
    }

    /// Returns the message that starts the response to a whole request: the response, or its first
    /// block.
    pub fn respond(
        &mut self,
        association: &K,
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
        let room = self.limits.max_message.saturating_sub(response.options.length() + OVERHEAD);
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
        let data = BytesMut::from(response.payload.as_ref());
        let head = Parts { payload: Bytes::new(), ..response };
        let answer = block_of(&head, &data, first);
        let direction = Direction::Response { head, exponent };
        let body = Body { direction, method: request.code, options, data, used: now };
        match self.keep(association, body, now) {
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
        let bodies = self.associations.get_mut(association).into_iter().flatten();
        let mut bodies = bodies.filter(|body| {
            body.method == request.code
                && body.options == options
                && now.saturating_duration_since(body.used) < lifetime
        });
        let body = bodies.find(|body| !body.is_request());
        let Some(Body { direction: Direction::Response { head, exponent }, data, used, .. }) = body
        else {
            let error = bad("the response to this block is not known; start with the first");
            return Err(Refusal { code: Code::REQUEST_ENTITY_INCOMPLETE, error });
        };
        if block.offset() >= data.len() {
            return Err(bad("the response has no block with this number").into());
        }
        *used = now;
        // A client may ask for a larger size than that of the first block.
        let exponent = (*exponent).min(block.exponent);
        let number = block.number << (block.exponent - exponent);
        Ok(block_of(head, data, Block { number, more: false, exponent }))
    }

    /// Drops bodies whose lifetime is over.
    pub fn expire(&mut self, now: Instant) {
        let Self { limits, associations, bodies, bytes } = self;
        associations.retain(|_, all| {
            all.retain(|body| {
                let is_current = now.saturating_duration_since(body.used) < limits.lifetime;
                if !is_current {
                    *bodies -= 1;
                    *bytes -= body.size();
                }
                is_current
            });
            !all.is_empty()
        });
    }

    /// Drops the bodies of an association that ended.
    pub fn end(&mut self, association: &K) {
        for body in self.associations.remove(association).into_iter().flatten() {
            self.bodies -= 1;
            self.bytes -= body.size();
        }
    }

    /// Returns the number of bodies, and their size in bytes.
    #[must_use]
    pub fn held(&self) -> (usize, usize) {
        (self.bodies, self.bytes)
    }

    fn take(
        &mut self,
        association: &K,
        is_request: bool,
        method: Code,
        options: &Options,
    ) -> Option<Body> {
        let all = self.associations.get_mut(association)?;
        let at = all.iter().position(|body| {
            body.is_request() == is_request && body.method == method && body.options == *options
        })?;
        let body = all.swap_remove(at);
        if all.is_empty() {
            self.associations.remove(association);
        }
        self.bodies -= 1;
        self.bytes -= body.size();
        Some(body)
    }

    fn keep(&mut self, association: &K, body: Body, now: Instant) -> Result<(), Refusal> {
        let size = body.size();
        let oldest = |all: &[Body]| {
            let (at, _) = all.iter().enumerate().min_by_key(|(_, body)| body.used)?;
            Some(at)
        };
        if let Some(all) = self.associations.get_mut(association)
            && all.len() >= self.limits.max_per_association
            && let Some(at) = oldest(all)
        {
            let replaced = all.swap_remove(at);
            self.bodies -= 1;
            self.bytes -= replaced.size();
        }
        let is_full =
            |s: &Self| s.bodies >= s.limits.max_bodies || s.bytes + size > s.limits.max_bytes;
        if is_full(self) {
            self.expire(now);
        }
        if is_full(self) {
            let error = bad("too many transfers in blocks are in progress");
            let error = BindingError { rsc: Rsc::InternalServerError, ..error };
            return Err(Refusal { code: Code::SERVICE_UNAVAILABLE, error });
        }
        self.associations.entry(association.clone()).or_default().push(body);
        self.bodies += 1;
        self.bytes += size;
        Ok(())
    }

    fn too_large(&self) -> Refusal {
        let why = format!("the content is longer than {} bytes", self.limits.max_body);
        Refusal { code: Code::REQUEST_ENTITY_TOO_LARGE, error: bad(why) }
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
