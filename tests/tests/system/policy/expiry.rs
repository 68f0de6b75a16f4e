//! Upcoming expiry is reported in advance by the log, `saegis check`, `saegis status` and the
//! metrics.

use std::process::Command;
use std::time::{Duration, SystemTime};

use saegis_test_ca::Validity;
use saegis_tests::certificates::Pki;
use saegis_tests::{Gateway, LIGHT1, Mark, Setup, Tool, saegis};

const DAY: Duration = Duration::from_secs(24 * 3600);
const LIST: &str = "policies/aes.crl";

/// Returns a gateway for certificates with a revocation list of the AEs' authority.
fn with_revocation_list(pki: &Pki, list: Validity) -> Setup {
    let setup = pki.setup_with_list().with_metrics();
    let list = pki.example.ae_authority.revoke_for(&[], list).unwrap();
    setup.write(LIST, list.pem().as_bytes());
    setup
}

fn around_now(before: Duration, after: Duration) -> Validity {
    let now = SystemTime::now();
    Validity { from: now - before, until: now + after }
}

fn warnings(gateway: &Gateway) -> String {
    let status = saegis(&gateway.path(""), &["status", "--json"]).expect(0).json();
    status["warnings"].to_string()
}

#[test]
fn expiring_revocation_list_is_warned_about() {
    let pki = Pki::new();
    // One of ten days is left.
    let setup = with_revocation_list(&pki, around_now(9 * DAY, DAY));
    let folder = setup.path("");
    setup.configuration();
    let good_until = "the revocation list aes.crl is valid until 20";
    let checked = saegis(&folder, &["check"]).expect(0);
    assert!(checked.out.contains(&format!("  warning     {good_until}")), "{checked:?}");
    let gateway = setup.start();
    let warned = gateway.log().wait("policy.expires");
    assert_eq!(
        (warned.text("kind"), warned.text("file")),
        ("revocation-list".into(), "aes.crl".into())
    );
    assert_eq!(warned.text("level"), "WARN");
    assert!(warned.message().starts_with(good_until), "{warned:?}");
    assert!(warnings(&gateway).contains(good_until));
    let metric = "saegis_expiry_seconds{kind=\"revocation-list\",file=\"aes.crl\"}";
    let ends = gateway.monitor("/metrics").value(metric);
    let left =
        ends - SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((80_000.0..86_401.0).contains(&left), "{left}");
    let anchor = "saegis_expiry_seconds{kind=\"anchor\",file=\"aes.pem\"}";
    assert!(gateway.monitor("/metrics").value(anchor) > ends);

    // With most of its validity left, a list causes no warning.
    let mark = gateway.log().mark();
    let list = pki.example.ae_authority.revoke_for(&[], around_now(DAY, 9 * DAY)).unwrap();
    gateway.in_force_after(|g| g.replace(LIST, list.pem()));
    assert!(gateway.log().all(mark, "policy.expires", 0).is_empty());
    assert!(!warnings(&gateway).contains("revocation list"));
}

#[test]
fn expired_revocation_list_is_reported_as_expired() {
    let pki = Pki::new();
    let now = SystemTime::now();
    let setup = with_revocation_list(&pki, Validity { from: now - 2 * DAY, until: now - DAY });
    let folder = setup.path("");
    setup.configuration();
    let expired = "the revocation list aes.crl expired at 20";
    let checked = saegis(&folder, &["check"]).expect(0);
    assert!(checked.out.contains(&format!("  warning     {expired}")), "{checked:?}");
    assert!(!checked.out.starts_with("saegis.toml: good\n"), "{checked:?}");
    let json = saegis(&folder, &["check", "--json"]).expect(0).json();
    assert!(json["warnings"].to_string().contains(expired), "{json}");
    let gateway = setup.start();
    assert!(gateway.log().wait("policy.expires").message().starts_with(expired));
}

/// Returns the timestamp of this many seconds from now.
fn in_seconds(seconds: i64) -> String {
    let when = format!("{seconds} seconds");
    let date = Command::new("date").args(["-u", "-d", &when, "+%Y%m%dT%H%M%S"]).output();
    String::from_utf8(date.unwrap().stdout).unwrap().trim().into()
}

#[test]
fn expiring_rows_are_warned_about() {
    let key = "0f1e2d3c4b5a69788796a5b4c3d2e1f7".to_string();
    let row =
        |name: &str, expires: &str| format!("C{name},{key},{name}@in.provider.com,{expires}\n");
    let (past, soon, later) = (in_seconds(-60), in_seconds(86_400), in_seconds(30 * 86_400));
    let header = "ae_id,kpsa,kpsa_id,expires\n".to_string();
    let table =
        header.clone() + &row("a", &past) + &row("b", &soon) + &row("c", &later) + &row("d", "");
    let gateway = Setup::new().with_metrics().file("psk-lookup-table.csv", &table).start();
    let warned = gateway.log().wait("policy.rows-expire");
    assert_eq!((warned.number("expired"), warned.number("expiring")), (1, 1), "{warned:?}");
    let what = format!(
        "1 row of psk-lookup-table.csv expired; 1 row of psk-lookup-table.csv will expire within \
         a week, the first at {soon}"
    );
    assert!(warned.message().starts_with(&what), "{warned:?}");
    assert!(warnings(&gateway).contains(&what));
    let metrics = gateway.monitor("/metrics");
    let expired = metrics.value("saegis_expired_rows{file=\"psk-lookup-table.csv\"}");
    assert!((expired - 1.0).abs() < 0.1, "{metrics:?}");
    assert!(
        metrics.value("saegis_expiry_seconds{kind=\"rows\",file=\"psk-lookup-table.csv\"}") > 0.0
    );
    let mark = gateway.log().mark();
    gateway.in_force_after(|g| {
        g.replace("policies/psk-lookup-table.csv", header + &row("c", &later) + &row("d", ""));
    });
    assert!(gateway.log().all(mark, "policy.rows-expire", 0).is_empty());
    assert!(!warnings(&gateway).contains("expire"));
    // Rows without an expiry are accepted.
    let light = saegis_tests::Credential { identity: "d@in.provider.com", key: &key };
    Tool::OpenSsl.connect(gateway.port(), light).close();
    assert_eq!(Tool::OpenSsl.refused(gateway.port(), LIGHT1).alert, Some(20));
    assert!(gateway.log().all(Mark::START, "policy.expires", 0).is_empty());
}
