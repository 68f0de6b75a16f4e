//! Notations of listen addresses.

use saegis_tests::{LIGHT1, Setup, Tool, saegis};

#[test]
fn host_name_and_all_interfaces_are_accepted() {
    for address in ["localhost:0", ":0", "[::]:0", "0.0.0.0:0"] {
        let gateway = Setup::new().listening_at(address).start();
        Tool::OpenSsl.connect(gateway.port(), LIGHT1).close();
        // Rules and limits by address see the same peer address for each kind of listener.
        let established = gateway.log().wait("association.established");
        assert!(established.text("peer").starts_with("127.0.0.1:"), "{address}: {established:?}");
    }
}

#[test]
fn metrics_address_may_be_loopback_name() {
    let gateway = Setup::new().with("metrics", "address = \"localhost:0\"").start();
    assert_eq!(gateway.monitor("/healthz").status, 200);
    for address in [":9464", "gateway.example:9464"] {
        let setup = Setup::new().with("metrics", &format!("address = \"{address}\""));
        setup.configuration();
        let ran = saegis(&setup.path(""), &["check"]).expect(2);
        assert!(ran.err.contains("metrics.address: must be on the loopback interface"), "{ran:?}");
    }
}

#[test]
fn invalid_address_is_reported_with_remedy() {
    for (address, what) in [
        ("8443", "\"8443\" has no host; write 127.0.0.1:8443 for this machine, or :8443"),
        ("localhost", "\"localhost\" has no port; write localhost:8443"),
        ("https://localhost:8443", "is not a host and a port; write them without a scheme"),
        ("::1:8443", "is an IPv6 address without brackets; write [::1]:8443"),
        ("localhost:port", "\"port\" is not a port"),
    ] {
        let setup = Setup::new().listening_at(address);
        setup.configuration();
        let ran = saegis(&setup.path(""), &["check"]).expect(2);
        assert!(ran.err.contains(what), "{ran:?}");
        assert!(ran.err.starts_with("error: saegis.toml:6:11: "), "{ran:?}");
    }
    let ran = Setup::new().listening_at("nobody.invalid:0").run_until_exit();
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("cannot bind listen.address nobody.invalid:0"), "{ran:?}");
}
