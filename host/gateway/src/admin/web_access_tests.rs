//! Tests of links and sessions.

use super::*;

fn access(link_lifetime: Duration, session_lifetime: Duration) -> WebAccess {
    let access = WebAccess::new(link_lifetime, session_lifetime);
    access.set_address(Ok("127.0.0.1:9465".parse().unwrap()));
    access
}

/// Returns the host and the secret of a new link.
fn link(access: &WebAccess, role: WebRole) -> (String, String) {
    let link = access.new_link(role, 1000).unwrap();
    let (host, secret) =
        link.url.strip_prefix("http://").unwrap().split_once(":9465/open/").unwrap();
    (host.into(), secret.into())
}

fn open(access: &WebAccess, (host, secret): &(String, String)) -> Option<Arc<Session>> {
    access.open(host, secret)
}

fn found(access: &WebAccess, session: &Session, binding: &Binding, secret: &str) -> bool {
    access.session(&session.id, binding, &[secret]).is_some()
}

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn link_opens_one_session() {
    let access = access(HOUR, HOUR);
    let (host, secret) = link(&access, WebRole::View);
    assert_eq!(secret.len(), 64);
    assert!(is_host_of_link(&host));
    // Another host does not use it up.
    assert!(access.open(&link(&access, WebRole::View).0, &secret).is_none());
    let session = access.open(&host, &secret).unwrap();
    assert!(access.open(&host, &secret).is_none());
    assert_eq!((session.role, session.uid), (WebRole::View, 1000));
    let (cookie, own) = (session.cookie.text(), Binding::Host(host.clone()));
    assert!(found(&access, &session, &own, &cookie));
    for other in ["", "00", &"0".repeat(64), &secret, &session.form.text()] {
        assert!(!found(&access, &session, &own, other), "{other}");
    }
    for other in ["localhost", "127.0.0.1", &link(&access, WebRole::View).0] {
        assert!(!found(&access, &session, &Binding::Host(other.into()), &cookie), "{other}");
    }
    assert!(!found(&access, &session, &Binding::Certificate([0; 32]), &cookie));
    assert!(access.session("0000000000000000", &own, &[&**cookie]).is_none());
    access.end(&session);
    assert!(!found(&access, &session, &own, &cookie) && !access.is_active(&session));
}

#[test]
fn hosts_of_links_are_random_names_below_localhost() {
    let access = access(HOUR, HOUR);
    let hosts = [link(&access, WebRole::View).0, link(&access, WebRole::View).0];
    assert_ne!(hosts[0], hosts[1]);
    assert!(hosts.iter().all(|host| is_host_of_link(host)));
    let label = "0123456789abcdef0123456789abcdef";
    for other in [
        "localhost",
        ".localhost",
        "127.0.0.1",
        label,
        &format!("{label}0.localhost"),
        &format!("x.{label}.localhost"),
        &format!("{label}.localhost.evil.example"),
    ] {
        assert!(!is_host_of_link(other), "{other}");
    }
}

#[test]
fn links_and_sessions_expire() {
    let brief = access(Duration::ZERO, HOUR);
    assert!(open(&brief, &link(&brief, WebRole::View)).is_none());
    let brief = access(HOUR, Duration::ZERO);
    let link = link(&brief, WebRole::View);
    let session = open(&brief, &link).unwrap();
    assert!(!brief.is_active(&session));
    assert!(!found(&brief, &session, &Binding::Host(link.0), &session.cookie.text()));
}

#[test]
fn oldest_link_and_session_are_replaced() {
    let access = access(HOUR, HOUR);
    let links: Vec<_> = (0..=MAX_LINKS).map(|_| link(&access, WebRole::Operate)).collect();
    assert!(open(&access, &links[0]).is_none());
    let first = open(&access, &links[1]).unwrap();
    let of_certificate = access.open_for("cn:Ann", [1; 32], WebRole::View);
    for _ in 1..MAX_SESSIONS {
        open(&access, &link(&access, WebRole::Operate)).unwrap();
    }
    assert!(access.is_active(&first));
    open(&access, &link(&access, WebRole::Operate)).unwrap();
    assert!(!access.is_active(&first));
    assert!(access.is_active(&of_certificate));
}

#[test]
fn session_belongs_to_its_certificate() {
    let access = access(HOUR, HOUR);
    let session = access.open_for("cn:Ann", [1; 32], WebRole::Operate);
    let (own, cookie) = (Binding::Certificate([1; 32]), session.cookie.text());
    assert!(found(&access, &session, &own, &cookie));
    assert!(!found(&access, &session, &Binding::Certificate([2; 32]), &cookie));
    assert!(!found(&access, &session, &Binding::Host("localhost".into()), &cookie));
    let again = access.any_session(&own, &[&**cookie]).unwrap();
    assert!(Arc::ptr_eq(&again, &session));
    // Another certificate of the same operator replaces it, and one of another operator does not.
    for digest in (2..).take(MAX_SESSIONS_PER_OPERATOR - 1) {
        access.open_for("cn:Ann", [digest; 32], WebRole::Operate);
        access.open_for("cn:Bob", [digest; 32], WebRole::View);
    }
    assert!(access.is_active(&session));
    access.open_for("cn:Ann", [9; 32], WebRole::Operate);
    assert!(!access.is_active(&session));
}

#[test]
fn link_without_page_is_refused() {
    let access = WebAccess::new(HOUR, HOUR);
    assert!(access.new_link(WebRole::View, 0).is_err());
    access.set_address(Err("the port is in use".into()));
    assert_eq!(access.new_link(WebRole::View, 0).unwrap_err(), "the port is in use");
}
