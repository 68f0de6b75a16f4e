//! The last refusals, grouped by cause and credential, for the web page. Without that page, nothing is
//! collected.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use lru::LruCache;
use saegis_handshake::Refusal;
use saegis_onem2m::association::SecurityAssociation;
use saegis_onem2m::rsc::Rsc;

use crate::listener::peer_limits::widest_network;

/// Maximum number of groups. A further one replaces the one without a refusal for the longest time.
const MAX_GROUPS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(199);
/// Maximum length of the text that identifies a group, and of other texts, in characters.
const MAX_NAME: usize = 128;
const MAX_TEXT: usize = 300;

static GROUPS: Mutex<Option<LruCache<Key, Group>>> = Mutex::new(None);

#[derive(PartialEq, Eq, Hash)]
struct Key {
    event: &'static str,
    cause: Box<str>,
    who: Box<str>,
}

/// Refusals with the same cause and the same credential.
#[derive(Debug, Clone)]
pub struct Group {
    /// Event of the audit trail.
    pub event: &'static str,
    /// Cause of a refused handshake, or Response Status Code of a refused request.
    pub cause: Box<str>,
    /// The credential, or the network of the peer if there is none.
    pub who: Box<str>,
    /// The last reason.
    pub why: Box<str>,
    /// The last request.
    pub detail: Box<str>,
    /// The number.
    pub count: u64,
    /// The time of the last one.
    pub last: SystemTime,
}

/// Starts to collect refusals.
pub fn collect() {
    lock().get_or_insert_with(|| LruCache::new(MAX_GROUPS));
}

/// Returns the groups, the last refusal first.
pub fn groups() -> Vec<Group> {
    let groups = lock();
    groups.iter().flat_map(|groups| groups.iter().map(|(_, group)| group.clone())).collect()
}

/// Records a refused handshake.
pub fn of_handshake(peer: SocketAddr, cause: &str, why: &str, refusal: Option<&Refusal>) {
    let mut groups = lock();
    let Some(groups) = groups.as_mut() else { return };
    let certificate = refusal.and_then(Refusal::certificate).map(|found| found.subject.as_str());
    let named = refusal.and_then(Refusal::identity).or(certificate);
    let network;
    let who = match named {
        Some(named) => named,
        None => {
            network = widest_network(peer.ip());
            &network
        }
    };
    add(groups, ("handshake.refused", cause, who), why, &format!("from {peer}"));
}

/// Records a refused request. `shown` are its parameters, as far as they could be decoded.
pub fn of_request(association: &SecurityAssociation, shown: &[Option<&str>], rsc: Rsc, why: &str) {
    let mut groups = lock();
    let Some(groups) = groups.as_mut() else { return };
    let detail: Vec<_> = shown.iter().flatten().copied().collect();
    let who = association.credential_id.to_string();
    add(groups, ("request.refused", &rsc.code().to_string(), &who), why, &detail.join(" "));
}

/// Records the end of an association, or a registration without an AE-ID.
pub fn of_association(event: &'static str, association: &SecurityAssociation, why: &str) {
    let mut groups = lock();
    let Some(groups) = groups.as_mut() else { return };
    let who = association.credential_id.to_string();
    add(groups, (event, "", &who), why, &association.entity().to_string());
}

fn lock() -> MutexGuard<'static, Option<LruCache<Key, Group>>> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn add(
    groups: &mut LruCache<Key, Group>,
    (event, cause, who): (&'static str, &str, &str),
    why: &str,
    detail: &str,
) {
    let (cause, who) = (cut(cause, MAX_NAME), cut(who, MAX_NAME));
    let (why, detail, last) = (cut(why, MAX_TEXT), cut(detail, MAX_TEXT), SystemTime::now());
    let key = Key { event, cause: cause.clone(), who: who.clone() };
    let count = groups.get(&key).map_or(1, |group| group.count.saturating_add(1));
    groups.put(key, Group { event, cause, who, why, detail, count, last });
}

fn cut(text: &str, most: usize) -> Box<str> {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()).into(),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_counted_and_bounded() {
        let mut groups = LruCache::new(MAX_GROUPS);
        let mut refuse = |who: &str, why: &str| add(&mut groups, ("e", "c", who), why, "");
        refuse("first", "a");
        refuse("second", "a");
        refuse("first", &"ä".repeat(1000));
        for number in 0..MAX_GROUPS.get() - 1 {
            refuse(&number.to_string(), "a");
        }
        let found: Vec<_> = groups.iter().map(|(_, group)| group.clone()).collect();
        assert_eq!(found.len(), MAX_GROUPS.get());
        let first = found.last().unwrap();
        assert_eq!((&*first.who, first.count), ("first", 2));
        assert_eq!(first.why.chars().count(), MAX_TEXT + 1);
        assert!(found.iter().all(|group| &*group.who != "second"));
    }
}
