//! Client side of each kind of connection.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use openssl::pkey::{PKey, Private};
use openssl::ssl::{Ssl, SslContext, SslMethod, SslOptions, SslVerifyMode, SslVersion};
use openssl::x509::X509;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;
use tokio_openssl::SslStream;

use crate::credentials::{self, CLIENT_CERTIFICATES, CLIENT_KEYS, Identity};
use crate::datagrams::Datagrams;
use crate::resuming::ResumingDevices;

/// The server, and the kind of connection.
#[derive(clap::Args)]
pub struct Target {
    /// The server.
    #[arg(long)]
    address: SocketAddr,
    /// Kind of connection.
    #[arg(long, value_enum)]
    way: Way,
    /// The folder of `saegis-load credentials`.
    #[arg(long)]
    folder: PathBuf,
    /// Number of identities. For keys, the number in the server's table; for certificates, the
    /// maximum.
    #[arg(long, default_value_t = 1)]
    identities: u64,
    /// Number of devices, by default one for each identity. The devices connect in turn.
    #[arg(long)]
    devices: Option<u64>,
    /// Use AE-ID-Stems as psk_identities, for a server that compares topics with them.
    #[arg(long)]
    ae_ids: bool,
}

/// Kind of connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Way {
    /// No TLS.
    Plain,
    /// TLS_PSK_WITH_AES_128_CBC_SHA256, which TS-0003 mandates.
    PskCbc,
    /// TLS_PSK_WITH_AES_128_GCM_SHA256.
    PskGcm,
    /// DTLS with TLS_PSK_WITH_AES_128_CCM_8, which TS-0003 mandates for constrained devices.
    DtlsPskCcm8,
    /// P-256 certificates on both sides, TLS 1.2 with AES-128-GCM.
    Tls12,
    /// P-256 certificates with TLS 1.3.
    Tls13,
    /// P-256 certificates with a resumed TLS 1.3 session.
    Tls13Resumed,
}

impl Way {
    /// Returns whether the peers share a key.
    pub fn has_key(self) -> bool {
        matches!(self, Self::PskCbc | Self::PskGcm | Self::DtlsPskCcm8)
    }
}

/// A client that creates connections.
pub struct Client {
    address: SocketAddr,
    /// Whether the connections are over UDP.
    datagrams: bool,
    /// Absent without TLS.
    context: Option<SslContext>,
    /// Empty without certificates.
    certificates: Vec<Certificate>,
    identities: u64,
    devices: u64,
    ae_ids: bool,
    /// Present if sessions are resumed.
    resuming: Option<ResumingDevices>,
}

/// A connection.
pub trait Connection: AsyncRead + AsyncWrite {}
impl<T: AsyncRead + AsyncWrite> Connection for T {}

impl Client {
    /// Returns a client for a target.
    ///
    /// # Errors
    /// Fails if a file is missing or OpenSSL refuses it.
    pub fn new(target: &Target) -> Result<Self> {
        let Target { address, way, ref folder, identities, devices, ae_ids } = *target;
        let mut client = Self {
            address,
            datagrams: way == Way::DtlsPskCcm8,
            context: None,
            certificates: Vec::new(),
            identities,
            devices: devices.unwrap_or(identities).max(1),
            ae_ids,
            resuming: None,
        };
        match way {
            Way::Tls13Resumed => {
                client.resuming = Some(ResumingDevices::read(address, folder, client.devices)?);
                client.devices = 1;
            }
            Way::Plain => {}
            Way::PskCbc | Way::PskGcm | Way::DtlsPskCcm8 | Way::Tls12 | Way::Tls13 => {
                client.context = Some(context(way, folder)?);
            }
        }
        if matches!(way, Way::Tls12 | Way::Tls13) {
            client.certificates = Certificate::read(folder, client.devices)?;
            let number = client.certificates.len() as u64;
            if (1..client.devices).contains(&number) {
                ensure!(devices.is_none(), "{number} certificates, {} devices", client.devices);
                client.devices = number;
            }
        }
        Ok(client)
    }

    /// Connects, and returns the connection with its originator. Only [`Way::Tls13Resumed`] resumes
    /// sessions.
    ///
    /// # Errors
    /// Fails if the handshake fails or negotiates another suite.
    pub async fn connect(&self, number: u64) -> Result<(Pin<Box<dyn Connection>>, String)> {
        if let Some(devices) = &self.resuming {
            let (stream, originator) = devices.connect().await?;
            return Ok((Box::pin(stream), originator));
        }
        let socket = self.socket().await.context("no connection")?;
        let device = number % self.devices;
        let Some(context) = &self.context else {
            return Ok((socket, credentials::ae(1)));
        };
        let certificate =
            usize::try_from(device).ok().and_then(|device| self.certificates.get(device));
        let (ssl, originator) = match certificate {
            Some(certificate) => (certificate.session(context)?, credentials::ae(device + 1)),
            None => {
                let mut identity = Identity::of(spread(device, self.identities));
                if self.ae_ids {
                    identity.psk_identity.clone_from(&identity.originator);
                }
                let originator = identity.originator.clone();
                let mut ssl = key_session(context, identity)?;
                if self.datagrams {
                    ssl.set_mtu(MAX_DATAGRAM)?;
                }
                (ssl, originator)
            }
        };
        let mut stream = Box::pin(SslStream::new(ssl, socket)?);
        let handshake = timeout(HANDSHAKE_TIMEOUT, stream.as_mut().connect()).await;
        handshake.context("the handshake does not end")?.context("the handshake fails")?;
        if stream.ssl().session_reused() {
            bail!("the server has resumed a session");
        }
        Ok((stream, originator))
    }

    async fn socket(&self) -> std::io::Result<Pin<Box<dyn Connection>>> {
        if self.datagrams {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            socket.connect(self.address).await?;
            return Ok(Box::pin(Datagrams(socket)));
        }
        let socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        Ok(Box::pin(socket))
    }
}

/// Maximum size of a datagram of the handshake, in bytes.
const MAX_DATAGRAM: u32 = 1200;
/// Timeout for a handshake. Lost datagrams are not repeated.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A prime, so that [`spread`] is a permutation.
const STEP: u64 = 2_654_435_761;

/// Spreads numbers over fewer than 2^32 identities, so that consecutive connections use distant table
/// rows. Each identity has its turn before one is used again.
fn spread(number: u64, over: u64) -> u64 {
    let over = over.max(1);
    (number % over).wrapping_mul(STEP) % over
}

/// Configures the client side of a kind of connection.
///
/// # Errors
/// Fails if a file is missing or OpenSSL refuses it.
pub fn context(way: Way, folder: &Path) -> Result<SslContext> {
    let (method, version) = match way {
        Way::DtlsPskCcm8 => (SslMethod::dtls_client(), SslVersion::DTLS1_2),
        Way::Tls13 => (SslMethod::tls_client(), SslVersion::TLS1_3),
        Way::Plain | Way::PskCbc | Way::PskGcm | Way::Tls12 | Way::Tls13Resumed => {
            (SslMethod::tls_client(), SslVersion::TLS1_2)
        }
    };
    let mut builder = SslContext::builder(method)?;
    builder.set_options(SslOptions::NO_TICKET | SslOptions::NO_COMPRESSION);
    builder.set_min_proto_version(Some(version))?;
    builder.set_max_proto_version(Some(version))?;
    match way {
        Way::PskCbc => builder.set_cipher_list("PSK-AES128-CBC-SHA256")?,
        Way::PskGcm => builder.set_cipher_list("PSK-AES128-GCM-SHA256")?,
        Way::DtlsPskCcm8 => {
            builder.set_cipher_list("PSK-AES128-CCM8:@SECLEVEL=0")?;
            builder.set_options(SslOptions::NO_QUERY_MTU);
        }
        Way::Tls12 => builder.set_cipher_list("ECDHE-ECDSA-AES128-GCM-SHA256")?,
        Way::Tls13 => builder.set_ciphersuites("TLS_AES_128_GCM_SHA256")?,
        Way::Plain | Way::Tls13Resumed => {}
    }
    if way.has_key() {
        builder.set_psk_client_callback(|ssl, _, identity, key| {
            let own = index().ok().and_then(|index| ssl.ex_data(index));
            let Some(own) = own else { return Ok(0) };
            // A C string.
            let name = own.psk_identity.as_bytes();
            let (Some(place), Some(end)) =
                (key.get_mut(..own.key.len()), identity.get_mut(..=name.len()))
            else {
                return Ok(0);
            };
            place.copy_from_slice(&own.key);
            if let Some((nul, text)) = end.split_last_mut() {
                text.copy_from_slice(name);
                *nul = 0;
            }
            Ok(own.key.len())
        });
    } else {
        builder.set_groups_list("X25519:P-256")?;
        builder.set_ca_file(folder.join("server-ca.pem"))?;
        builder.set_verify(SslVerifyMode::PEER);
    }
    Ok(builder.build())
}

fn index() -> Result<openssl::ex_data::Index<Ssl, Identity>, openssl::error::ErrorStack> {
    static INDEX: std::sync::OnceLock<openssl::ex_data::Index<Ssl, Identity>> =
        std::sync::OnceLock::new();
    if let Some(index) = INDEX.get() {
        return Ok(*index);
    }
    let index = Ssl::new_ex_index()?;
    Ok(*INDEX.get_or_init(|| index))
}

/// Returns a client session with the key of an identity.
///
/// # Errors
/// Fails if OpenSSL cannot allocate it.
pub fn key_session(context: &SslContext, identity: Identity) -> Result<Ssl> {
    let mut ssl = Ssl::new(context)?;
    ssl.set_ex_data(index()?, identity);
    Ok(ssl)
}

/// The certificate of an AE and its key.
pub struct Certificate {
    certificate: X509,
    key: PKey<Private>,
}

impl Certificate {
    /// Reads the first `number` certificates, or all if there are fewer.
    ///
    /// # Errors
    /// Fails if there are none, or if OpenSSL refuses a file.
    pub fn read(folder: &Path, number: u64) -> Result<Vec<Self>> {
        let read = |name| std::fs::read_to_string(folder.join(name)).context(name);
        let number = usize::try_from(number)?;
        let certificates = X509::stack_from_pem(read(CLIENT_CERTIFICATES)?.as_bytes())?;
        let keys = read(CLIENT_KEYS)?;
        let keys = keys.split_inclusive("-----END PRIVATE KEY-----\n");
        let read = certificates.into_iter().zip(keys).take(number).map(|(certificate, key)| {
            Ok(Self { certificate, key: PKey::private_key_from_pem(key.as_bytes())? })
        });
        let read = read.collect::<Result<Vec<_>>>()?;
        ensure!(!read.is_empty(), "there are no certificates");
        Ok(read)
    }

    /// Returns a client session.
    ///
    /// # Errors
    /// Fails if OpenSSL cannot allocate it.
    pub fn session(&self, context: &SslContext) -> Result<Ssl> {
        let mut ssl = Ssl::new(context)?;
        ssl.set_hostname(credentials::SERVER)?;
        ssl.set_certificate(&self.certificate)?;
        ssl.set_private_key(&self.key)?;
        Ok(ssl)
    }
}
