//! The contexts of access control rules: the times and addresses at which a rule applies
//! (accessControlContexts of TS-0001 clause 9.6.2.3, TS-0003 clauses 7.1.2 and 7.1.3).
//!
//! A rule with contexts applies if one of them holds, and a context holds if all of its parts do. A
//! part that needs unknown information about the request does not hold.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, UNIX_EPOCH};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use saegis_onem2m::schedule::ScheduleEntry;
use serde::Deserialize;
use serde_json::Value;

use crate::record::Seconds;
use crate::resource::schema::AttributeError;

/// Maximum number of contexts of a rule, of windows of a context, and of addresses of each kind in
/// it. Each request may evaluate all of them.
const MAX_CONTEXTS: usize = 8;
const MAX_WINDOWS: usize = 8;
const MAX_ADDRESSES: usize = 32;

/// The circumstances of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestContext {
    /// Time of execution.
    pub(crate) at: Seconds,
    /// Source address of its packets, if known.
    pub(crate) source: Option<IpAddr>,
}

/// A context.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AccessContext {
    /// Time windows, one of which must be open.
    actw: Option<Vec<String>>,
    /// Addresses, one of which must be that of the originator.
    acip: Option<Addresses>,
    /// Location of the originator, which this CSE does not know.
    aclr: Option<Value>,
}

/// Addresses, optionally with a prefix length after a slash.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Addresses {
    #[serde(default)]
    ipv4: Vec<String>,
    #[serde(default)]
    ipv6: Vec<String>,
}

impl AccessContext {
    /// Returns whether the context holds for a request.
    pub(crate) fn holds(&self, request: &RequestContext) -> bool {
        let Self { actw, acip, aclr } = self;
        let time = UNIX_EPOCH.checked_add(Duration::from_secs(request.at));
        let open = |window: &String| {
            let entry = ScheduleEntry::parse(window);
            entry.is_ok_and(|entry| time.is_some_and(|time| entry.holds_at(time)))
        };
        let has =
            |addresses: &Addresses| request.source.is_some_and(|source| addresses.contain(source));
        // An empty context cannot be stored.
        (actw.is_some() || acip.is_some())
            && aclr.is_none()
            && actw.as_ref().is_none_or(|windows| windows.iter().any(open))
            && acip.as_ref().is_none_or(has)
    }
}

impl Addresses {
    fn contain(&self, source: IpAddr) -> bool {
        // A dual-stack socket reports an IPv4 address as IPv6.
        let (source, list, read): (_, _, fn(&str) -> Option<IpNet>) = match source.to_canonical() {
            source @ IpAddr::V4(_) => (source, &self.ipv4, ipv4),
            source @ IpAddr::V6(_) => (source, &self.ipv6, ipv6),
        };
        list.iter().filter_map(|text| read(text)).any(|net| net.contains(&source))
    }
}

/// Splits an address and the length of its prefix, if given.
fn parts(text: &str) -> Option<(&str, Option<u8>)> {
    let Some((address, prefix)) = text.split_once('/') else { return Some((text, None)) };
    // Checked by character, because `parse` also accepts signs.
    let is_number = prefix.bytes().all(|b| b.is_ascii_digit());
    Some((address, Some(prefix.parse().ok().filter(|_| is_number)?)))
}

fn ipv4(text: &str) -> Option<IpNet> {
    let (address, prefix) = parts(text)?;
    let address: Ipv4Addr = address.parse().ok()?;
    Some(Ipv4Net::new(address, prefix.unwrap_or(32)).ok()?.into())
}

/// Parses an IPv6 address. An IPv4-mapped one belongs in the other list.
fn ipv6(text: &str) -> Option<IpNet> {
    let (address, prefix) = parts(text)?;
    let address: Ipv6Addr = address.parse().ok()?;
    let net = Ipv6Net::new(address, prefix.unwrap_or(128)).ok()?;
    address.to_ipv4_mapped().is_none().then(|| net.into())
}

/// Returns whether the contexts of a rule, if given, are objects. serde would read a list as the
/// members of an object, in order.
pub(crate) fn are_objects(contexts: Option<&Value>) -> bool {
    let objects = |value: &Value| value.is_object() && value.get("acip").is_none_or(is_object);
    let list = contexts.and_then(Value::as_array);
    list.is_none_or(|list| list.iter().all(objects))
}

fn is_object(value: &Value) -> bool {
    value.is_object() || value.is_null()
}

/// Checks the contexts of a rule in the attribute `name`.
///
/// # Errors
/// Returns an error if a context is invalid, or cannot be evaluated.
pub(crate) fn check(name: &'static str, contexts: &[AccessContext]) -> Result<(), AttributeError> {
    let wrong = |why: &str| Err(AttributeError::value(name, why));
    if contexts.iter().any(|context| context.aclr.is_some()) {
        return Err(AttributeError::Unsupported("aclr"));
    }
    if contexts.is_empty() || contexts.len() > MAX_CONTEXTS {
        return wrong("must have 1 to 8 contexts in acco, or no acco");
    }
    for AccessContext { actw, acip, .. } in contexts {
        if actw.is_none() && acip.is_none() {
            return wrong("must have time windows (actw) or addresses (acip) in each of acco");
        }
        if let Some(windows) = actw {
            if windows.is_empty() || windows.len() > MAX_WINDOWS {
                return wrong("must have 1 to 8 windows in actw");
            }
            for window in windows {
                ScheduleEntry::parse(window)
                    .map_err(|why| AttributeError::value(name, &format!("in actw {why}")))?;
            }
        }
        if let Some(Addresses { ipv4: fours, ipv6: sixes }) = acip {
            if fours.is_empty() && sixes.is_empty() {
                return wrong("must have an address in acip, as ipv4 or ipv6");
            }
            if fours.len() > MAX_ADDRESSES || sixes.len() > MAX_ADDRESSES {
                return wrong("has too many addresses in acip");
            }
            if fours.iter().any(|text| ipv4(text).is_none()) {
                return wrong("has an ipv4 in acip that is not like 10.0.0.1 or 10.0.0.0/8");
            }
            if sixes.iter().any(|text| ipv6(text).is_none()) {
                return wrong("has an ipv6 in acip that is not like 2001:db8::1 or 2001:db8::/32");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::NOW;
    use saegis_onem2m::rsc::Rsc;
    use serde_json::json;

    fn read(context: Value) -> AccessContext {
        serde_json::from_value(context).unwrap()
    }

    /// At 2026-11-24, 09:30:00, a Tuesday.
    fn holds(context: Value, source: Option<&str>) -> bool {
        let source = source.map(|text| text.parse().unwrap());
        read(context).holds(&RequestContext { at: NOW, source })
    }

    #[test]
    fn context_needs_one_open_window() {
        for (windows, open) in [
            (json!(["* * 8-17 * * 1-5 *"]), true),
            (json!(["* * 10-17 * * * *"]), false),
            (json!(["* * * * * 0,6 *", "0 30 9 24 11 * *"]), true),
            (json!(["* * * * * 0,6 *", "1 30 9 24 11 * *"]), false),
            (json!(["* * 22-9 * * * *"]), true),
            (json!([]), false),
            // An unreadable entry is not a window.
            (json!(["* * * * * *"]), false),
            (json!(["always"]), false),
            (json!(["always", "* * * * * * *"]), true),
        ] {
            assert_eq!(holds(json!({ "actw": windows }), None), open, "{windows}");
        }
        let never = read(json!({"actw": ["* * * * * * *"]}));
        assert!(!never.holds(&RequestContext { at: u64::MAX, source: None }));
    }

    #[test]
    fn context_needs_one_matching_address() {
        let acip = json!({"ipv4": ["10.1.2.3", "192.168.7.9/16"],
            "ipv6": ["2001:DB8::/32", "fe80::1"]});
        for (source, holds_there) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("192.168.0.0", true),
            ("192.168.255.255", true),
            ("2001:db8:1::7", true),
            ("fe80::1", true),
            ("10.1.2.4", false),
            ("192.169.0.0", false),
            ("2001:db9::", false),
            ("fe80::2", false),
            // The same bits as a deprecated IPv4-compatible address.
            ("::10.1.2.3", false),
        ] {
            assert_eq!(holds(json!({ "acip": acip }), Some(source)), holds_there, "{source}");
        }
        assert!(!holds(json!({ "acip": acip }), None));
        for (all, inside, outside) in [
            (json!({"ipv4": ["0.0.0.0/0"]}), "1.2.3.4", "::1"),
            (json!({"ipv6": ["::/0"]}), "::1", "1.2.3.4"),
            (json!({"ipv6": ["::/0"]}), "2001:db8::1", "::ffff:1.2.3.4"),
        ] {
            assert!(holds(json!({ "acip": all }), Some(inside)), "{all}");
            assert!(!holds(json!({ "acip": all }), Some(outside)), "{all}");
            assert!(!holds(json!({ "acip": all }), None), "{all}");
        }
        // An unreadable entry matches no address.
        for nobody in [json!({}), json!({"ipv4": ["10.1.2"]}), json!({"ipv4": ["::/0"]})] {
            assert!(!holds(json!({ "acip": nobody }), Some("10.1.2.3")), "{nobody}");
        }
    }

    #[test]
    fn context_requires_all_conditions() {
        let (open, shut) = (["* * * * * * *"], ["* * 10 * * * *"]);
        let (near, far) = (json!({"ipv4": ["10.0.0.0/8"]}), json!({"ipv4": ["11.0.0.0/8"]}));
        for (windows, addresses, expected) in
            [(open, &near, true), (open, &far, false), (shut, &near, false), (shut, &far, false)]
        {
            let context = json!({ "actw": windows, "acip": addresses });
            assert_eq!(holds(context.clone(), Some("10.1.2.3")), expected, "{context}");
            assert!(!holds(context, None));
        }
        assert!(!holds(json!({}), Some("10.1.2.3")));
        let somewhere = json!({"actw": open, "aclr": {"accc": ["DE"]}});
        assert!(!holds(somewhere, Some("10.1.2.3")));
    }

    #[test]
    fn invalid_context_is_refused() {
        let check = |contexts: Value| {
            let contexts: Vec<AccessContext> = serde_json::from_value(contexts).unwrap();
            check("pv", &contexts)
        };
        let window = "* * * * * * *";
        for good in [
            json!([{"actw": [window]}]),
            json!([{"actw": vec![window; MAX_WINDOWS]}]),
            json!([{"acip": {"ipv4": ["10.0.0.1"]}}]),
            json!([{"acip": {"ipv4": vec!["10.0.0.0/8"; MAX_ADDRESSES], "ipv6": ["::1"]}}]),
            json!([{"acip": {"ipv6": ["Fadf:ddd0::/32", "::/0", "abcd::1/128"]}}]),
            json!(vec![json!({"actw": [window], "acip": {"ipv6": ["::1"]}}); MAX_CONTEXTS]),
        ] {
            assert_eq!(check(good.clone()), Ok(()), "{good}");
        }
        for bad in [
            json!([]),
            json!([{}]),
            json!([{"actw": [window]}, {}]),
            json!([{"actw": []}]),
            json!([{"actw": ["* * * * * *"]}]),
            json!([{"actw": [window, "* * 24 * * * *"]}]),
            json!([{"actw": vec![window; MAX_WINDOWS + 1]}]),
            json!([{"acip": {}}]),
            json!([{"acip": {"ipv4": [], "ipv6": []}}]),
            json!([{"acip": {"ipv4": vec!["10.0.0.1"; MAX_ADDRESSES + 1]}}]),
            json!(vec![json!({"actw": [window]}); MAX_CONTEXTS + 1]),
        ] {
            assert_eq!(check(bad.clone()).unwrap_err().rsc(), Rsc::BadRequest, "{bad}");
        }
        for bad in [
            "",
            "10.0.0",
            "10.0.0.256",
            "010.0.0.1",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            " 10.0.0.1",
            "10.0.0.1:80",
            "::1",
            "localhost",
            "10.0.0.*",
        ] {
            let error = check(json!([{"acip": {"ipv4": [bad]}}])).unwrap_err();
            assert_eq!(error.rsc(), Rsc::BadRequest, "{bad}");
        }
        for bad in [
            "",
            "::/129",
            "::1/",
            ":::1",
            "[::1]",
            "fe80::1%eth0",
            "10.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:0:0/96",
        ] {
            let error = check(json!([{"acip": {"ipv6": [bad]}}])).unwrap_err();
            assert_eq!(error.rsc(), Rsc::BadRequest, "{bad}");
        }
        for somewhere in
            [json!([{"aclr": {"accc": ["DE"]}}]), json!([{"actw": [window]}, {"aclr": 1}])]
        {
            let error = check(somewhere).unwrap_err();
            assert_eq!(error, AttributeError::Unsupported("aclr"));
            assert_eq!(error.rsc(), Rsc::NotImplemented);
        }
    }
}
