//! Addresses of the notification relay, which replace points of access of AEs.
//!
//! An address contains everything that is needed to forward a notification:
//! `http://RELAY/MAC/CREDENTIAL-ID/PLACE`. The last segment is the address of the AE. A suffix that
//! the CSE appends is forwarded too. The gateway does not store addresses, so they stay valid
//! across a restart. The MAC uses a key of the gateway, so that an AE cannot direct the CSE to the
//! holder of another credential, or to any address.

use std::net::SocketAddr;
use std::path::Path;

use hmac::{Hmac, KeyInit, Mac};
use http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use rand::RngExt;
use saegis_onem2m::id::CredentialId;
use saegis_onem2m::primitive::{Content, Operation, RequestPrimitive};
use saegis_onem2m::resource::ResourceType;
use saegis_policy::read_private_key;
use serde_json::Value;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::config::private_file;

/// Characters that are escaped in a Credential-ID as a path segment.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');

/// Length of the MAC of an address, in bytes.
const MAC: usize = 16;

/// Maximum size of a key file, in bytes: 64 digits and a line break.
const MAX_KEY_FILE: u64 = 66;

/// Address of the relay, and the key for the MAC of relayed addresses.
pub struct RelayAddress {
    address: SocketAddr,
    key: Zeroizing<[u8; 32]>,
}

impl RelayAddress {
    /// Creates it for an address, with the key in a file. The file is created if it does not exist.
    ///
    /// # Errors
    /// Fails if the key cannot be read or written.
    pub fn new(address: SocketAddr, key_file: &Path) -> std::io::Result<Self> {
        let mut key = Zeroizing::new([0; 32]);
        private_file::remove_unfinished(key_file);
        if matches!(key_file.try_exists(), Ok(false)) {
            rand::rng().fill(&mut *key);
            if let Some(folder) = key_file.parent() {
                std::fs::create_dir_all(folder)?;
            }
            private_file::replace(key_file, Zeroizing::new(hex::encode(*key)).as_bytes())?;
        } else {
            let text = read_private_key(key_file, MAX_KEY_FILE);
            let text = text.map_err(|fault| std::io::Error::other(fault.to_string()))?;
            hex::decode_to_slice(text.trim_ascii(), &mut *key).map_err(|_| {
                let what =
                    "is not a key of 64 hexadecimal digits; remove it, and AEs have to register again";
                std::io::Error::other(format!("{}: {what}", saegis_policy::Shown(key_file)))
            })?;
        }
        Ok(Self { address, key })
    }

    /// Returns the address of the relay.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn mac(&self, credential: &str, place: &str) -> Hmac<Sha256> {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&*self.key).expect("any key length");
        mac.update(credential.as_bytes());
        // Neither part contains a line break.
        mac.update(b"\n");
        mac.update(place.as_bytes());
        mac
    }

    /// Returns the address that forwards to the holder of a credential.
    fn of(&self, credential: &CredentialId, place: &str) -> String {
        let credential = credential.to_string();
        let mac = self.mac(&credential, place).finalize().into_bytes();
        let mac = hex::encode(mac.get(..MAC).unwrap_or_default());
        let [credential, place] =
            [&*credential, place].map(|text| utf8_percent_encode(text, SEGMENT));
        format!("http://{}/{mac}/{credential}/{place}", self.address)
    }

    /// Returns the credential and the address of an AE, if the path has a valid MAC. A suffix
    /// cannot lead to another host, because the address of the AE has a path.
    pub fn target(&self, uri: &Uri) -> Option<(CredentialId, Uri)> {
        let path = uri.path_and_query()?.as_str().strip_prefix('/')?;
        let (mac, path) = path.split_once('/')?;
        let (credential, path) = path.split_once('/')?;
        let (place, appended) = path.split_at(path.find(['/', '?']).unwrap_or(path.len()));
        let [credential, place] = [credential, place].map(|s| percent_decode_str(s).decode_utf8());
        let (credential, place) = (credential.ok()?, place.ok()?);
        let mac = hex::decode(mac).ok().filter(|mac| mac.len() == MAC)?;
        self.mac(&credential, &place).verify_truncated_left(&mac).ok()?;
        let url = format!("https://{place}{appended}").parse().ok()?;
        Some((CredentialId::parse(&credential).ok()?, url))
    }
}

/// Replaces the `https://` points of access in a request by addresses of the relay.
pub fn rewrite_points_of_access(
    request: &mut RequestPrimitive,
    credential: &CredentialId,
    relay: &RelayAddress,
) {
    let names_places = matches!(request.operation, Operation::Create | Operation::Update);
    let ae = ResourceType::Ae;
    let Some(content) = request.content.as_ref().filter(|c| names_places && c.is_of(ae)) else {
        return;
    };
    let Ok(mut resource) = serde_json::from_slice::<Value>(content.bytes()) else { return };
    let attributes = resource.as_object_mut().and_then(|outer| outer.values_mut().next());
    let places = attributes.and_then(|a| a.as_object_mut()).and_then(|a| {
        let name = a.keys().find(|name| name.eq_ignore_ascii_case("poa"))?.clone();
        a.get_mut(&name)?.as_array_mut()
    });
    let mut changed = false;
    for place in places.into_iter().flatten() {
        let url = place.as_str().and_then(|text| text.parse::<Uri>().ok());
        let Some(url) = url.filter(|url| url.scheme_str() == Some("https")) else { continue };
        let Some(authority) = url.authority() else { continue };
        let path = url.path_and_query().map_or("/", |p| p.as_str());
        *place = relay.of(credential, &format!("{authority}{path}")).into();
        changed = true;
    }
    // A valid representation stays valid.
    if changed && let Ok(content) = Content::parse(resource.to_string().into()) {
        request.content = Some(content);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use saegis_onem2m::target::Target;

    fn relay() -> RelayAddress {
        RelayAddress { address: "127.0.0.1:8081".parse().unwrap(), key: Zeroizing::new([7; 32]) }
    }

    fn entered(json: &str) -> String {
        let to = Target::from_path("/-").unwrap();
        let mut request = RequestPrimitive::own(Operation::Create, to, "C".into(), "r".into());
        request.content = Some(Content::parse(Bytes::copy_from_slice(json.as_bytes())).unwrap());
        let credential = CredentialId::parse("12-light@in.provider.com").unwrap();
        rewrite_points_of_access(&mut request, &credential, &relay());
        String::from_utf8(request.content.unwrap().bytes().to_vec()).unwrap()
    }

    #[test]
    fn relay_address_resolves_to_point_of_access() {
        let json = r#"{"m2m:ae":{"POA":["https://a.b:1/x?y=z","http://c.d","https://[::1]"]}}"#;
        let changed: Value = serde_json::from_str(&entered(json)).unwrap();
        let places = changed["m2m:ae"]["POA"].as_array().unwrap();
        assert_eq!(places[1], "http://c.d");
        for (place, end, there) in [
            (0, "/12-light%40in.provider.com/a.b%3A1%2Fx%3Fy%3Dz", "https://a.b:1/x?y=z"),
            (2, "/12-light%40in.provider.com/%5B%3A%3A1%5D%2F", "https://[::1]/"),
        ] {
            let address = places[place].as_str().unwrap();
            assert!(address.starts_with("http://127.0.0.1:8081/") && address.ends_with(end));
            let (credential, url) = relay().target(&address.parse().unwrap()).unwrap();
            assert_eq!(credential.to_string(), "12-light@in.provider.com");
            assert_eq!(url, there);
        }
    }

    #[test]
    fn content_without_point_of_access_is_unchanged() {
        for json in [
            r#"{"m2m:ae": { "poa":["http://c.d"]}}"#,
            r#"{"m2m:ae": {"poa":null}}"#,
            r#"{"m2m:cnt": {"poa":["https://a.b"]}}"#,
        ] {
            assert_eq!(entered(json), json);
        }
    }

    #[test]
    fn forged_relay_address_is_refused() {
        let credential = CredentialId::parse("12-a@b.c").unwrap();
        let good = relay().of(&credential, "d:1/x");
        // The CSE may append the identifier of the AE.
        for (appended, there) in [("", "/x"), ("/Ca", "/x/Ca"), ("/Ca?b=c", "/x/Ca?b=c")] {
            let address = format!("{good}{appended}").parse().unwrap();
            let (_, url) = relay().target(&address).unwrap();
            assert_eq!(url.to_string(), format!("https://d:1{there}"));
        }
        let mac = good.split('/').nth(3).unwrap();
        for path in [
            "/",
            "/x",
            "/x/",
            "/12-a@b.c",
            "/12-a@b.c/d%3A1%2Fx",
            "//12-a@b.c/d%3A1%2Fx",
            &format!("/{mac}"),
            &format!("/{mac}/12-a@b.c"),
            &format!("/{mac}/12-a@b.c/d:1/x"),
            // Of another credential, with another address, and a truncated MAC.
            &format!("/{mac}/12-b@b.c/d%3A1%2Fx"),
            &format!("/{mac}/12-a@b.c/d%3A2%2Fx"),
            &format!("/{mac}/12-a@b.c/d%3A1%2F"),
            &format!("/{}/12-a@b.c/d%3A1%2Fx", &mac[..30]),
            &format!("/{}/12-a@b.c/d%3A1%2Fx", "0".repeat(32)),
        ] {
            assert!(relay().target(&path.parse().unwrap()).is_none(), "{path}");
        }
        // Addresses with another key are rejected.
        let other = RelayAddress { key: Zeroizing::new([8; 32]), ..relay() };
        assert!(other.target(&good.parse().unwrap()).is_none());
    }

    #[test]
    fn relay_key_is_stored_and_damage_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let (file, address) = (folder.path().join("state/key"), relay().address);
        let made = RelayAddress::new(address, &file).unwrap();
        assert_eq!(*RelayAddress::new(address, &file).unwrap().key, *made.key);
        std::fs::write(&file, "rubbish").unwrap();
        let e = RelayAddress::new(address, &file).err().unwrap();
        assert!(e.to_string().contains("is not a key of 64 hexadecimal digits"), "{e}");
    }
}
