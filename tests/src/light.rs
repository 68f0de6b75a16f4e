//! An in-process client that uses the OpenSSL library, for suites with more connections than there
//! can be processes.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use openssl::ssl::{Ssl, SslContext, SslFiletype, SslMethod, SslStream, SslVersion};

use crate::certificates::{Identity, TlsProfile};
use crate::client::{Credential, LIGHT1};
use crate::gateway::Gateway;
use crate::http::{Message, Request, Response};
use crate::process::BOUND;
use crate::websocket::{self, WebSocket};

/// A light with an association.
pub struct Light {
    stream: SslStream<TcpStream>,
    read: Vec<u8>,
}

impl Light {
    /// Connects with the mandated suite.
    ///
    /// # Errors
    /// Fails if there is no connection or the handshake is refused.
    pub fn connect(port: u16, credential: Credential<'_>) -> io::Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let socket = TcpStream::connect_timeout(&address, BOUND)?;
        Self::over(socket, credential, BOUND)
    }

    /// Connects over a socket, with a timeout for each read and write.
    ///
    /// # Errors
    /// Fails if the handshake is refused.
    pub fn over(
        socket: TcpStream,
        credential: Credential<'_>,
        bound: Duration,
    ) -> io::Result<Self> {
        let mut context = SslContext::builder(SslMethod::tls_client())?;
        context.set_max_proto_version(Some(SslVersion::TLS1_2))?;
        context.set_cipher_list("PSK-AES128-CBC-SHA256:@SECLEVEL=0")?;
        let identity = [credential.identity.as_bytes(), b"\0"].concat();
        let key = bytes(credential.key);
        context.set_psk_client_callback(move |_, _, identity_out, key_out| {
            identity_out[..identity.len()].copy_from_slice(&identity);
            key_out[..key.len()].copy_from_slice(&key);
            Ok(key.len())
        });
        Self::handshake(&context.build(), socket, bound)
    }

    /// Connects with a certificate over a socket.
    ///
    /// # Errors
    /// Fails if the handshake is refused.
    pub fn with_certificate(
        socket: TcpStream,
        identity: &Identity,
        profile: TlsProfile,
        bound: Duration,
    ) -> io::Result<Self> {
        let mut context = SslContext::builder(SslMethod::tls_client())?;
        if profile == TlsProfile::Tls13 {
            context.set_min_proto_version(Some(SslVersion::TLS1_3))?;
        } else {
            context.set_max_proto_version(Some(SslVersion::TLS1_2))?;
            context.set_cipher_list(profile.cipher())?;
        }
        context.set_certificate_chain_file(&identity.chain)?;
        context.set_private_key_file(&identity.key, SslFiletype::PEM)?;
        Self::handshake(&context.build(), socket, bound)
    }

    fn handshake(context: &SslContext, socket: TcpStream, bound: Duration) -> io::Result<Self> {
        socket.set_read_timeout(Some(bound))?;
        socket.set_write_timeout(Some(bound))?;
        socket.set_nodelay(true)?;
        let connected = Ssl::new(context)?.connect(socket);
        let stream = connected.map_err(|e| io::Error::other(e.to_string()))?;
        Ok(Self { stream, read: Vec::new() })
    }

    /// Sends bytes without reading a response.
    ///
    /// # Errors
    /// Fails if the write times out.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Closes the write side of the socket without close_notify. The read side stays open.
    ///
    /// # Errors
    /// Fails if the connection is gone.
    pub fn half_close(&mut self) -> io::Result<()> {
        self.stream.get_ref().shutdown(std::net::Shutdown::Write)
    }

    /// Sends close_notify. The read side stays open.
    ///
    /// # Errors
    /// Fails if the connection is gone.
    pub fn close_notify(&mut self) -> io::Result<()> {
        self.stream.shutdown().map(drop).map_err(io::Error::other)
    }

    /// Reads at most `bytes.len()` bytes without parsing them.
    ///
    /// # Errors
    /// Fails if the read times out.
    pub fn read_some(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.stream.read(bytes)
    }

    /// Sends a request and reads the response, which must repeat the request identifier.
    ///
    /// # Errors
    /// Fails if the association ends or the read times out.
    pub fn ask(&mut self, request: &Request) -> io::Result<Response> {
        let response = self.exchange(request)?;
        assert_eq!(response.header("x-m2m-ri"), Some(request.id()), "{response:?}");
        Ok(response)
    }

    /// Sends a request that may lack a request identifier, and reads the response.
    ///
    /// # Errors
    /// Fails if the association ends or the read times out.
    pub fn exchange(&mut self, request: &Request) -> io::Result<Response> {
        self.send(&request.bytes())?;
        self.read()
    }

    /// Reads one response.
    ///
    /// # Errors
    /// Fails if the association ends or the read times out.
    pub fn read(&mut self) -> io::Result<Response> {
        let mut chunk = [0; 4096];
        loop {
            if let Some((message, length)) = Message::read(&self.read) {
                self.read.drain(..length);
                return Ok(Response::new(message));
            }
            match self.stream.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => self.read.extend_from_slice(&chunk[..read]),
            }
        }
    }

    /// Waits until the gateway ends the association.
    ///
    /// # Errors
    /// Fails on a timeout or a reset.
    pub fn ended(&mut self) -> io::Result<()> {
        match self.stream.read(&mut [0; 1])? {
            0 => Ok(()),
            _ => Err(io::Error::other("unexpected data")),
        }
    }

    /// Asks for a WebSocket with these header fields besides those that every client sends.
    ///
    /// # Errors
    /// Returns the response of a gateway that refuses.
    pub fn websocket(mut self, fields: &[(&str, &str)]) -> Result<WebSocket, Response> {
        let request = fields.iter().fold(websocket::opening(), |r, (n, v)| r.header(n, v));
        self.send(&request.bytes()).expect("the request can be sent");
        let response = self.read().expect("the gateway answers");
        if response.status() != 101 {
            return Err(response);
        }
        Ok(WebSocket::new(self.stream, self.read, response))
    }

    /// Closes the association.
    pub fn close(mut self) {
        // The peer may be gone already.
        let _ = self.stream.shutdown();
    }
}

pub(crate) fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal digits");
    (0..hex.len()).step_by(2).map(digit).collect()
}

impl Gateway {
    /// Puts a value into the container `lamp` of light 1 over HTTP.
    pub fn switch_light1(&self, value: &str) {
        let mut light = Light::connect(self.port(), LIGHT1).expect("the handshake is accepted");
        let request = Request::create_instance("/cse/light1/lamp", value).from("Clight-AE1");
        light.ask(&request).expect("the gateway answers").expect(201, 2001);
        light.close();
    }
}
