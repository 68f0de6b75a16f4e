//! The last refusals, grouped by cause and credential, for the web page. Without that page, nothing is
//! collected.
//!
//! Anybody can cause refused handshakes, with any identity. So they have a list of their own, and each
//! network has a limited number of identities there. They cannot displace refusals of known credentials.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use lru::LruCache;
use saegis_handshake::Refusal;
use saegis_onem2m::association::SecurityAssociation;
use saegis_onem2m::rsc::Rsc;

use crate::listener::peer_limits::widest_network;

/// Maximum number of groups of handshakes, and of known credentials. A further one replaces the one
/// without a refusal for the longest time.
const MAX_GROUPS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(199);
/// Maximum length of the text that identifies a group, and of other texts, in characters.
const MAX_NAME: usize = 128;
const MAX_TEXT: usize = 300;

/// Maximum number of groups of one network. Further identities are one group for each cause.
const MAX_OF_NETWORK: usize = 16;
/// Time without a refusal after which another group of the same network may replace it.
const RETENTION: Duration = Duration::from_secs(600);
/// Maximum number of groups of one source in a short list, as long as there are other sources.
const MAX_OF_SOURCE: usize = 2;

static GROUPS: Mutex<Option<Groups>> = Mutex::new(None);

struct Groups {
    /// Refused handshakes.
    of_peers: LruCache<Key, Group>,
    /// Refusals of known credentials.
    of_credentials: LruCache<Key, Group>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
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
    /// The network of the peer of a handshake, or the known credential.
    source: Box<str>,
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
    lock().get_or_insert_with(|| Groups {
        of_peers: LruCache::new(MAX_GROUPS),
        of_credentials: LruCache::new(MAX_GROUPS),
    });
}

/// Returns the groups, the last refusal first.
pub fn groups() -> Vec<Group> {
    let groups = lock();
    let lists = groups.iter().flat_map(|groups| [&groups.of_peers, &groups.of_credentials]);
    let mut all: Vec<_> =
        lists.flat_map(|list| list.iter().map(|(_, group)| group.clone())).collect();
    drop(groups);
    all.sort_by_key(|group| Reverse(group.last));
    all
}

/// Returns some of the groups, the last refusal first. One source does not displace the others.
pub fn short_list(groups: &[Group], most: usize) -> Vec<&Group> {
    let mut of_source: HashMap<&str, usize> = HashMap::new();
    let (mut chosen, others): (Vec<_>, Vec<_>) = groups.iter().partition(|group| {
        let count = of_source.entry(&group.source).or_default();
        *count += 1;
        *count <= MAX_OF_SOURCE
    });
    chosen.extend(others);
    chosen.truncate(most);
    chosen.sort_by_key(|group| Reverse(group.last));
    chosen
}

/// Records a refused handshake.
pub fn of_handshake(peer: SocketAddr, cause: &str, why: &str, refusal: Option<&Refusal>) {
    let mut groups = lock();
    let Some(groups) = groups.as_mut() else { return };
    let certificate = refusal.and_then(Refusal::certificate).map(|found| found.subject.as_str());
    let named = refusal.and_then(Refusal::identity).or(certificate);
    let network = widest_network(peer.ip());
    let key = key("handshake.refused", cause, named.unwrap_or(&network));
    add_of_peer(&mut groups.of_peers, key, &network, why, &format!("from {peer}"));
}

/// Records a refused request. `shown` are its parameters, as far as they could be decoded.
pub fn of_request(association: &SecurityAssociation, shown: &[Option<&str>], rsc: Rsc, why: &str) {
    let mut groups = lock();
    let Some(groups) = groups.as_mut() else { return };
    let detail: Vec<_> = shown.iter().flatten().copied().collect();
    let who = association.credential_id.to_string();
    let key = key("request.refused", &rsc.code().to_string(), &who);
    add(&mut groups.of_credentials, key, &who, why, &detail.join(" "));
}

/// Records the end of an association, or a registration without an AE-ID.
pub fn of_association(event: &'static str, association: &SecurityAssociation, why: &str) {
    let mut groups = lock();
    let Some(groups) = groups.as_mut() else { return };
    let who = association.credential_id.to_string();
    let detail = association.entity().to_string();
    add(&mut groups.of_credentials, key(event, "", &who), &who, why, &detail);
}

fn lock() -> MutexGuard<'static, Option<Groups>> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn key(event: &'static str, cause: &str, who: &str) -> Key {
    Key { event, cause: cut(cause, MAX_NAME), who: cut(who, MAX_NAME) }
}

/// Adds a refused handshake. Beyond the number of its network, it replaces an old group of that network, or
/// counts for the other identities.
fn add_of_peer(
    groups: &mut LruCache<Key, Group>,
    mut key: Key,
    network: &str,
    why: &str,
    detail: &str,
) {
    if !groups.contains(&key) {
        let of_network = groups.iter().filter(|(_, group)| &*group.source == network);
        let mut count = 0;
        // The cache has the last refusal first.
        let oldest = of_network.inspect(|_| count += 1).last();
        if count >= MAX_OF_NETWORK
            && let Some((oldest, group)) = oldest
        {
            if group.last.elapsed().is_ok_and(|elapsed| elapsed >= RETENTION) {
                let oldest = oldest.clone();
                groups.pop(&oldest);
            } else {
                key.who = format!("other identities from {network}").into();
            }
        }
    }
    add(groups, key, network, why, detail);
}

fn add(groups: &mut LruCache<Key, Group>, key: Key, source: &str, why: &str, detail: &str) {
    let (why, detail, last) = (cut(why, MAX_TEXT), cut(detail, MAX_TEXT), SystemTime::now());
    let count = groups.get(&key).map_or(1, |group| group.count.saturating_add(1));
    let Key { event, cause, who } = key.clone();
    let source = cut(source, MAX_NAME);
    groups.put(key, Group { event, cause, who, source, why, detail, count, last });
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
        let mut refuse = |who: &str, why: &str| add(&mut groups, key("e", "c", who), who, why, "");
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

    #[test]
    fn identities_of_one_network_are_limited() {
        let mut groups = LruCache::new(MAX_GROUPS);
        let mut refuse = |who: &str, network: &str| {
            add_of_peer(&mut groups, key("e", "c", who), network, "", "");
        };
        refuse("genuine", "192.0.2.1");
        for number in 0..1000 {
            refuse(&number.to_string(), "192.0.2.2");
        }
        refuse("0", "192.0.2.2");
        let count = |groups: &LruCache<Key, Group>, who: &str| {
            groups.iter().find(|(key, _)| &*key.who == who).map_or(0, |(_, group)| group.count)
        };
        assert_eq!(groups.len(), 1 + MAX_OF_NETWORK + 1);
        assert_eq!((count(&groups, "genuine"), count(&groups, "0")), (1, 2));
        assert_eq!(count(&groups, "other identities from 192.0.2.2"), 1000 - MAX_OF_NETWORK as u64);
        // An old group makes room for a new one.
        groups.get_mut(&key("e", "c", "1")).unwrap().last -= RETENTION;
        groups.promote(&key("e", "c", "1"));
        for number in 2..MAX_OF_NETWORK {
            groups.promote(&key("e", "c", &number.to_string()));
        }
        groups.promote(&key("e", "c", "0"));
        groups.promote(&key("e", "c", "other identities from 192.0.2.2"));
        add_of_peer(&mut groups, key("e", "c", "new"), "192.0.2.2", "", "");
        assert_eq!((count(&groups, "1"), count(&groups, "new")), (0, 1));
        assert_eq!(count(&groups, "genuine"), 1);
    }

    #[test]
    fn short_list_has_several_sources() {
        let mut groups = LruCache::new(MAX_GROUPS);
        let mut refuse = |who: &str, source: &str| {
            add(&mut groups, key("e", "c", who), source, "", "");
        };
        refuse("lamp", "lamp");
        refuse("genuine", "192.0.2.1");
        for number in 0..10 {
            refuse(&number.to_string(), "192.0.2.2");
        }
        let all: Vec<_> = groups.iter().map(|(_, group)| group.clone()).collect();
        let chosen: Vec<_> = short_list(&all, 4).iter().map(|group| &*group.who).collect();
        assert_eq!(chosen, ["9", "8", "genuine", "lamp"]);
        assert_eq!(short_list(&all, 100).len(), all.len());
    }
}
