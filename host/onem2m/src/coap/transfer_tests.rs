//! Blocks that are joined, refused and dropped.

use super::*;
use crate::coap::message::{Kind, Message, Token};
use crate::coap::options::URI_PATH;
use proptest::prelude::*;

const LIMITS: Limits = Limits {
    max_body: 4096,
    max_per_association: 2,
    max_bytes: 16 << 10,
    lifetime: Duration::from_secs(100),
    max_message: 1152,
};

struct Server {
    transfers: Transfers<u8, u8>,
    now: Instant,
}

impl Server {
    fn new(limits: Limits) -> Self {
        Self { transfers: Transfers::new(limits), now: Instant::now() }
    }

    fn receive(&mut self, association: u8, request: &Parts) -> Step {
        // Two associations have one owner.
        self.transfers.receive((&association, &(association / 2)), request.clone(), self.now)
    }

    /// Sends a block and returns the code of the answer, or the whole payload.
    fn send(&mut self, request: &Parts) -> Result<Bytes, Code> {
        match self.receive(1, request) {
            Step::Request(whole) => Ok(whole.payload),
            Step::Answer(answer) => Err(answer.code),
        }
    }
}

fn block(number: u32, more: bool, exponent: u8) -> Block {
    Block { number, more, exponent }
}

/// A request with a block of the body.
fn upload(body: &[u8], number: u32, exponent: u8) -> Parts {
    let mut parts = request();
    let size = 16 << exponent;
    let rest = &body[(number as usize * size)..];
    let payload = &rest[..size.min(rest.len())];
    parts.payload = Bytes::copy_from_slice(payload);
    block(number, rest.len() > size, exponent).write(&mut parts.options, BLOCK1);
    parts
}

fn request() -> Parts {
    let mut parts = Parts::new(Code::POST);
    parts.options.push_text(URI_PATH, "cse");
    parts.options.push_text(279, "Ca");
    parts.options.push_text(283, "r1");
    parts
}

fn body(length: usize) -> Vec<u8> {
    (0..length).map(|n| u8::try_from(n % 251).unwrap()).collect()
}

#[test]
fn blocks_become_one_request() {
    let mut server = Server::new(LIMITS);
    let body = body(70);
    for number in 0..4 {
        let Step::Answer(answer) = server.receive(1, &upload(&body, number, 0)) else { panic!() };
        assert_eq!(answer.code, Code::CONTINUE);
        let echo = Block::read(&answer.options, BLOCK1).unwrap();
        assert_eq!(echo, Some(block(number, true, 0)));
    }
    let Step::Request(whole) = server.receive(1, &upload(&body, 4, 0)) else { panic!() };
    assert_eq!(whole.payload, body);
    assert_eq!(server.transfers.held(), (0, 0));
    // The response confirms the last block.
    let response =
        server.transfers.respond((&1, &0), &whole, Parts::new(Code::CREATED), server.now);
    assert_eq!(Block::read(&response.options, BLOCK1).unwrap(), Some(block(4, false, 0)));
}

#[test]
fn single_block_and_message_without_block_are_whole() {
    let mut server = Server::new(LIMITS);
    assert_eq!(server.send(&upload(&body(10), 0, 0)), Ok(body(10).into()));
    let mut plain = request();
    plain.payload = body(100).into();
    assert_eq!(server.send(&plain), Ok(body(100).into()));
    plain.payload = body(LIMITS.max_body + 1).into();
    assert_eq!(server.send(&plain), Err(Code::REQUEST_ENTITY_TOO_LARGE));
}

#[test]
fn block_size_may_change() {
    let mut server = Server::new(LIMITS);
    let body = body(100);
    assert_eq!(server.send(&upload(&body, 0, 1)), Err(Code::CONTINUE));
    for number in 2..6 {
        assert_eq!(server.send(&upload(&body, number, 0)), Err(Code::CONTINUE));
    }
    assert_eq!(server.send(&upload(&body, 6, 0)), Ok(body.into()));
}

#[test]
fn block_out_of_order_ends_the_transfer() {
    let body = body(70);
    for wrong in [0, 1, 3, 4] {
        let mut server = Server::new(LIMITS);
        assert_eq!(server.send(&upload(&body, 0, 0)), Err(Code::CONTINUE));
        assert_eq!(server.send(&upload(&body, 1, 0)), Err(Code::CONTINUE));
        let answer = server.send(&upload(&body, wrong, 0));
        if wrong == 0 {
            // It starts again.
            assert_eq!(answer, Err(Code::CONTINUE));
            assert_eq!(server.send(&upload(&body, 1, 0)), Err(Code::CONTINUE));
        } else {
            assert_eq!(answer, Err(Code::REQUEST_ENTITY_INCOMPLETE), "{wrong}");
            let next = server.send(&upload(&body, 2, 0));
            assert_eq!(next, Err(Code::REQUEST_ENTITY_INCOMPLETE));
            assert_eq!(server.transfers.held(), (0, 0));
        }
    }
}

/// Blocks of two originators must not become one request.
#[test]
fn options_of_all_blocks_are_equal() {
    let body = body(40);
    let change = |change: &dyn Fn(&mut Parts)| {
        let mut server = Server::new(LIMITS);
        assert_eq!(server.send(&upload(&body, 0, 0)), Err(Code::CONTINUE));
        let mut next = upload(&body, 1, 0);
        change(&mut next);
        server.send(&next).unwrap_err()
    };
    let incomplete = Code::REQUEST_ENTITY_INCOMPLETE;
    for number in [279, 283, URI_PATH, CONTENT_FORMAT, 292, 2048] {
        let changed = change(&|parts: &mut Parts| {
            parts.options.remove(number);
            parts.options.push_text(number, "x");
        });
        assert_eq!(changed, incomplete, "{number}");
    }
    assert_eq!(change(&|parts| parts.options.remove(279)), incomplete);
    assert_eq!(change(&|parts| parts.options.push_text(279, "Ca")), incomplete);
    assert_eq!(change(&|parts| parts.code = Code::PUT), incomplete);
    assert_eq!(change(&|parts| parts.options.push_uint(SIZE1, 40)), Code::CONTINUE);
    // Another association.
    let mut server = Server::new(LIMITS);
    assert_eq!(server.send(&upload(&body, 0, 0)), Err(Code::CONTINUE));
    let Step::Answer(answer) = server.receive(2, &upload(&body, 1, 0)) else { panic!() };
    assert_eq!(answer.code, incomplete);
    assert_eq!(answer.options.single(283).unwrap().unwrap(), "r1");
}

#[test]
fn block_of_wrong_size_is_refused() {
    let mut server = Server::new(LIMITS);
    for (length, more) in [(15, true), (17, true), (17, false), (0, true)] {
        let mut parts = request();
        parts.payload = body(length).into();
        block(0, more, 0).write(&mut parts.options, BLOCK1);
        assert_eq!(server.send(&parts), Err(Code::BAD_REQUEST), "{length}");
    }
    // The reserved size, too long a value, a repeated option.
    for (values, code) in [
        (&[7][..], Code::BAD_REQUEST),
        (&[0x0100_0000], Code::BAD_OPTION),
        (&[0, 0], Code::BAD_OPTION),
    ] {
        for number in [BLOCK1, BLOCK2] {
            let mut parts = request();
            values.iter().for_each(|value| parts.options.push_uint(number, *value));
            assert_eq!(server.send(&parts), Err(code), "{values:?}");
        }
    }
    let mut both = upload(&body(40), 0, 0);
    block(1, false, 0).write(&mut both.options, BLOCK2);
    assert_eq!(server.send(&both), Err(Code::BAD_REQUEST));
}

#[test]
fn size_is_bounded() {
    let mut server = Server::new(LIMITS);
    let mut announced = upload(&body(100), 0, 0);
    announced.options.push_uint(SIZE1, 4097);
    let Step::Answer(answer) = server.receive(1, &announced) else { panic!() };
    assert_eq!(answer.code, Code::REQUEST_ENTITY_TOO_LARGE);
    assert_eq!(answer.options.uint(SIZE1, 4), Ok(Some(4096)));
    let large = body(5000);
    for number in 0..4 {
        assert_eq!(server.send(&upload(&large, number, 6)), Err(Code::CONTINUE));
    }
    assert_eq!(server.send(&upload(&large, 4, 6)), Err(Code::REQUEST_ENTITY_TOO_LARGE));
    assert_eq!(server.transfers.held(), (0, 0));
}

#[test]
fn abandoned_transfers_are_bounded() {
    let mut server = Server::new(LIMITS);
    let start = |server: &mut Server, association, id: &str| {
        let mut parts = upload(&body(100), 0, 0);
        parts.options.push_text(292, id);
        match server.receive(association, &parts) {
            Step::Answer(answer) => answer.code,
            Step::Request(_) => panic!("it is not whole"),
        }
    };
    // An association replaces its oldest.
    for n in 0..1000 {
        assert_eq!(start(&mut server, 1, &n.to_string()), Code::CONTINUE);
        assert!(server.transfers.held().0 <= 2);
    }
    // An association that ends frees its bodies, and so does time.
    assert_eq!(start(&mut server, 2, "a"), Code::CONTINUE);
    server.transfers.end(&1);
    assert_eq!(server.transfers.held().0, 1);
    server.now += LIMITS.lifetime;
    assert_eq!(start(&mut server, 9, "a"), Code::CONTINUE);
    server.transfers.expire(server.now);
    assert_eq!(server.transfers.held().0, 1);
    server.transfers.end(&9);
    assert_eq!(server.transfers.held(), (0, 0));
    assert!(server.transfers.of_owner.is_empty());
}

/// An owner with many associations cannot use up the memory of others.
#[test]
fn owner_with_the_most_bytes_yields() {
    let mut server = Server::new(LIMITS);
    let mut start = |association: u8, owner: u8, length| {
        let mut parts = upload(&body(2000), 0, length);
        parts.options.push_text(292, "tag");
        let step = server.transfers.receive((&association, &owner), parts, server.now);
        server.now += Duration::from_millis(1);
        let Step::Answer(answer) = step else { panic!("it is not whole") };
        assert!(server.transfers.bytes <= LIMITS.max_bytes);
        (answer.code, server.transfers.of_owner.clone())
    };
    let (_, shares) = start(0, 0, 6);
    for association in 1..200 {
        let (code, shares) = start(association, 1, 6);
        assert_eq!(code, Code::CONTINUE, "{association}");
        assert!(shares[&0] > 0, "{association}");
    }
    // Others get room as long as that owner has more than they have.
    for owner in 2..6 {
        let (code, now) = start(200 + owner, owner, 6);
        assert_eq!(code, Code::CONTINUE, "{owner}");
        assert_eq!(now[&0], shares[&0]);
    }
}

/// Neither requests nor responses can be kept without end.
#[test]
fn later_blocks_extend_lifetime_eight_times_at_most() {
    let mut server = Server::new(LIMITS);
    let mut response = Parts::new(Code::CONTENT);
    response.payload = body(3000).into();
    server.transfers.respond((&1, &0), &request(), response, server.now);
    let mut later = request();
    block(1, false, 6).write(&mut later.options, BLOCK2);
    let large = body(4000);
    let mut codes = Vec::new();
    for number in 0..20 {
        codes.push((server.send(&later), server.send(&upload(&large, number, 0))));
        server.now += LIMITS.lifetime / 2;
    }
    let (late, incomplete) = (Code::REQUEST_ENTITY_INCOMPLETE, Code::REQUEST_ENTITY_INCOMPLETE);
    assert_eq!(codes[15], (Err(Code::CONTENT), Err(Code::CONTINUE)));
    assert_eq!(codes[16], (Err(late), Err(incomplete)));
}

/// An option counts for the memory that it uses, not for its length in the message.
#[test]
fn empty_options_count() {
    let mut server = Server::new(Limits { max_bytes: 1 << 20, ..LIMITS });
    let mut parts = upload(&body(100), 0, 0);
    for _ in 0..100 {
        parts.options.push_text(URI_PATH, "");
    }
    assert_eq!(server.send(&parts), Err(Code::CONTINUE));
    assert!(server.transfers.held().1 > 100 * 64);
}

#[test]
fn bytes_are_bounded() {
    let mut server = Server::new(Limits { max_bytes: 4000, ..LIMITS });
    let large = body(4096);
    assert_eq!(server.send(&upload(&large, 0, 6)), Err(Code::CONTINUE));
    assert_eq!(server.send(&upload(&large, 1, 6)), Err(Code::CONTINUE));
    assert_eq!(server.send(&upload(&large, 2, 6)), Err(Code::SERVICE_UNAVAILABLE));
    assert_eq!(server.transfers.held(), (0, 0));
}

#[test]
fn late_block_is_refused() {
    let mut server = Server::new(LIMITS);
    assert_eq!(server.send(&upload(&body(40), 0, 0)), Err(Code::CONTINUE));
    server.now += LIMITS.lifetime;
    assert_eq!(server.send(&upload(&body(40), 1, 0)), Err(Code::REQUEST_ENTITY_INCOMPLETE));
}

/// Fetches the rest of a response and returns it with the number of requests.
fn fetch(server: &mut Server, first: &Parts, exponent: u8) -> (Vec<u8>, u32) {
    let mut all = first.payload.to_vec();
    let mut more = Block::read(&first.options, BLOCK2).unwrap().is_some_and(|block| block.more);
    let mut requests = 0;
    while more {
        let number = u32::try_from(all.len() / (16 << exponent)).unwrap();
        let mut next = request();
        block(number, false, exponent).write(&mut next.options, BLOCK2);
        let Step::Answer(answer) = server.receive(1, &next) else { panic!("it is carried out") };
        assert_eq!(answer.code, first.code);
        let found = Block::read(&answer.options, BLOCK2).unwrap().unwrap();
        assert_eq!(found.offset(), all.len());
        all.extend(&answer.payload);
        more = found.more;
        requests += 1;
    }
    (all, requests)
}

#[test]
fn large_response_is_sent_in_blocks() {
    let mut server = Server::new(LIMITS);
    let mut response = Parts::new(Code::CONTENT);
    response.options.push_uint(307, 2000);
    response.payload = body(3000).into();
    let first = server.transfers.respond((&1, &0), &request(), response, server.now);
    assert_eq!(Block::read(&first.options, BLOCK2).unwrap(), Some(block(0, true, 6)));
    assert_eq!(first.options.uint(SIZE2, 4), Ok(Some(3000)));
    assert_eq!(fetch(&mut server, &first, 6), (body(3000), 2));
    // A client may choose smaller blocks, and ask again.
    assert_eq!(fetch(&mut server, &first, 2).0, body(3000));
    let mut beyond = request();
    block(3, false, 6).write(&mut beyond.options, BLOCK2);
    assert_eq!(server.send(&beyond), Err(Code::BAD_REQUEST));
    // A block of another request.
    let mut other = request();
    other.options.push_text(URI_PATH, "x");
    block(1, false, 6).write(&mut other.options, BLOCK2);
    assert_eq!(server.send(&other), Err(Code::REQUEST_ENTITY_INCOMPLETE));
    server.now += LIMITS.lifetime;
    let mut late = request();
    block(1, false, 6).write(&mut late.options, BLOCK2);
    assert_eq!(server.send(&late), Err(Code::REQUEST_ENTITY_INCOMPLETE));
}

#[test]
fn client_chooses_smaller_blocks() {
    let mut server = Server::new(LIMITS);
    let mut small = request();
    block(0, false, 1).write(&mut small.options, BLOCK2);
    let answer = |server: &mut Server, length| {
        let response = Parts { payload: body(length).into(), ..Parts::new(Code::CONTENT) };
        server.transfers.respond((&1, &0), &small, response, server.now)
    };
    let first = answer(&mut server, 100);
    assert_eq!(Block::read(&first.options, BLOCK2).unwrap(), Some(block(0, true, 1)));
    // A larger size than that of the first block is not used.
    let mut next = request();
    block(1, false, 2).write(&mut next.options, BLOCK2);
    let Step::Answer(next) = server.receive(1, &next) else { panic!() };
    assert_eq!(Block::read(&next.options, BLOCK2).unwrap(), Some(block(2, true, 1)));
    assert_eq!(fetch(&mut server, &first, 1).0, body(100));
    // A small response replaces the former one.
    let first = answer(&mut server, 32);
    assert_eq!(Block::read(&first.options, BLOCK2).unwrap(), Some(block(0, false, 1)));
    assert_eq!(server.transfers.held(), (0, 0));
}

/// The blocks of a response have to fit a datagram beside its options.
#[test]
fn block_size_leaves_room_for_options() {
    let mut server = Server::new(LIMITS);
    let mut response = Parts::new(Code::CONTENT);
    response.options.push(283, vec![b'r'; 255]);
    response.payload = body(1100).into();
    let first = server.transfers.respond((&1, &0), &request(), response, server.now);
    assert_eq!(first.payload.len(), 512);
}

/// An association may have a smaller maximum than the others.
#[test]
fn each_block_fits_smaller_messages() {
    for (max_message, exponent) in [(1024, 5), (512, 4), (256, 3), (128, 2)] {
        let mut server = Server::new(LIMITS);
        let mut response = Parts::new(Code::CONTENT);
        response.options.push_uint(307, 2000);
        response.payload = body(3000).into();
        let (of, now) = ((&1, &0), server.now);
        let transfers = &mut server.transfers;
        let first = transfers.respond_within(max_message, of, &request(), response, now);
        let first_block = Block::read(&first.options, BLOCK2).unwrap();
        assert_eq!(first_block, Some(block(0, true, exponent)), "{max_message}");
        // A larger block is not sent to a client that asks for one.
        let mut next = request();
        block(1, false, 6).write(&mut next.options, BLOCK2);
        let Step::Answer(next) = server.receive(1, &next) else { panic!("it is a block") };
        for parts in [first, next] {
            let message = Message {
                kind: Kind::Confirmable,
                id: 1,
                token: Token::new(&[0; 8]).unwrap(),
                parts: bounded(parts.clone(), max_message),
            };
            assert_eq!(message.parts, parts);
            assert!(message.to_bytes().len() <= max_message);
        }
    }
}

#[test]
fn response_without_blocks_is_bounded() {
    let mut refusal = Parts::new(Code::BAD_REQUEST);
    refusal.options.push_uint(307, 4000);
    refusal.options.push_uint(CONTENT_FORMAT, 50);
    refusal.payload = body(600).into();
    assert_eq!(bounded(refusal.clone(), 1152), refusal);
    let short = bounded(refusal.clone(), 512);
    assert_eq!((short.code, short.payload.len()), (Code::BAD_REQUEST, 0));
    assert!(short.options.has(307) && !short.options.has(CONTENT_FORMAT));
    // A response without its content is another one, and options cannot be omitted.
    let content = Parts { code: Code::CONTENT, ..refusal.clone() };
    refusal.options.push(283, vec![b'r'; 600]);
    for response in [content, refusal] {
        assert_eq!(bounded(response, 512), Parts::new(Code::INTERNAL_SERVER_ERROR));
    }
}

proptest! {
    /// No order of blocks yields another body than the one that was sent in order.
    #[test]
    fn only_whole_body_is_delivered(order in proptest::collection::vec(0u32..6, 0..40)) {
        let mut server = Server::new(LIMITS);
        let body = body(90);
        for number in order {
            match server.send(&upload(&body, number, 0)) {
                Ok(whole) => prop_assert_eq!(whole, &body),
                Err(code) => prop_assert!(matches!(
                    code,
                    Code::CONTINUE | Code::REQUEST_ENTITY_INCOMPLETE
                )),
            }
        }
    }
}
