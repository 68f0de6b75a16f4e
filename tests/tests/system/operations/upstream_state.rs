//! The state of the CSE behind the gateway is known without a request.

use std::net::TcpListener;

use saegis_tests::{Gateway, Mark, Setup, saegis, wait_until};

fn upstream_in_status(gateway: &Gateway) -> String {
    let status = saegis(&gateway.path(""), &["status", "--json"]).expect(0).json();
    status["upstream"].as_str().unwrap_or_default().to_string()
}

#[test]
fn unreachable_upstream_is_reported() {
    // The port is free again when the listener is dropped.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let start = |setup: Setup| setup.upstream(port).with_metrics().start();
    let strict = start(Setup::new().with("upstream", "unready-when-down = true"));
    let gateway = start(Setup::new());
    for gateway in [&strict, &gateway] {
        let event = gateway.log().wait_after(Mark::START, "upstream.down");
        assert!(event.message().contains(&format!("http://127.0.0.1:{port}")), "{event:?}");
        assert!(upstream_in_status(gateway).starts_with("down since "));
        let metric = format!("saegis_upstream_up{{url=\"http://127.0.0.1:{port}/\"}}");
        assert!(gateway.monitor("/metrics").text.contains(&format!("{metric} 0")));
    }
    let ready = gateway.monitor("/readyz");
    assert_eq!(ready.status, 200);
    assert!(ready.text.starts_with("ready; the CSE behind the gateway cannot be reached since"));
    assert_eq!(strict.monitor("/readyz").status, 503);
    let _listening = TcpListener::bind(("127.0.0.1", port)).unwrap();
    for gateway in [&strict, &gateway] {
        gateway.log().wait("upstream.up");
        wait_until("it is up", || upstream_in_status(gateway) == "up");
        assert_eq!(gateway.monitor("/readyz").text, "ready\n");
    }
}

/// Without a CSE behind the gateway, no state is reported.
#[test]
fn embedded_cse_has_no_upstream_state() {
    let gateway = Setup::new().with_metrics().start();
    assert_eq!(upstream_in_status(&gateway), "");
    assert!(!gateway.monitor("/metrics").text.contains("saegis_upstream_up{"));
}
