//! What the CSE behind the gateway sends to AEs goes through the gateway, over associations with them.
//!
//! The CSE sends to the points of access that it has of an AE. So when an AE says that it is reached at
//! `https://…`, the CSE is told another address, of a port of ours on this machine, that has all that is
//! needed to go on: `http://PORT-OF-OURS/MAC/CREDENTIAL-ID/PLACE`, of which the last is the AE's own address as
//! one segment. What the CSE appends to it goes on with it. Nothing of it is kept here, so it is good after
//! a restart of either. The MAC is by a key of ours, so that nobody but us can say where the
//! holder of a credential is: else an AE could have the CSE go to another's, or to where it likes.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use http::Uri;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Incoming;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use rand::RngExt;
use saegis_cse::{Destination, NamedBy, Notification};
use saegis_onem2m::id::{CredentialId, From};
use saegis_onem2m::primitive::{Content, Operation, RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;
use saegis_policy::read_private_key;
use serde_json::Value;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::binding::http::body::collect;
use crate::config::ListenAddress;
use crate::config::private_file;
use crate::listener::loopback_http::{Bounds, Local};
use crate::notification::sender::{Failure, answered_by, is_of};
use crate::pipeline::{http_response, read_whole};
use crate::state::Gateway;

/// Bounds on the connections of the CSE, which keeps them for its next notifications.
const BOUNDS: Bounds = Bounds {
    connections: 256,
    header: Duration::from_secs(30),
    connection: Duration::from_secs(300),
};

/// What is escaped in a Credential-ID that is a segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');

/// Length of a MAC in an address, in bytes.
const MAC: usize = 16;

/// The file of a key may have a line's end more than its 64 digits.
const MAX_KEY_FILE: u64 = 66;

/// Where the CSE behind sends to, and what shows that an address there is ours.
pub struct RelayAddress {
    address: SocketAddr,
    key: Zeroizing<[u8; 32]>,
}

impl RelayAddress {
    /// That of an address, with the key in a file, which is made if it is not there.
    ///
    /// # Errors
    /// When the key can't be read or written.
    pub fn new(address: SocketAddr, key_file: &Path) -> std::io::Result<Self> {
        let mut key = Zeroizing::new([0; 32]);
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
                    "is no key of 64 hexadecimal digits; take it away, and AEs register anew";
                std::io::Error::other(format!("{}: {what}", saegis_policy::Shown(key_file)))
            })?;
        }
        Ok(Self { address, key })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn mac(&self, credential: &str, place: &str) -> Hmac<Sha256> {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&*self.key).expect("any key length");
        mac.update(credential.as_bytes());
        // Neither has it in it.
        mac.update(b"\n");
        mac.update(place.as_bytes());
        mac
    }

    /// The address for what goes to the holder of a credential at that place.
    fn of(&self, credential: &CredentialId, place: &str) -> String {
        let credential = credential.to_string();
        let mac = self.mac(&credential, place).finalize().into_bytes();
        let mac = hex::encode(mac.get(..MAC).unwrap_or_default());
        let [credential, place] =
            [&*credential, place].map(|text| utf8_percent_encode(text, SEGMENT));
        format!("http://{}/{mac}/{credential}/{place}", self.address)
    }

    /// Who is to be told, and where, if the path starts like one of ours. What is appended to it can't
    /// lead to another host, for a place has a path.
    fn target(&self, uri: &Uri) -> Option<(CredentialId, Uri)> {
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

/// Listens for what the CSE behind sends to AEs. With a `user`, only processes of that user may send.
///
/// # Errors
/// When the address can't be had.
pub async fn listen(
    address: &ListenAddress,
    user: Option<u32>,
    gateway: Arc<Gateway>,
) -> std::io::Result<Local> {
    let answer = move |request| {
        let gateway = gateway.clone();
        async move {
            let response = pass_on(&gateway, request).await;
            http_response(response, Some(Operation::Notify)).map(Full::new)
        }
    };
    Local::listen(address, BOUNDS, user, answer).await
}

/// Has the CSE send what is for an AE to us, if the request says where the AE is reached: its points of
/// access over associations are ours.
pub fn enter(request: &mut RequestPrimitive, credential: &CredentialId, door: &RelayAddress) {
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
        *place = door.of(credential, &format!("{authority}{path}")).into();
        changed = true;
    }
    // What was a representation is one still.
    if changed && let Ok(content) = Content::parse(resource.to_string().into()) {
        request.content = Some(content);
    }
}

/// Passes a notification of the CSE on to the AE that it is for, and the AE's answer back.
async fn pass_on(gateway: &Gateway, request: Request<Incoming>) -> ResponsePrimitive {
    let (parts, body) = request.into_parts();
    let limits = &gateway.config.limits;
    let refuse = |id: &str, rsc, why: &str| {
        tracing::warn!(
            event = "notification.failed",
            to = %parts.uri,
            "a notification of the CSE behind could not be sent: {why}"
        );
        ResponsePrimitive::refusal(id, None, rsc, why)
    };
    let target = gateway.door.get().and_then(|door| door.target(&parts.uri));
    let Some((credential, url)) = target else {
        let why = "the path is none that an AE's point of access has here";
        return refuse("", Rsc::NotFound, why);
    };
    let patience = Duration::from_secs(limits.content_seconds);
    let body = collect(body, limits.content_bytes);
    let Ok(Ok(body)) = tokio::time::timeout(patience, body).await else {
        return refuse("", Rsc::BadRequest, "its content is too large, or did not come in time");
    };
    // The path is not the target: that is the AE itself.
    let mut of_ae = parts.clone();
    of_ae.uri = Uri::from_static("/-");
    let request = match read_whole(&of_ae, body) {
        Ok(request) => request,
        Err(e) => return refuse(&e.request_id.unwrap_or_default(), e.rsc, &e.why),
    };
    let id = request.request_id.clone();
    let names_somebody = match request.from.as_deref().map(From::parse) {
        Some(Ok(from)) => !matches!(
            from,
            From::AssignByRegistrar | From::AssignByServiceProvider | From::SpRelativeAssign { .. }
        ),
        Some(Err(_)) | None => false,
    };
    let (Operation::Notify, true, Some(content)) =
        (request.operation, names_somebody, &request.content)
    else {
        let why = "what goes to an AE here is a notification that says whose it is";
        return refuse(&id, Rsc::BadRequest, why);
    };
    let notification = Notification {
        to: Destination::Url(url.clone()),
        named_by: NamedBy::Subscriber(credential.to_string()),
        about: String::new(),
        from: request.from.clone().unwrap_or_default(),
        request_id: id.clone(),
        release: request.release.clone().unwrap_or_else(|| "3".into()),
        content: content.bytes().clone(),
    };
    match send(gateway, &credential, &url, &notification).await {
        Ok(response) => ResponsePrimitive { request_id: id, ..response },
        Err(why) => refuse(&id, Rsc::TargetNotReachable, &why.to_string()),
    }
}

async fn send(
    gateway: &Gateway,
    credential: &CredentialId,
    url: &Uri,
    notification: &Notification,
) -> Result<ResponsePrimitive, Failure> {
    let stems = gateway.aes.stems(credential);
    if stems.is_empty() {
        let why = "its credential stands for no AE any more, or has not been used since the start";
        return Err(Failure::NoAssociation(why.into()));
    }
    let request = notification.to_http(url).map_err(|e| Failure::NoResponse(e.to_string()))?;
    let patience = Duration::from_secs(gateway.config.notifications.seconds);
    let asked = gateway.aes.ask(credential, request.map(Full::new));
    let response = tokio::time::timeout(patience, asked).await.map_err(|_| Failure::Late)??;
    let cse = &gateway.config.cse;
    answered_by(response, |from| stems.iter().any(|stem| is_of(cse, from, stem.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use saegis_onem2m::target::Target;

    fn door() -> RelayAddress {
        RelayAddress { address: "127.0.0.1:8081".parse().unwrap(), key: Zeroizing::new([7; 32]) }
    }

    fn entered(json: &str) -> String {
        let to = Target::from_path("/-").unwrap();
        let mut request = RequestPrimitive::own(Operation::Create, to, "C".into(), "r".into());
        request.content = Some(Content::parse(Bytes::copy_from_slice(json.as_bytes())).unwrap());
        let credential = CredentialId::parse("12-light@in.provider.com").unwrap();
        enter(&mut request, &credential, &door());
        String::from_utf8(request.content.unwrap().bytes().to_vec()).unwrap()
    }

    #[test]
    fn an_address_leads_back_to_where_the_ae_is() {
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
            let (credential, url) = door().target(&address.parse().unwrap()).unwrap();
            assert_eq!(credential.to_string(), "12-light@in.provider.com");
            assert_eq!(url, there);
        }
    }

    #[test]
    fn what_says_nothing_of_an_ae_s_place_stays_byte_for_byte() {
        for json in [
            r#"{"m2m:ae": { "poa":["http://c.d"]}}"#,
            r#"{"m2m:ae": {"poa":null}}"#,
            r#"{"m2m:cnt": {"poa":["https://a.b"]}}"#,
        ] {
            assert_eq!(entered(json), json);
        }
    }

    #[test]
    fn nobody_else_makes_an_address() {
        let credential = CredentialId::parse("12-a@b.c").unwrap();
        let good = door().of(&credential, "d:1/x");
        // A CSE may append whom it is for.
        for (appended, there) in [("", "/x"), ("/Ca", "/x/Ca"), ("/Ca?b=c", "/x/Ca?b=c")] {
            let address = format!("{good}{appended}").parse().unwrap();
            let (_, url) = door().target(&address).unwrap();
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
            // Of another, at another place, and a part of the MAC.
            &format!("/{mac}/12-b@b.c/d%3A1%2Fx"),
            &format!("/{mac}/12-a@b.c/d%3A2%2Fx"),
            &format!("/{mac}/12-a@b.c/d%3A1%2F"),
            &format!("/{}/12-a@b.c/d%3A1%2Fx", &mac[..30]),
            &format!("/{}/12-a@b.c/d%3A1%2Fx", "0".repeat(32)),
        ] {
            assert!(door().target(&path.parse().unwrap()).is_none(), "{path}");
        }
        // Whoever has another key has none of ours.
        let other = RelayAddress { key: Zeroizing::new([8; 32]), ..door() };
        assert!(other.target(&good.parse().unwrap()).is_none());
    }

    #[test]
    fn the_key_is_kept_and_a_damaged_one_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (file, address) = (folder.path().join("state/key"), door().address);
        let made = RelayAddress::new(address, &file).unwrap();
        assert_eq!(*RelayAddress::new(address, &file).unwrap().key, *made.key);
        std::fs::write(&file, "rubbish").unwrap();
        let e = RelayAddress::new(address, &file).err().unwrap();
        assert!(e.to_string().contains("is no key of 64 hexadecimal digits"), "{e}");
    }
}
