//! Credentials, and servers over datagrams.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use saegis_certificate::{
    Anchor, Flavour, KeyKind, Names, OwnCertificate, Trust, TrustBuilder, pem,
};
use saegis_handshake::certificate::{CertificateMapping, Identified, Identifying, Mapped, Shown};
use saegis_handshake::dtls::{Accepted, ClientHello, Credentials, Hello, Read, Server, Transport};
use saegis_handshake::psk::{Answer, CredentialLookup, Looking, Query};
use saegis_onem2m::credential::{Credential, Entity, PresharedKey};
use saegis_onem2m::id::{AeIdStem, CredentialId, CseId};
use saegis_onem2m::saef::Saef;
use saegis_test_ca::{Example, ExampleNames};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

/// The key of the worked example, of 8 bytes as in TS-0003.
pub const KEY: [u8; 8] = [0x1a, 0x2b, 0x3c, 0x4d, 0x5e, 0x6f, 0x7a, 0x8b];
pub const KEY_HEX: &str = "1a2b3c4d5e6f7a8b";
pub const IDENTITY: &str = "AE123456789012-Light@in.provider.com";
/// A test that hangs fails after this time.
pub const BOUND: Duration = Duration::from_secs(60);

/// Knows one identity. It counts lookups, and each takes a time.
#[derive(Default)]
pub struct One {
    pub asked: AtomicUsize,
    pub time: Duration,
}

impl CredentialLookup for One {
    fn lookup(&self, query: Query) -> Looking {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let time = self.time;
        Box::pin(async move {
            tokio::time::sleep(time).await;
            if query.psk_identity != IDENTITY {
                return Answer::Refused("unknown".into());
            }
            Answer::Found(Credential {
                saef: Saef::ProvisionedSymmetricKey,
                entity: Entity::Ae(AeIdStem::parse("Clight-AE1").expect("a stem")),
                id: CredentialId::parse(&format!("12-{IDENTITY}")).expect("an id"),
                expires: None,
                key: PresharedKey::new(&KEY).expect("a key"),
            })
        })
    }
}

/// Maps each certificate, or none.
pub struct Mapping(pub bool);

impl CertificateMapping for Mapping {
    fn identify(&self, shown: Shown) -> Identifying {
        let is_known = self.0;
        Box::pin(async move {
            let identity = shown.verified.identity;
            match (identity.entity(), identity.credential_id()) {
                (Some(entity), Some(credential_id)) if is_known => {
                    Identified::As(Mapped { entity, credential_id, expires: None })
                }
                _ => Identified::Refused("nobody".into()),
            }
        })
    }
}

/// Trusts the authority of the AEs, and that of the CSEs.
pub fn trust(example: &Example) -> Arc<Trust> {
    let names = ExampleNames::default();
    let cse = CseId::parse(&names.mn_cse).expect("a CSE-ID");
    let mut trust = TrustBuilder::new(Names::of(cse, Some(names.service_provider)));
    for (authority, flavour) in
        [(&example.ae_authority, Flavour::AeId), (&example.cse_authority, Flavour::CseId)]
    {
        let anchor = Anchor::new(authority.der().clone(), &[flavour], &[KeyKind::P256], &[]);
        trust.add_anchor(anchor.expect("an anchor"));
    }
    Arc::new(trust.build())
}

/// Returns the certificate of the server.
pub fn server_certificate(example: &Example) -> Arc<OwnCertificate> {
    let key = pem::private_key(example.mn_cse.key_pem().as_bytes()).expect("a key");
    let own = OwnCertificate::new(example.mn_cse.chain().to_vec(), key);
    Arc::new(own.expect("a certificate"))
}

/// Performs handshakes, and answers each message with the same one and the negotiated suite. The
/// first `lost` datagrams of each handshake are lost.
pub async fn echo(server: Server, socket: UdpSocket, lost: usize) {
    let (server, socket) = (Arc::new(server), Arc::new(socket));
    let mut associations: HashMap<_, mpsc::Sender<Vec<u8>>> = HashMap::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let (length, peer) = socket.recv_from(&mut buffer).await.expect("a datagram");
        let datagram = buffer[..length].to_vec();
        // A client that gets no answer repeats its ClientHello.
        if let Some(association) = associations.get(&peer) {
            let _ = association.send(datagram).await;
            continue;
        }
        match server.receive(peer, &datagram, Instant::now()) {
            Hello::Verify(answer) => {
                socket.send_to(&answer, peer).await.expect("it is sent");
            }
            Hello::Verified(hello) => {
                let (sender, incoming) = mpsc::channel(64);
                associations.insert(peer, sender);
                let (server, socket) = (server.clone(), socket.clone());
                tokio::spawn(associate(server, socket, lost, peer, hello, incoming));
            }
            Hello::Invalid => {}
        }
    }
}

async fn associate(
    server: Arc<Server>,
    socket: Arc<UdpSocket>,
    mut lost: usize,
    peer: SocketAddr,
    hello: ClientHello,
    mut incoming: mpsc::Receiver<Vec<u8>>,
) {
    let mut send = |datagram: &[u8]| {
        if lost > 0 {
            lost -= 1;
        } else {
            let _ = socket.try_send_to(datagram, peer);
        }
    };
    let credentials =
        Credentials { lookup: Arc::new(One::default()), mapping: Arc::new(Mapping(true)) };
    let transport = Transport { incoming: &mut incoming, send: &mut send };
    let accepted = server.accept(1, peer, hello, transport, credentials, BOUND).await;
    let Ok(Accepted { mut channel, association, .. }) = accepted else { return };
    while let Some(datagram) = incoming.recv().await {
        let Read::Messages(messages) = channel.receive(datagram) else { return };
        for message in messages {
            channel.send(&[b"echo over ", association.suite.as_bytes(), b": ", &message].concat());
        }
        channel.outgoing().iter().for_each(|datagram| send(datagram));
    }
}
