//! Cookies that prove the address of a client (RFC 6347 clause 4.2.1).

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use rand::RngExt;
use sha2::Sha256;

use super::record::ClientHello;

/// Length of a cookie. With it, a HelloVerifyRequest is smaller than any ClientHello.
pub(super) const COOKIE: usize = 20;
/// Time after which the secret is replaced. A cookie of the secret before it is valid too.
const ROTATION: Duration = Duration::from_secs(60);

/// A key of HMAC-SHA256 of the length of its output.
type Secret = [u8; 32];

/// The secrets of the cookies.
pub(super) struct Cookies(Mutex<Secrets>);

struct Secrets {
    current: Secret,
    former: Secret,
    since: Instant,
}

fn secret() -> Secret {
    rand::rng().random()
}

impl Cookies {
    pub fn new() -> Self {
        let (current, former) = (secret(), secret());
        Self(Mutex::new(Secrets { current, former, since: Instant::now() }))
    }

    /// Returns the cookie of a ClientHello, and whether the ClientHello has a valid one.
    pub fn check(
        &self,
        peer: SocketAddr,
        hello: &ClientHello,
        now: Instant,
    ) -> ([u8; COOKIE], bool) {
        let (current, former) = {
            let mut secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let age = now.saturating_duration_since(secrets.since);
            if age >= ROTATION {
                let last = std::mem::replace(&mut secrets.current, secret());
                // After a long pause the secret before is too old as well.
                secrets.former = if age >= 2 * ROTATION { secret() } else { last };
                secrets.since = now;
            }
            (secrets.current, secrets.former)
        };
        let expected = cookie(&current, peer, hello);
        // Most ClientHellos of a flood have none.
        let is_valid = hello.cookie().len() == COOKIE
            && (openssl::memcmp::eq(hello.cookie(), &expected)
                || openssl::memcmp::eq(hello.cookie(), &cookie(&former, peer, hello)));
        (expected, is_valid)
    }
}

fn cookie(secret: &Secret, peer: SocketAddr, hello: &ClientHello) -> [u8; COOKIE] {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes any key length");
    match peer {
        SocketAddr::V4(address) => mac.update(&address.ip().octets()),
        SocketAddr::V6(address) => mac.update(&address.ip().octets()),
    }
    mac.update(&peer.port().to_be_bytes());
    for field in hello.fields() {
        mac.update(&u64::try_from(field.len()).unwrap_or(u64::MAX).to_be_bytes());
        mac.update(field);
    }
    let digest = mac.finalize().into_bytes();
    let mut cookie = [0; COOKIE];
    cookie.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    cookie
}
