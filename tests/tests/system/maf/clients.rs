//! Clients of a MAF, based on OpenSSL and GnuTLS.

use saegis_tests::{Client, Credential, Gateway, Offer, Request, Response, Tool, seconds_from_now};
use serde_json::{Value, json};

use super::scene::{FQDN, IN_CSE};

/// A key that a client provides.
pub const KEY: &str = "c0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedf";

/// Domain name of the service provider, which is the administrating stakeholder.
pub const ADMIN_FQDN: &str = "in.provider.com";

/// A MAF client with a Km.
pub struct MafClient {
    client: Client,
    id: &'static str,
}

impl MafClient {
    /// Connects.
    #[track_caller]
    pub fn connect(tool: Tool, maf: &Gateway, km: (&str, &str), id: &'static str) -> Self {
        let (identity, key) = km;
        Self { client: tool.connect(maf.port(), Credential { identity, key }), id }
    }

    /// Connects with GnuTLS, without the extended master secret.
    #[track_caller]
    pub fn without_extended_master_secret(
        maf: &Gateway,
        (identity, key): (&str, &str),
        id: &'static str,
    ) -> Self {
        let offer = Offer {
            gnutls: "+PSK:-CIPHER-ALL:+AES-128-CBC:-MAC-ALL:+SHA256:%NO_SESSION_HASH",
            ..Offer::MANDATED
        };
        let client = Tool::GnuTls.try_connect(maf.port(), Credential { identity, key }, offer);
        Self { client: client.unwrap(), id }
    }

    /// Connects and registers as a client.
    #[track_caller]
    pub fn registered(tool: Tool, maf: &Gateway, km: (&str, &str), id: &'static str) -> Self {
        let mut client = Self::connect(tool, maf, km, id);
        client.register().expect(201, 2001);
        client
    }

    /// Sends a request as its own originator.
    #[track_caller]
    pub fn ask(&mut self, request: Request) -> Response {
        self.ask_as(self.id, request)
    }

    /// Sends a request as this originator.
    #[track_caller]
    pub fn ask_as(&mut self, from: &str, request: Request) -> Response {
        self.client.ask(&request.from(from))
    }

    /// Registers as a client for the service provider.
    #[track_caller]
    pub fn register(&mut self) -> Response {
        self.register_for(ADMIN_FQDN)
    }

    /// Registers as a client for this administrating stakeholder.
    #[track_caller]
    pub fn register_for(&mut self, admin: &str) -> Response {
        let content =
            json!({ "sec:mafClientReg": { "et": seconds_from_now(3600), "adfq": admin } });
        self.ask(Request::create("/~/maf/-", 61001, &content))
    }

    /// Registers a key, and returns its identity at a MAF.
    #[track_caller]
    pub fn key_at(&mut self, fqdn: &str, wanted: &KeyRequest<'_>) -> String {
        let relative = self.key(wanted);
        format!("{relative}@{fqdn}")
    }

    /// Registers a key, and returns its RelativeKeyID.
    #[track_caller]
    pub fn key(&mut self, wanted: &KeyRequest<'_>) -> String {
        let registered = self.ask(wanted.request()).expect(201, 2001);
        let content = registered.json();
        let attributes = &content["sec:symmKeyReg"];
        assert_eq!(attributes["keyValue"], Value::Null, "the response contains the key");
        attributes["ri"].as_str().unwrap().into()
    }

    /// Retrieves a key.
    #[track_caller]
    pub fn retrieve(&mut self, relative: &str) -> Response {
        self.ask(Request::retrieve(&format!("/~/maf/{relative}")))
    }
}

/// A requested key registration.
#[derive(Clone, Copy)]
pub struct KeyRequest<'a> {
    pub suid: u8,
    pub targets: &'a [&'a str],
    /// The key. If absent, the MAF uses the session's key.
    pub value: Option<&'a str>,
    pub seconds: u64,
    /// Domain name of the administrating stakeholder.
    pub admin: &'a str,
}

impl KeyRequest<'static> {
    /// A provided key for associations with the IN-CSE.
    pub const USUAL: Self =
        Self { suid: 32, targets: &[IN_CSE], value: Some(KEY), seconds: 3600, admin: ADMIN_FQDN };
}

impl KeyRequest<'_> {
    pub fn request(self) -> Request {
        let mut attributes = json!({
            "et": seconds_from_now(self.seconds),
            "adfq": self.admin,
            "suid": self.suid,
            "tgids": self.targets,
        });
        if let Some(value) = self.value {
            attributes["keyValue"] = value.into();
        }
        Request::create("/~/maf/-", 61002, &json!({ "sec:symmKeyReg": attributes }))
    }
}

/// Returns the psk_identity of a key.
pub fn identity(relative: &str) -> String {
    format!("{relative}@{FQDN}")
}

/// Returns the number of requests that a MAF has answered.
pub fn requests(maf: &Gateway) -> u64 {
    let all = maf.monitor("/metrics").text;
    let each = all.lines().filter(|line| line.starts_with("saegis_requests_total{"));
    each.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// Returns the number of retrieves that a MAF has answered with this code.
pub fn retrievals(maf: &Gateway, rsc: u16) -> f64 {
    let metric = format!("saegis_requests_total{{operation=\"retrieve\",rsc=\"{rsc}\"}}");
    maf.monitor("/metrics").value(&metric)
}
