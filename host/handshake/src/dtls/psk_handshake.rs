//! The server side of a handshake with TLS_PSK_WITH_AES_128_CCM_8 (RFC 4279, RFC 6347, RFC 6655).
//!
//! Each of its messages has one form, and its only secret computation is a hash. OpenSSL takes many
//! times as long for it, because it creates its state for each association.

use openssl::error::ErrorStack;
use rand::RngExt as _;
use saegis_onem2m::exported::{Exported, LABEL};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::protection::{
    EPOCH, EXPLICIT_NONCE, KeyMaterial, MASTER_SECRET, Protection, RANDOM, prf,
};
use super::record::{
    ALERT, CHANGE_CIPHER_SPEC, CLIENT_KEY_EXCHANGE, ClientHello, FATAL, FINISHED, Fragment,
    HANDSHAKE, MESSAGE_HEADER, Record, SERVER_HELLO, SERVER_HELLO_DONE, VERSION_1_2,
    handshake_message, plain_record, records, whole_message,
};
use super::record_layer::RecordLayer;
use crate::refusal::Refusal;
use crate::suite::Suite;

/// The suite of these handshakes.
pub(super) const SUITE: Suite = Suite::PskAes128Ccm8;

/// Numbers of extensions.
const MAX_FRAGMENT_LENGTH: u16 = 1;
const EXTENDED_MASTER_SECRET: u16 = 23;
const RENEGOTIATION_INFO: u16 = 0xFF01;
/// The suite that stands for an empty renegotiation_info (RFC 5746 clause 3.3).
const RENEGOTIATION_SUITE: u16 = 0x00FF;
/// Length of the content of a Finished.
const VERIFY_DATA: usize = 12;
/// Length of the record of a Finished: explicit nonce, message and tag.
const FINISHED_RECORD: usize = EXPLICIT_NONCE + MESSAGE_HEADER + VERIFY_DATA + TAG;
/// Length of the authentication code of CCM_8.
const TAG: usize = 8;
/// Maximum number of such records that are tried. A client can guess a key with each of them, and the limit
/// of failed handshakes counts one for all of them.
const MAX_TRIED_RECORDS: u8 = 16;

/// A handshake until the keys are known. It performs no I/O.
pub(super) struct PskHandshake {
    client_random: [u8; RANDOM],
    server_random: [u8; RANDOM],
    has_extended_master_secret: bool,
    /// ServerHello and ServerHelloDone.
    messages: [Vec<u8>; 2],
    /// Hash of the messages so far.
    transcript: Sha256,
    /// Number of the next message of either side.
    next_message: u16,
    /// Number of the next record that is sent.
    next_record: u64,
}

impl PskHandshake {
    /// Answers a ClientHello that has proved its address and offers the suite.
    ///
    /// # Errors
    /// Returns the reason why the ClientHello is invalid.
    pub fn new(hello: &ClientHello) -> Result<Self, Refusal> {
        let server_random: [u8; RANDOM] = rand::rng().random();
        let (extensions, has_extended_master_secret) = extensions(hello)?;
        let mut body = Vec::with_capacity(64);
        body.extend(VERSION_1_2);
        body.extend(server_random);
        // Without a session ID.
        body.push(0);
        body.extend(SUITE.id().to_be_bytes());
        // Without compression.
        body.push(0);
        if !extensions.is_empty() {
            body.extend(length_of(&extensions));
            body.extend(extensions);
        }
        // The number of the ClientHello is that of the HelloVerifyRequests before it.
        let number = hello.message_sequence();
        let messages = [
            handshake_message(SERVER_HELLO, number, &body),
            handshake_message(SERVER_HELLO_DONE, number + 1, &[]),
        ];
        let mut transcript = Sha256::new_with_prefix(hello.message());
        messages.iter().for_each(|message| transcript.update(message));
        Ok(Self {
            client_random: hello.random(),
            server_random,
            has_extended_master_secret,
            messages,
            transcript,
            next_message: number + 1,
            // RFC 6347 clause 4.2.1.
            next_record: hello.record_sequence(),
        })
    }

    /// Returns the datagram with the first flight. Each one has records with new numbers.
    pub fn flight(&mut self) -> Vec<u8> {
        let mut datagram = Vec::with_capacity(160);
        for message in &self.messages {
            let record = plain_record(HANDSHAKE, VERSION_1_2, self.next_record, message);
            datagram.extend(record);
            self.next_record += 1;
        }
        datagram
    }

    /// Derives the keys from the content of the ClientKeyExchange and the pre-shared key.
    ///
    /// # Errors
    /// Fails if OpenSSL's cipher does.
    pub fn exchange(mut self, content: &[u8], key: &[u8]) -> Result<KeyedHandshake, ErrorStack> {
        let message = handshake_message(CLIENT_KEY_EXCHANGE, self.next_message, content);
        self.transcript.update(message);
        let premaster_secret = premaster_secret(key);
        let Self { client_random, server_random, has_extended_master_secret, .. } = self;
        let randoms = [client_random, server_random].concat();
        let session_hash = self.transcript.clone().finalize();
        let (label, seed): (&[u8], &[u8]) = match has_extended_master_secret {
            // RFC 7627 clause 4.
            true => (b"extended master secret", &session_hash),
            false => (b"master secret", &randoms),
        };
        let derived = prf(&premaster_secret, label, seed, MASTER_SECRET);
        let mut master_secret = Zeroizing::new([0; MASTER_SECRET]);
        master_secret.iter_mut().zip(derived.iter()).for_each(|(to, from)| *to = *from);
        let material = KeyMaterial { master_secret, client_random, server_random };
        let records = RecordLayer::start(Protection::ccm8(&material, true)?);
        Ok(KeyedHandshake {
            material,
            has_extended_master_secret,
            transcript: self.transcript,
            next_message: self.next_message + 1,
            next_record: self.next_record,
            records,
            tried_records: 0,
        })
    }
}

/// A handshake that waits for the Finished of the client, which proves its key.
pub(super) struct KeyedHandshake {
    material: KeyMaterial,
    has_extended_master_secret: bool,
    transcript: Sha256,
    next_message: u16,
    next_record: u64,
    records: RecordLayer,
    tried_records: u8,
}

impl KeyedHandshake {
    /// Handles a datagram. Returns the last flight if the datagram has the Finished of the client. A
    /// record under another key is dropped, and so is each one beyond the limit.
    ///
    /// The ChangeCipherSpec of the client is not needed, because a record names its epoch.
    ///
    /// # Errors
    /// Fails if an authentic message is not the expected one.
    pub fn receive(&mut self, datagram: &[u8]) -> Result<Option<Vec<u8>>, Refusal> {
        let may_be_finished = |record: &Record<'_>| {
            record.epoch == EPOCH
                && record.content_type == HANDSHAKE
                && record.content.len() == FINISHED_RECORD
        };
        for record in records(datagram).filter(may_be_finished) {
            if self.tried_records >= MAX_TRIED_RECORDS {
                return Ok(None);
            }
            self.tried_records += 1;
            let Some(content) = self.records.open(&record) else { continue };
            return match whole_message(&content) {
                Some(message) if self.is_finished_of_client(&message) => {
                    self.transcript.update(&content);
                    Ok(Some(self.last_flight()))
                }
                _ => Err(Refusal::Protocol("the client sent no valid Finished".into())),
            };
        }
        Ok(None)
    }

    fn is_finished_of_client(&self, message: &Fragment<'_>) -> bool {
        let expected = self.verify_data(b"client finished");
        message.message_type == FINISHED
            && message.message_sequence == self.next_message
            && message.content.len() == VERIFY_DATA
            && openssl::memcmp::eq(message.content, &expected)
    }

    fn verify_data(&self, label: &[u8]) -> Zeroizing<Vec<u8>> {
        let hash = self.transcript.clone().finalize();
        prf(&*self.material.master_secret, label, &hash, VERIFY_DATA)
    }

    /// Returns the datagram with ChangeCipherSpec and Finished.
    fn last_flight(&mut self) -> Vec<u8> {
        let verify_data = self.verify_data(b"server finished");
        let finished = handshake_message(FINISHED, self.next_message, &verify_data);
        let mut flight = plain_record(CHANGE_CIPHER_SPEC, VERSION_1_2, self.next_record, &[1]);
        self.records.seal(HANDSHAKE, &finished);
        flight.extend(self.records.outgoing().into_iter().flatten());
        self.records.set_last_flight(flight.clone());
        flight
    }

    /// Exports key material from the session, if it has extended master secret.
    pub fn export(&self) -> Option<Exported> {
        let KeyMaterial { master_secret, client_random, server_random } = &self.material;
        let randoms = [&client_random[..], server_random].concat();
        let exported = Exported::by(|buffer| {
            let key = prf(&**master_secret, LABEL.as_bytes(), &randoms, buffer.len());
            buffer.iter_mut().zip(key.iter()).for_each(|(to, from)| *to = *from);
            Ok::<_, ErrorStack>(())
        });
        exported.ok().filter(|_| self.has_extended_master_secret)
    }

    /// Returns the records of the association, after the last flight.
    pub fn into_records(self) -> RecordLayer {
        self.records
    }
}

/// Returns the code of a fatal alert that is not encrypted.
pub(super) fn fatal_alert(datagram: &[u8]) -> Option<u8> {
    let code = |content: &[u8]| match content {
        [FATAL, code] => Some(*code),
        _ => None,
    };
    let mut plain = records(datagram).filter(|r| r.epoch == 0 && r.content_type == ALERT);
    plain.find_map(|record| code(record.content))
}

/// Returns the extensions of the ServerHello, and whether one is the extended master secret.
fn extensions(hello: &ClientHello) -> Result<(Vec<u8>, bool), Refusal> {
    if !hello.compression_methods().contains(&0) {
        return Err(Refusal::Malformed("it requires compression"));
    }
    let mut extensions = Vec::new();
    let mut add = |number: u16, content: &[u8]| {
        extensions.extend(number.to_be_bytes());
        extensions.extend(length_of(content));
        extensions.extend_from_slice(content);
    };
    match hello.extension(RENEGOTIATION_INFO) {
        Some([0]) => add(RENEGOTIATION_INFO, &[0]),
        // RFC 5746 clause 3.6.
        Some(_) => return Err(Refusal::Renegotiation),
        None if hello.suites().any(|suite| suite == RENEGOTIATION_SUITE) => {
            add(RENEGOTIATION_INFO, &[0]);
        }
        None => {}
    }
    match hello.extension(MAX_FRAGMENT_LENGTH) {
        Some(code @ [1..=4]) => add(MAX_FRAGMENT_LENGTH, code),
        // RFC 6066 clause 4.
        Some(_) => return Err(Refusal::FragmentLength),
        None => {}
    }
    let has_extended_master_secret = match hello.extension(EXTENDED_MASTER_SECRET) {
        Some([]) => true,
        Some(_) => return Err(Refusal::Malformed("its extended_master_secret is not empty")),
        None => false,
    };
    if has_extended_master_secret {
        add(EXTENDED_MASTER_SECRET, &[]);
    }
    Ok((extensions, has_extended_master_secret))
}

/// Returns the secret that a pre-shared key stands for (RFC 4279 clause 2).
fn premaster_secret(key: &[u8]) -> Zeroizing<Vec<u8>> {
    let length = length_of(key);
    let mut secret = Zeroizing::new(Vec::with_capacity(2 * (length.len() + key.len())));
    secret.extend(length);
    secret.resize(length.len() + key.len(), 0);
    secret.extend(length);
    secret.extend_from_slice(key);
    secret
}

/// Returns a length as it precedes a field. All fields here are far shorter than 2^16 bytes.
fn length_of(field: &[u8]) -> [u8; 2] {
    u16::try_from(field.len()).unwrap_or_default().to_be_bytes()
}

#[cfg(test)]
#[path = "psk_handshake_tests.rs"]
mod tests;
