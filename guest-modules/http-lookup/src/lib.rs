//! An example of a module with I/O: it asks a key server for the key of an identity, over HTTP, and keeps
//! what it was told for a while.
//!
//! Its configuration says where the server is (`url`, to which the identity is appended), with what it is
//! asked (`token`, a secret), whose identities it knows (`domain`, what is behind the `@`), and for how
//! many seconds an answer is kept (`cache-seconds`, 60 if it says nothing). The server answers 404 for an
//! identity that it does not know, and 200 with JSON for one that it does:
//!
//! ```json
//! { "ae-id": "Clamp-7", "key": "1a2b3c4d5e6f7a8b" }
//! ```
//!
//! It needs `outgoing-http`, `key-value`, `config`, `clock`, `log`, and `supply-key-bytes`, for the keys come
//! from outside. Whoever can write its store can say who has which key, as the server can.

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

/// What the server says of an identity.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Found {
    ae_id: String,
    /// In hexadecimal digits.
    key: String,
}

/// The same, as it is kept.
#[derive(Deserialize, Serialize)]
struct Kept {
    /// When the server was asked, in seconds since 1970.
    at: u64,
    /// Where it is: another one has not said it.
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
            return refused("cache-seconds is no number of seconds");
        };
        // What is kept is a favor: without the store the server is asked each time.
        let bucket = store::open("").ok();
        let kept = bucket.as_ref().and_then(|bucket| kept(bucket, &url, &identity, seconds));
        if let Some(found) = kept {
            return credential(&identity, &found);
        }
        let found = match ask(&url, &identity) {
            Ok(Some(found)) => found,
            Ok(None) => return Answer::NotMine,
            Err(why) => return refused(&why),
        };
        let answer = credential(&identity, &found);
        if let Some(bucket) = &bucket {
            Kept { at: clock::now(), url, found }.keep(bucket, &identity);
        }
        answer
    }
}

/// What a value of the configuration is.
fn configured(name: &str) -> Option<String> {
    config::get(name).ok().flatten()
}

/// Asks the server at `url`; none, where it does not know the identity.
fn ask(url: &str, identity: &str) -> Result<Option<Found>, String> {
    let token = configured("token").ok_or("no token is configured")?;
    let answer = http::get(&format!("{url}{}", http::escaped(identity)), &token)?;
    match answer.status {
        200 => match serde_json::from_slice(&answer.content) {
            Ok(found) => Ok(Some(found)),
            // Its text could be the key.
            Err(_) => Err("the key server's answer is not of the form that it should be".into()),
        },
        404 => Ok(None),
        other => Err(format!("the key server answers {other}")),
    }
}

/// What this server has said no longer ago than it may be kept. What it has said in a time to come was
/// said by another clock.
fn kept(bucket: &Bucket, url: &str, identity: &str, seconds: u64) -> Option<Found> {
    let kept: Kept = serde_json::from_slice(&bucket.get(identity).ok()??).ok()?;
    let age = clock::now().checked_sub(kept.at)?;
    (kept.url == url && age < seconds).then_some(kept.found)
}

impl Kept {
    fn keep(&self, bucket: &Bucket, identity: &str) {
        let Ok(text) = serde_json::to_vec(self) else { return };
        if let Err(e) = bucket.set(identity, &text) {
            log::write(log::Level::Warn, &format!("the answer is not kept: {e:?}"));
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
        None => refused("the key server's key is none"),
    }
}

fn refused(why: &str) -> Answer {
    Answer::Refused(why.into())
}

/// The bytes that hexadecimal digits stand for.
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
