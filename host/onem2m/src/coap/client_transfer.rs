//! Block-wise transfers of a client (RFC 7959).

use bytes::{Bytes, BytesMut};

use super::block::{Block, MAX_EXPONENT};
use super::message::{Code, Parts};
use super::options::{BLOCK1, BLOCK2, CONTENT_FORMAT, Options, SIZE1, SIZE2};
use super::parameters::Refusal;
use super::transfer::OVERHEAD;
use crate::binding::bad;

/// ETag.
const ETAG: u16 = 4;

/// A request of a client until its response is whole.
#[derive(Debug)]
pub struct ClientTransfer {
    request: Parts,
    max_body: usize,
    progress: Progress,
}

#[derive(Debug)]
enum Progress {
    /// The request is not in blocks.
    Whole,
    /// The block at this offset was sent.
    Upload { offset: usize, exponent: u8 },
    /// The first blocks of the response, without its content. The block behind it was asked for.
    Download { head: Parts, data: BytesMut, exponent: u8 },
}

/// The next step of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientStep {
    /// Sends a further request.
    Request(Parts),
    /// The response is whole.
    Response(Parts),
}

impl ClientTransfer {
    /// Returns the transfer of a request, and its first message. The request is in blocks if it is
    /// longer than `max_message` bytes. `max_body` bounds the content of the response.
    #[must_use]
    pub fn start(request: Parts, max_message: usize, max_body: usize) -> (Self, Parts) {
        let room = max_message.saturating_sub(request.options.length() + OVERHEAD);
        let progress = if request.payload.len() <= room {
            Progress::Whole
        } else {
            let fitting = (0..=MAX_EXPONENT).rev().find(|exponent| 16 << exponent <= room);
            Progress::Upload { offset: 0, exponent: fitting.unwrap_or(0) }
        };
        let transfer = Self { request, max_body, progress };
        let first = transfer.message();
        (transfer, first)
    }

    /// Handles the response to the last message.
    ///
    /// # Errors
    /// Returns an error if the response does not continue the transfer, or is too large.
    pub fn receive(&mut self, response: Parts) -> Result<ClientStep, Refusal> {
        let block1 = Block::read(&response.options, BLOCK1)?;
        match &mut self.progress {
            Progress::Download { .. } => return self.later_block(response),
            Progress::Upload { offset, exponent } if response.code == Code::CONTINUE => {
                let sent = Block { number: 0, more: true, exponent: *exponent };
                let next = *offset + sent.size();
                let block = block1.filter(|block| block.exponent <= *exponent);
                let block = block.ok_or_else(|| bad("the peer confirms another block"))?;
                if next >= self.request.payload.len() {
                    return Err(bad("the peer asks for more than the whole request").into());
                }
                // The size of the server divides that of the block that was sent.
                (*offset, *exponent) = (next, block.exponent);
                return Ok(ClientStep::Request(self.message()));
            }
            Progress::Upload { offset, .. } if *offset > 0 => {}
            // The server asks for smaller blocks (RFC 7959 clause 2.9.3).
            Progress::Upload { .. } | Progress::Whole => {
                let smaller = block1.filter(|block| match &self.progress {
                    Progress::Upload { exponent, .. } => block.exponent < *exponent,
                    _ => block.size() < self.request.payload.len(),
                });
                if response.code == Code::REQUEST_ENTITY_TOO_LARGE
                    && let Some(Block { exponent, .. }) = smaller
                {
                    self.progress = Progress::Upload { offset: 0, exponent };
                    return Ok(ClientStep::Request(self.message()));
                }
            }
        }
        self.response(response)
    }

    /// Handles the first message of the response.
    fn response(&mut self, response: Parts) -> Result<ClientStep, Refusal> {
        if response.payload.len() > self.max_body {
            return Err(self.too_large());
        }
        let Some(block) = Block::read(&response.options, BLOCK2)?.filter(|block| block.more) else {
            return Ok(ClientStep::Response(response));
        };
        if block.number != 0 || response.payload.len() != block.size() {
            return Err(bad("the first block of the response does not have its size").into());
        }
        let data = BytesMut::from(response.payload.as_ref());
        let head = Parts { payload: Bytes::new(), ..response };
        self.progress = Progress::Download { head, data, exponent: block.exponent };
        Ok(ClientStep::Request(self.message()))
    }

    /// Adds a later block of the response.
    fn later_block(&mut self, response: Parts) -> Result<ClientStep, Refusal> {
        let max_body = self.max_body;
        let Progress::Download { head, data, exponent } = &mut self.progress else {
            return Err(bad("the response is not in blocks").into());
        };
        let block = Block::read(&response.options, BLOCK2)?;
        let etag = |options: &Options| options.get(ETAG).next().cloned();
        let length = response.payload.len();
        let block = block.filter(|block| {
            let has_size = if block.more {
                length == block.size()
            } else {
                (1..=block.size()).contains(&length)
            };
            response.code == head.code
                && etag(&response.options) == etag(&head.options)
                && block.offset() == data.len()
                && block.exponent <= *exponent
                && has_size
        });
        let block = block.ok_or_else(|| bad("a block does not continue the response"))?;
        if data.len() + length > max_body {
            return Err(self.too_large());
        }
        data.extend_from_slice(&response.payload);
        *exponent = block.exponent;
        if block.more {
            return Ok(ClientStep::Request(self.message()));
        }
        let payload = std::mem::take(data).freeze();
        let mut whole = Parts { payload, ..head.clone() };
        whole.options.remove(BLOCK2);
        Ok(ClientStep::Response(whole))
    }

    /// Returns the message that the progress asks for.
    fn message(&self) -> Parts {
        let number = |offset: usize, exponent: u8| {
            u32::try_from(offset / (16 << exponent)).unwrap_or(u32::MAX)
        };
        match &self.progress {
            Progress::Whole => self.request.clone(),
            Progress::Upload { offset, exponent } => {
                let whole = &self.request.payload;
                let block =
                    Block { number: number(*offset, *exponent), more: false, exponent: *exponent };
                let rest = whole.slice((*offset).min(whole.len())..);
                let payload = rest.slice(..rest.len().min(block.size()));
                let more = payload.len() < rest.len();
                let mut message = Parts { payload, ..self.request.clone() };
                Block { more, ..block }.write(&mut message.options, BLOCK1);
                if *offset == 0 {
                    let size = u32::try_from(whole.len()).unwrap_or(u32::MAX);
                    message.options.push_uint(SIZE1, size);
                }
                message
            }
            Progress::Download { data, exponent, .. } => {
                let of_content = [BLOCK1, BLOCK2, SIZE1, SIZE2, CONTENT_FORMAT];
                let mut message = Parts::new(self.request.code);
                message.options = self.request.options.without(&of_content);
                let number = number(data.len(), *exponent);
                let block = Block { number, more: false, exponent: *exponent };
                block.write(&mut message.options, BLOCK2);
                message
            }
        }
    }

    fn too_large(&self) -> Refusal {
        bad(format!("the content of the response is longer than {} bytes", self.max_body)).into()
    }
}

#[cfg(test)]
#[path = "client_transfer_tests.rs"]
mod tests;
