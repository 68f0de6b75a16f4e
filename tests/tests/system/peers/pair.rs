//! A home gateway and the IN-CSE that it registers with.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use saegis_test_ca::{Example, ExampleNames};
use saegis_tests::{Credential, Gateway, LIGHT1, Setup};

/// The phone, an AE of the IN-CSE.
pub const PHONE: Credential<'static> =
    Credential { identity: "phone@in.provider.com", key: "00112233445566778899aabbccddeeff" };
/// The home gateway's credential at the IN-CSE, for pairs with keys.
pub const MN_CREDENTIAL: Credential<'static> =
    Credential { identity: "mn@in.provider.com", key: "0f0e0d0c0b0a09080706050403020100" };
/// AE-ID of the light.
pub const LIGHT: &str = "Clight-AE1";
/// CSE-ID of the home gateway.
pub const MN: &str = "mn-cse-123456";

/// Credentials of the two CSEs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saef {
    /// Pre-shared keys.
    Psk,
    /// Certificates.
    Certificates,
}

/// Credentials that the CSEs present to each other.
const MN_KEY: &str =
    "kpsa-id = \"mn@in.provider.com\", kpsa = \"0f0e0d0c0b0a09080706050403020100\"";
const IN_KEY: &str =
    "kpsa-id = \"in@in.provider.com\", kpsa = \"ff0e0d0c0b0a09080706050403020100\"";

/// Returns a listening socket and its port, which is known before the gateway starts.
pub fn listening_socket() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Settings of the two gateways, with each other's address.
pub struct Pair {
    /// The IN-CSE.
    pub infrastructure: Setup,
    /// The home gateway.
    pub home: Setup,
    /// Certificates of the two gateways, if any.
    pub example: Option<Example>,
    /// Port of the IN-CSE.
    pub in_port: u16,
}

impl Pair {
    /// Returns two gateways with these credentials.
    pub fn new(saef: Saef) -> Self {
        Self::with_address(saef, |port| format!("127.0.0.1:{port}"))
    }

    /// Returns two gateways. The home gateway reaches the IN-CSE at an address, given the port of
    /// its TLS listener.
    pub fn with_address(saef: Saef, in_address: impl FnOnce(u16) -> String) -> Self {
        let ((in_socket, in_port), (mn_socket, mn_port)) = (listening_socket(), listening_socket());
        let peer = |cse: &str, address: &str, key: &str, more: &str| {
            let credential = match saef {
                Saef::Psk => format!("credential = {{ {key} }}"),
                Saef::Certificates => String::new(),
            };
            format!("cse-id = \"{cse}\"\naddress = \"{address}\"\n{credential}\n{more}")
        };
        let phone = format!("Cphone,,{},{}\n", PHONE.key, PHONE.identity);
        let mn_row = format!(",{MN},0f0e0d0c0b0a09080706050403020100,mn@in.provider.com\n");
        let in_row = ",in-cse,ff0e0d0c0b0a09080706050403020100,in@in.provider.com\n";
        let light = format!("{LIGHT},,{},{}\n", LIGHT1.key, LIGHT1.identity);
        let header = "ae_id,cse_id,kpsa,kpsa_id\n";
        let table = |own: &str, other: &str| match saef {
            Saef::Psk => format!("{header}{own}{other}"),
            Saef::Certificates => format!("{header}{own}"),
        };
        let poa = format!("point-of-access = [\"https://127.0.0.1:{mn_port}\"]");
        let up = format!("register = true\nregistration-seconds = 12\n{poa}");
        let mut pair = Self {
            example: None,
            in_port,
            infrastructure: Setup::new()
                .with_cse("in-cse", "IN-CSE")
                .with("[peer]", &peer(MN, &format!("127.0.0.1:{mn_port}"), IN_KEY, ""))
                .file("psk-lookup-table.csv", &table(&phone, &mn_row))
                .with_descriptor(in_socket),
            home: Setup::new()
                .with("[peer]", &peer("in-cse", &in_address(in_port), MN_KEY, &up))
                .file("psk-lookup-table.csv", &table(&light, in_row))
                .with_descriptor(mn_socket),
        };
        if saef == Saef::Certificates {
            let names = ExampleNames {
                service_provider: "in.provider.com".into(),
                in_cse: "in-cse".into(),
                mn_cse: MN.into(),
                ..ExampleNames::default()
            };
            let example = Example::new(&names).unwrap();
            for (setup, own) in
                [(&pair.infrastructure, &example.in_cse), (&pair.home, &example.mn_cse)]
            {
                setup.write("policies/own.pem", own.chain_pem().as_bytes());
                setup.write("policies/own.key", own.key_pem().as_bytes());
                let key = setup.path("policies/own.key");
                fs::set_permissions(key, Permissions::from_mode(0o600)).unwrap();
                setup.write("policies/cse-ca.pem", example.cse_authority.pem().as_bytes());
                setup.write(
                    "policies/certificates.toml",
                    b"[[own]]\ncertificate = \"own.pem\"\nkey = \"own.key\"\n\n\
                      [[anchor]]\ncertificate = \"cse-ca.pem\"\nflavours = [\"cse-id\"]\n",
                );
            }
            pair.example = Some(example);
        }
        pair
    }

    /// Starts both gateways and waits for the registration.
    pub fn start(self) -> (Gateway, Gateway) {
        let infrastructure = self.infrastructure.start();
        let home = self.home.start();
        home.log().wait("peer.registered");
        (infrastructure, home)
    }
}
