//! Shared test helpers: a MAF in a temporary folder, and callers.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use saegis_onem2m::credential::PresharedKey;
use saegis_onem2m::exported::Exported;
use saegis_onem2m::id::{AbsoluteId, CredentialId};
use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};

use crate::client::{
    Client, KeyTerms, RegisteredKey, RetrievedKey, Terms, read_registered_key, read_registration,
    read_retrieved_key,
};
use crate::{Caller, Maf, Settings, StoreKey, names};

pub(crate) const FQDN: &str = "maf.provider.com";
pub(crate) const LIGHT: &str = "//in.provider.com/mn-1/Clight";
pub(crate) const GATEWAY: &str = "//in.provider.com/mn-cse-123456";
pub(crate) const OTHER: &str = "//in.provider.com/Sother";

pub(crate) fn id(text: &str) -> AbsoluteId {
    AbsoluteId::parse(text).unwrap()
}

pub(crate) fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

pub(crate) fn store_key(byte: u8) -> StoreKey {
    StoreKey::new(&[byte; 32])
}

pub(crate) fn session(byte: u8) -> Exported {
    Exported::by(|buffer| {
        buffer.fill(byte);
        Ok::<_, ()>(())
    })
    .unwrap()
}

pub(crate) fn settings() -> Settings {
    let mut settings = Settings::new(FQDN).unwrap();
    settings.max_registration_lifetime = Duration::from_secs(1000);
    settings.max_key_lifetime = Duration::from_secs(500);
    settings.max_clients = 4;
    settings.max_keys = 6;
    settings.max_keys_per_client = 4;
    settings
}

/// Returns settings for this number of keys.
pub(crate) fn roomy(keys: u16) -> Settings {
    let mut settings = settings();
    settings.max_keys = keys.into();
    settings.max_keys_per_client = keys;
    settings
}

pub(crate) struct Bench {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) maf: Maf,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(settings())
    }

    pub(crate) fn with(settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let maf = Maf::open(&folder.path().join("maf"), &store_key(1), settings).unwrap();
        Self { folder, maf }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("maf")
    }

    /// Closes and reopens the store, like a restart.
    pub(crate) fn restarted(self) -> Self {
        let Self { folder, maf } = self;
        drop(maf);
        let maf = Maf::open(&folder.path().join("maf"), &store_key(1), settings()).unwrap();
        Self { folder, maf }
    }

    pub(crate) fn ask(
        &self,
        who: &str,
        exported: Option<&Exported>,
        request: &RequestPrimitive,
        now: u64,
    ) -> ResponsePrimitive {
        let allowed = self.maf.asks(&id(who), request, at(now));
        self.maf.handle(&caller(who, exported), request, allowed.as_ref(), at(now))
    }

    /// Returns the code and the text of the response.
    pub(crate) fn code_and_text(
        &self,
        who: &str,
        request: &RequestPrimitive,
        now: u64,
    ) -> (u16, String) {
        code_and_text(&self.ask(who, None, request, now))
    }

    /// Registers a client, and returns its mafClientRegID.
    pub(crate) fn registered(&self, who: &str, until: u64) -> String {
        self.registered_for(who, &terms(until))
    }

    /// Registers a client on these terms, and returns its mafClientRegID.
    pub(crate) fn registered_for(&self, who: &str, terms: &Terms) -> String {
        let request = client(who).register("r", terms).unwrap();
        read_registration(&self.ask(who, None, &request, 0)).unwrap().id
    }

    pub(crate) fn key(&self, source: &str, target: &str, value: u8, until: u64) -> RegisteredKey {
        let request = give(source, target, value, until);
        read_registered_key(&self.ask(source, None, &request, 0), None).unwrap()
    }

    pub(crate) fn fetch(
        &self,
        who: &str,
        key: &str,
        now: u64,
    ) -> Result<RetrievedKey, (u16, String)> {
        let answer = self.ask(who, None, &client(who).retrieve_key("g", key).unwrap(), now);
        read_retrieved_key(&answer).map_err(|_| code_and_text(&answer))
    }
}

pub(crate) fn code_and_text(answer: &ResponsePrimitive) -> (u16, String) {
    let content = answer.content.as_deref().unwrap_or_default();
    (answer.rsc.code(), String::from_utf8(content.to_vec()).unwrap())
}

pub(crate) fn caller<'s>(who: &str, exported: Option<&'s Exported>) -> Caller<'s> {
    Caller {
        id: id(who),
        credential_id: CredentialId::parse("11-x@maf.provider.com").unwrap(),
        exported,
    }
}

pub(crate) fn client(who: &str) -> Client {
    Client::new(id(who), FQDN, names::default_base()).unwrap()
}

pub(crate) fn terms(until: u64) -> Terms {
    Terms::until(at(until), "in.provider.com")
}

pub(crate) fn key_terms(suid: u8, targets: &[&str], until: u64) -> KeyTerms {
    KeyTerms { terms: terms(until), suid, targets: targets.iter().map(|t| id(t)).collect() }
}

/// Returns a key that is not a repeated byte.
pub(crate) fn key_of(value: u8) -> [u8; 32] {
    std::array::from_fn(|n| value.wrapping_add(u8::try_from(n * n % 251).unwrap()))
}

/// Returns the registration of a given key.
pub(crate) fn give(source: &str, target: &str, value: u8, until: u64) -> RequestPrimitive {
    let key = PresharedKey::new(&key_of(value)).unwrap();
    client(source).register_key("k", &key_terms(32, &[target], until), Some(&key)).unwrap()
}

/// Returns the registration of the session's key.
pub(crate) fn export(source: &str, target: &str, until: u64) -> RequestPrimitive {
    client(source).register_key("k", &key_terms(32, &[target], until), None).unwrap()
}
