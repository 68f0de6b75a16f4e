//! Devices that resume their sessions of TLS 1.3.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use anyhow::{Context, Result, bail};
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use saegis_certificate::pem;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::credentials::{self, CLIENT_CERTIFICATES, CLIENT_KEYS};

/// Devices with a certificate and a ticket each. One connects at a time.
pub struct ResumingDevices {
    address: SocketAddr,
    server: ServerName<'static>,
    idle: Rc<RefCell<VecDeque<Device>>>,
}

struct Device {
    connector: TlsConnector,
    originator: String,
    has_ticket: bool,
}

impl ResumingDevices {
    /// Reads the first `number` certificates.
    ///
    /// # Errors
    /// If a file is missing or malformed.
    pub fn read(address: SocketAddr, folder: &Path, number: u64) -> Result<Self> {
        let read = |name| std::fs::read_to_string(folder.join(name)).context(name);
        let mut roots = RootCertStore::empty();
        for root in pem::certificates(read("server-ca.pem")?.as_bytes())? {
            roots.add(root)?;
        }
        let roots = Arc::new(roots);
        let certificates = pem::certificates(read(CLIENT_CERTIFICATES)?.as_bytes())?;
        let keys = read(CLIENT_KEYS)?;
        let keys = keys.split_inclusive("-----END PRIVATE KEY-----\n");
        let number = usize::try_from(number)?;
        let devices = certificates.into_iter().zip(keys).take(number).zip(1..);
        let devices = devices.map(|((certificate, key), number)| {
            let builder = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
                .with_root_certificates(roots.clone());
            let key = pem::private_key(key.as_bytes())?;
            let mut config = builder.with_client_auth_cert(vec![certificate], key)?;
            config.resumption = Resumption::in_memory_sessions(2);
            let connector = TlsConnector::from(Arc::new(config));
            Ok(Device { connector, originator: credentials::ae(number), has_ticket: false })
        });
        let idle = Rc::new(RefCell::new(devices.collect::<Result<_>>()?));
        Ok(Self { address, server: ServerName::try_from(credentials::SERVER)?, idle })
    }

    /// Connects as the device that has been idle for longest.
    ///
    /// # Errors
    /// If the handshake fails, or if the server does not resume a session.
    pub async fn connect(&self) -> Result<(Resuming, String)> {
        let device = self.idle.borrow_mut().pop_front();
        let mut device = device.context("fewer devices than connections at a time")?;
        let socket = TcpStream::connect(self.address).await.context("no connection")?;
        socket.set_nodelay(true)?;
        let stream = device.connector.connect(self.server.clone(), socket).await;
        let stream = stream.context("the handshake fails")?;
        let kind = stream.get_ref().1.handshake_kind();
        if device.has_ticket && kind != Some(HandshakeKind::Resumed) {
            bail!("the server does not resume the session");
        }
        device.has_ticket = true;
        let originator = device.originator.clone();
        Ok((Resuming { stream, device: Some(device), idle: self.idle.clone() }, originator))
    }
}

/// A connection of a device, which is idle again when this is dropped.
pub struct Resuming {
    stream: TlsStream<TcpStream>,
    device: Option<Device>,
    idle: Rc<RefCell<VecDeque<Device>>>,
}

impl Drop for Resuming {
    fn drop(&mut self) {
        self.idle.borrow_mut().extend(self.device.take());
    }
}

impl AsyncRead for Resuming {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Resuming {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
