//! Example of a module with I/O: requests the key of an identity from a key server over HTTP, and
//! caches the response.
//!
//! Its configuration has the URL of the server (`url`, to which the identity is appended), the
//! bearer token (`token`, a secret), and the domain of its identities (`domain`, the part after the
//! `@`). `cache-seconds` is the lifetime of a cached response (default 60). The server responds
//! with 404 for an unknown identity, and with 200 and JSON for a known one:
//!
//! ```json
//! { "ae-id": "Clamp-7", "key": "1a2b3c4d5e6f7a8b" }
//! ```
//!
//! It needs `outgoing-http`, `key-value`, `config`, `clock`, `log`, and, because the keys come from
//! outside, `supply-key-bytes`. Write access to its store allows control over all keys, like
//! control over the server.

#[allow(unsafe_code, missing_docs, clippy::all, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package saegis:http-lookup;
            world http-lookup {
                import saegis:policy/clock@0.1.0;
                import saegis:policy/log@0.1.0;
                import saegis:policy/supply-key-bytes@0.1.0;
                import wasi:config/store@0.2.0-rc.1;
                import wasi:http/outgoing-handler@0.2.12;
                import wasi:keyvalue/store@0.2.0-draft;
                export saegis:policy/credential-lookup@0.1.0;
            }
        ",
        generate_all,
    });
    export!(HttpLookup);
    use super::HttpLookup;
}

mod http;

use bindings::exports::saegis::policy::credential_lookup::{Answer, Credential, Guest, Query};
use bindings::saegis::policy::types::Entity;
use bindings::saegis::policy::{clock, log, supply_key_bytes};
use bindings::wasi::config::store as config;
use bindings::wasi::keyvalue::store::{self, Bucket};
use serde::{Deserialize, Serialize};

struct HttpLookup;

/// Response of the server about an identity.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Found {
    ae_id: String,
    /// In hexadecimal digits.
    key: String,
}

/// Cached response.
#[derive(Deserialize, Serialize)]
struct CachedResponse {
    /// Time of the request, in seconds since 1970.
    at: u64,
    /// URL of the server: a response of another server is not used.
    url: String,
    found: Found,
}

impl Guest for HttpLookup {
    fn lookup(query: Query) -> Answer {
        let identity = query.psk_identity;
        let Some(domain) = configured("domain") else { return refused("no domain is configured") };
        if identity.rsplit_once('@').is_none_or(|(_, behind)| behind != domain) {
            return Answer::NotMine;
        }
        let Some(url) = configured("url") else { return refused("no url is configured") };
        let seconds = configured("cache-seconds").unwrap_or_else(|| "60".into());
        let Ok(seconds) = seconds.parse() else {
            return refused("cache-seconds is not a number of seconds");
        };
        // The cache is optional: without the store, each lookup sends a request.
        let bucket = store::open("").ok();
        let cached = bucket.as_ref().and_then(|bucket| cached(bucket, &url, &identity, seconds));
        if let Some(found) = cached {
            return credential(&identity, &found);
        }
        let found = match ask(&url, &identity) {
            Ok(Some(found)) => found,
            Ok(None) => return Answer::NotMine,
            Err(why) => return refused(&why),
        };
        let answer = credential(&identity, &found);
        if let Some(bucket) = &bucket {
            CachedResponse { at: clock::now(), url, found }.store(bucket, &identity);
        }
        answer
    }
}

/// Returns a value of the configuration.
fn configured(name: &str) -> Option<String> {
    config::get(name).ok().flatten()
}

/// Sends a request to the server at `url`. Returns `None` if the server does not know the identity.
fn ask(url: &str, identity: &str) -> Result<Option<Found>, String> {
    let token = configured("token").ok_or("no token is configured")?;
    let answer = http::get(&format!("{url}{}", http::escaped(identity)), &token)?;
    match answer.status {
        200 => match serde_json::from_slice(&answer.content) {
            Ok(found) => Ok(Some(found)),
            // The text could be the key.
            Err(_) => Err("the response of the key server is not valid".into()),
        },
        404 => Ok(None),
        other => Err(format!("the key server responded with {other}")),
    }
}

/// Returns the cached response of this server, if it is recent enough. A time in the future comes
/// from another clock.
fn cached(bucket: &Bucket, url: &str, identity: &str, seconds: u64) -> Option<Found> {
    let cached: CachedResponse = serde_json::from_slice(&bucket.get(identity).ok()??).ok()?;
    let age = clock::now().checked_sub(cached.at)?;
    (cached.url == url && age < seconds).then_some(cached.found)
}

impl CachedResponse {
    fn store(&self, bucket: &Bucket, identity: &str) {
        let Ok(text) = serde_json::to_vec(self) else { return };
        if let Err(e) = bucket.set(identity, &text) {
            let why = match &e {
                store::Error::Other(why) => why,
                store::Error::NoSuchStore | store::Error::AccessDenied => "no access to the store",
            };
            log::write(log::Level::Warn, &format!("cannot cache the response: {why}"));
        }
    }
}

fn credential(identity: &str, found: &Found) -> Answer {
    match bytes(&found.key).and_then(|key| supply_key_bytes::supply(&key)) {
        Some(key) => Answer::Found(Credential {
            entity: Entity::Ae(found.ae_id.clone()),
            credential_id: format!("12-{identity}"),
            expires: None,
            key,
        }),
        None => refused("the key server returned an invalid key"),
    }
}

fn refused(why: &str) -> Answer {
    Answer::Refused(why.into())
}

/// Decodes hexadecimal digits.
fn bytes(digits: &str) -> Option<Vec<u8>> {
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|v| u8::try_from(v).ok());
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(value(*high)? << 4 | value(*low)?),
        _ => None,
    };
    digits.as_bytes().chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn digits_stand_for_bytes() {
        assert_eq!(bytes("00fFa1"), Some(vec![0, 255, 161]));
        assert_eq!(bytes(""), Some(Vec::new()));
        for other in ["0", "0x", "00 1", "gg", "é"] {
            assert_eq!(bytes(other), None, "{other}");
        }
    }
}
