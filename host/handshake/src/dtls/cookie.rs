//! Cookies that prove the address of a client (RFC 6347 clause 4.2.1).

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::sign::Signer;
use rand::RngExt;

use super::record::ClientHello;

/// Length of a cookie. With it, a HelloVerifyRequest is smaller than any ClientHello.
pub(super) const COOKIE: usize = 20;
/// Time after which the secret is replaced. A cookie of the secret before it is valid too.
const ROTATION: Duration = Duration::from_secs(60);

/// The secrets of the cookies.
pub(super) struct Cookies(Mutex<Secrets>);

struct Secrets {
    current: PKey<Private>,
    former: PKey<Private>,
    since: Instant,
}

fn secret() -> Result<PKey<Private>, ErrorStack> {
    let random: [u8; 32] = rand::rng().random();
    PKey::hmac(&random)
}

impl Cookies {
    pub fn new() -> Result<Self, ErrorStack> {
        let (current, former) = (secret()?, secret()?);
        Ok(Self(Mutex::new(Secrets { current, former, since: Instant::now() })))
    }

    /// Returns the cookie of a ClientHello, and whether the ClientHello has a valid one.
    pub fn check(
        &self,
        peer: SocketAddr,
        hello: &ClientHello,
        now: Instant,
    ) -> Result<([u8; COOKIE], bool), ErrorStack> {
        let (current, former) = {
            let mut secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let age = now.saturating_duration_since(secrets.since);
            if age >= ROTATION {
                let next = secret()?;
                let last = std::mem::replace(&mut secrets.current, next);
                // After a long pause the secret before is too old as well.
                secrets.former = if age >= 2 * ROTATION { secret()? } else { last };
                secrets.since = now;
            }
            (secrets.current.clone(), secrets.former.clone())
        };
        let expected = cookie(&current, peer, hello)?;
        let is = |expected: &[u8]| {
            hello.cookie().len() == COOKIE && openssl::memcmp::eq(hello.cookie(), expected)
        };
        let is_valid = is(&expected) || is(&cookie(&former, peer, hello)?);
        Ok((expected, is_valid))
    }
}

fn cookie(
    secret: &PKey<Private>,
    peer: SocketAddr,
    hello: &ClientHello,
) -> Result<[u8; COOKIE], ErrorStack> {
    let mut signer = Signer::new(MessageDigest::sha256(), secret)?;
    match peer {
        SocketAddr::V4(address) => signer.update(&address.ip().octets())?,
        SocketAddr::V6(address) => signer.update(&address.ip().octets())?,
    }
    signer.update(&peer.port().to_be_bytes())?;
    for field in hello.fields() {
        signer.update(&u64::try_from(field.len()).unwrap_or(u64::MAX).to_be_bytes())?;
        signer.update(field)?;
    }
    let mut digest = [0; 32];
    signer.sign(&mut digest)?;
    let mut cookie = [0; COOKIE];
    cookie.copy_from_slice(digest.get(..COOKIE).unwrap_or_default());
    Ok(cookie)
}
