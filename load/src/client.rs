//! The client's end of every kind of connection.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use anyhow::{Context, Result, bail};
use openssl::ssl::{
    Ssl, SslContext, SslFiletype, SslMethod, SslOptions, SslVerifyMode, SslVersion,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use crate::credentials::{self, Identity};

/// Whom to connect to, and how.
#[derive(clap::Args)]
pub struct Target {
    /// The server.
    #[arg(long)]
    address: SocketAddr,
    /// How to connect.
    #[arg(long, value_enum)]
    way: Way,
    /// The folder of `saegis-load credentials`.
    #[arg(long)]
    folder: PathBuf,
    /// How many identities there are; each connection takes another. Of certificates there are at
    /// most 16.
    #[arg(long, default_value_t = 1)]
    identities: u64,
}

/// How to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Way {
    /// No TLS.
    Plain,
    /// TLS_PSK_WITH_AES_128_CBC_SHA256, which TS-0003 mandates.
    PskCbc,
    /// TLS_PSK_WITH_AES_128_GCM_SHA256.
    PskGcm,
    /// Certificates of P-256 on both sides, TLS 1.2 with AES-128-GCM.
    Tls12,
    /// The same with TLS 1.3.
    Tls13,
}

impl Way {
    /// Whether the peers have a key in common.
    pub fn has_key(self) -> bool {
        matches!(self, Self::PskCbc | Self::PskGcm)
    }
}

/// Connects.
pub struct Client {
    address: SocketAddr,
    /// One for each certificate, and one for all keys.
    contexts: Vec<SslContext>,
    way: Way,
    identities: u64,
}

/// A connection.
pub trait Connection: AsyncRead + AsyncWrite {}
impl<T: AsyncRead + AsyncWrite> Connection for T {}

impl Client {
    /// For a target.
    ///
    /// # Errors
    /// When a file is missing, or OpenSSL does not take what is in it.
    pub fn new(target: &Target) -> Result<Self> {
        let Target { address, way, ref folder, identities } = *target;
        let contexts = match way {
            Way::Plain => Vec::new(),
            Way::PskCbc | Way::PskGcm => vec![context(way, folder, 1)?],
            Way::Tls12 | Way::Tls13 => {
                let aes = 1..=identities.clamp(1, credentials::AES);
                aes.map(|ae| context(way, folder, ae)).collect::<Result<_>>()?
            }
        };
        Ok(Self { address, contexts, way, identities })
    }

    /// A connection, and in whose name one may ask there. Nothing is resumed.
    ///
    /// # Errors
    /// When the handshake fails, or comes to another suite.
    pub async fn connect(&self, number: u64) -> Result<(Pin<Box<dyn Connection>>, String)> {
        let socket = TcpStream::connect(self.address).await.context("no connection")?;
        socket.set_nodelay(true)?;
        let nth = number % (self.contexts.len().max(1) as u64);
        let identity = Identity::of(spread(number, self.identities));
        let originator = match self.way {
            Way::PskCbc | Way::PskGcm => identity.originator.clone(),
            Way::Plain | Way::Tls12 | Way::Tls13 => credentials::ae(nth + 1),
        };
        let context = usize::try_from(nth).ok().and_then(|nth| self.contexts.get(nth));
        let Some(context) = context else { return Ok((Box::pin(socket), originator)) };
        let ssl = session(context, self.way, identity)?;
        let mut stream = Box::pin(SslStream::new(ssl, socket)?);
        stream.as_mut().connect().await.context("the handshake fails")?;
        if stream.ssl().session_reused() {
            bail!("the server has resumed a session");
        }
        Ok((stream, originator))
    }
}

/// Says goodbye, as TLS has it.
///
/// # Errors
/// When the other end is gone already.
pub async fn close(mut stream: Pin<Box<dyn Connection>>) -> Result<()> {
    stream.shutdown().await.context("the server ended the connection first")
}

/// Spreads numbers over the identities, so that neighbors in time are none in a table.
fn spread(number: u64, over: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32) % over.max(1)
}

/// What the client's ends of sessions are made of: a way to connect, with the certificate of an AE
/// where it is one with certificates.
///
/// # Errors
/// When a file is missing, or OpenSSL does not take what is in it.
pub fn context(way: Way, folder: &Path, ae: u64) -> Result<SslContext> {
    let mut builder = SslContext::builder(SslMethod::tls_client())?;
    builder.set_options(SslOptions::NO_TICKET | SslOptions::NO_COMPRESSION);
    let version = if way == Way::Tls13 { SslVersion::TLS1_3 } else { SslVersion::TLS1_2 };
    builder.set_min_proto_version(Some(version))?;
    builder.set_max_proto_version(Some(version))?;
    match way {
        Way::PskCbc => builder.set_cipher_list("PSK-AES128-CBC-SHA256")?,
        Way::PskGcm => builder.set_cipher_list("PSK-AES128-GCM-SHA256")?,
        Way::Tls12 => builder.set_cipher_list("ECDHE-ECDSA-AES128-GCM-SHA256")?,
        Way::Tls13 => builder.set_ciphersuites("TLS_AES_128_GCM_SHA256")?,
        Way::Plain => {}
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
        builder.set_certificate_chain_file(folder.join(format!("client-{ae}.pem")))?;
        let key = folder.join(format!("client-{ae}.key"));
        builder.set_private_key_file(key, SslFiletype::PEM)?;
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

/// The client's end of a session.
///
/// # Errors
/// When OpenSSL has no memory for it.
pub fn session(context: &SslContext, way: Way, identity: Identity) -> Result<Ssl> {
    let mut ssl = Ssl::new(context)?;
    if way.has_key() {
        ssl.set_ex_data(index()?, identity);
    } else {
        ssl.set_hostname(credentials::SERVER)?;
    }
    Ok(ssl)
}
