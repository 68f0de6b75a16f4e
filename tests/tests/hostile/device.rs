//! Devices, the behaving and the hostile ones.

use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::Duration;

use saegis_tests::{Credential, Light, Request};

/// Timeout for a connection and for a response.
pub const TIMEOUT: Duration = Duration::from_secs(20);

/// A device with a credential.
pub struct Device {
    identity: String,
    key: String,
    /// AE-ID-Stem of its AE.
    pub stem: String,
    /// The source address of its connections.
    address: Ipv4Addr,
}

/// Connects from a source address.
pub fn connect_from(address: Ipv4Addr, port: u16) -> std::io::Result<TcpStream> {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&socket, &SocketAddrV4::new(address, 0))?;
    connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
    Ok(TcpStream::from(socket))
}

impl Device {
    /// Number `n` of the devices with that prefix.
    pub fn new(prefix: &str, n: impl Into<usize>) -> Self {
        let n = n.into();
        let number = n + if prefix == "good" { 1 } else { 1000 };
        Self {
            identity: format!("{prefix}{n}@in.provider.com"),
            key: format!("c0ffee{number:026x}"),
            stem: format!("C{prefix}{n}"),
            address: Ipv4Addr::LOCALHOST,
        }
    }

    /// The device at another source address: limits for an address do not tie it to others.
    pub fn at(self, address: Ipv4Addr) -> Self {
        Self { address, ..self }
    }

    fn credential(&self) -> Credential<'_> {
        Credential { identity: &self.identity, key: &self.key }
    }

    /// Its row in the look-up table.
    pub fn row(&self) -> String {
        format!("{},{},{}\n", self.stem, self.key, self.identity)
    }

    /// The address of its AE.
    pub fn own(&self) -> String {
        format!("/cse/{}", self.stem)
    }

    /// Connects once.
    pub fn try_connect(&self, port: u16) -> std::io::Result<Light> {
        Light::over(connect_from(self.address, port)?, self.credential(), TIMEOUT)
    }

    /// Connects and registers its AE.
    pub fn register(&self, port: u16) -> Light {
        let mut light = self.try_connect(port).unwrap();
        light.ask(&Request::create_ae(&self.stem).from(&self.stem)).unwrap().expect(201, 2001);
        light
    }
}
