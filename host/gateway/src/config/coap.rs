//! The table `[coap]`.

use std::time::Duration;

use saegis_handshake::{Suite, suites};
use saegis_policy::Document;
use serde::Deserialize;

use super::ListenAddress;
use super::telemetry::parsed_if_there;

/// Minimum size of a datagram: each protocol below CoAP carries it (RFC 6347 clause 4.1.1.1).
const MIN_DATAGRAM: usize = 256;
/// Maximum size of the messages of CoAP, in bytes (RFC 7252 clause 4.6).
const MAX_MESSAGE: usize = 1152;
/// Maximum number of bytes that DTLS adds to a message: header, initialization vector, padding and
/// authentication code.
const OF_RECORD: usize = 13 + 16 + 16 + 32;

/// The CoAP binding over DTLS (TS-0008).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Coap {
    /// Address and port of the CoAP server over DTLS, such as `127.0.0.1:5684`. Without it there is
    /// none. On a machine with several addresses, name one: with `:5684`, an answer may leave from
    /// another address than that of the request.
    #[serde(deserialize_with = "parsed_if_there")]
    pub listen: Option<ListenAddress>,
    /// Registered names of the cipher suites for pre-shared keys over DTLS, in order of preference.
    #[serde(deserialize_with = "suites")]
    pub suites: Vec<Suite>,
    /// Code that performs handshakes with TLS_PSK_WITH_AES_128_CCM_8: `openssl`, or `native` for code
    /// of this project. That one needs less processor time. It is experimental: nobody else has reviewed it
    /// yet.
    pub psk_engine: PskEngine,
    /// Maximum size of a datagram that is sent, in bytes. Larger handshake messages are fragmented,
    /// and larger responses are sent in blocks.
    pub datagram_bytes: usize,
    /// Time without any message after which an association ends, in seconds. A device that sleeps
    /// for longer repeats the handshake.
    pub idle_seconds: u64,
    /// Memory for transfers in blocks of all associations, in bytes. When it is used up, the
    /// credential that uses the most loses its oldest transfer.
    pub transfer_bytes: usize,
    /// Time after which an unfinished transfer in blocks is dropped, in seconds.
    pub transfer_seconds: u64,
}

/// The code that performs handshakes with TLS_PSK_WITH_AES_128_CCM_8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PskEngine {
    /// OpenSSL.
    #[default]
    Openssl,
    /// This project.
    Native,
}

impl From<PskEngine> for saegis_handshake::dtls::PskEngine {
    fn from(engine: PskEngine) -> Self {
        match engine {
            PskEngine::Openssl => Self::OpenSsl,
            PskEngine::Native => Self::Native,
        }
    }
}

impl Default for Coap {
    fn default() -> Self {
        Self {
            listen: None,
            suites: Suite::DEFAULT_OF_DATAGRAMS.to_vec(),
            psk_engine: PskEngine::default(),
            datagram_bytes: 1200,
            idle_seconds: 4 * 3600,
            transfer_bytes: 16 << 20,
            transfer_seconds: 247,
        }
    }
}

impl Coap {
    /// Returns the time without any message after which an association ends.
    pub fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_seconds)
    }

    /// Returns the time after which an unfinished transfer is dropped.
    pub fn transfer(&self) -> Duration {
        Duration::from_secs(self.transfer_seconds)
    }

    /// Returns the maximum size of a message that is sent, in bytes.
    pub fn max_message(&self) -> usize {
        MAX_MESSAGE.min(self.datagram_bytes.saturating_sub(OF_RECORD))
    }

    /// Adds a fault for each invalid option.
    pub(super) fn check(&self, document: &mut Document<'_>) {
        if !(MIN_DATAGRAM..=MAX_MESSAGE + OF_RECORD).contains(&self.datagram_bytes) {
            let what = format!("must be from {MIN_DATAGRAM} to {}", MAX_MESSAGE + OF_RECORD);
            document.add_fault("coap.datagram-bytes", &what);
        }
        if !(1 << 20..=1 << 30).contains(&self.transfer_bytes) {
            document.add_fault("coap.transfer-bytes", "must be from 1048576 to 1073741824");
        }
        for (entry, seconds) in [
            ("coap.idle-seconds", self.idle_seconds),
            ("coap.transfer-seconds", self.transfer_seconds),
        ] {
            if !(1..=365 * 24 * 3600).contains(&seconds) {
                document.add_fault(entry, "must be from 1 second to a year");
            }
        }
    }
}
