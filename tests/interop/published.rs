//! oneM2M clients of others that a registry has: the server `onem2m-mcp` for agents, of PyPI. It speaks
//! HTTP without TLS, so stunnel next to it opens the association.

use std::{env, fs};

use saegis_tests::{Credential, Setup, Upstream, run_agent};
use serde_json::{Value, json};

use crate::tunnel::Tunnel;

/// stunnel accepts keys of at least 16 bytes.
const AGENT: Credential<'static> =
    Credential { identity: "agent@in.provider.com", key: "a1b2c3d4e5f60718293a4b5c6d7e8f90" };

#[test]
fn agent_server_lives_as_an_ae() {
    if let Ok(reason) = env::var("SAEGIS_UNPUBLISHED_CLIENTS_SKIPPED") {
        eprintln!("{reason}");
    }
    let setup = Setup::new().with("notifications", "targets = [\"127.0.0.1\"]");
    let row = format!("Cagent,{},{}\n", AGENT.key, AGENT.identity);
    let table = fs::read_to_string(setup.table()).unwrap() + &row;
    let gateway = setup.file("psk-lookup-table.csv", &table).start();
    let (port, own) = (Upstream::closed_port(), Upstream::closed_port());
    let _tunnel = Tunnel::start(port, gateway.port(), AGENT);
    let settings = json!({"url": format!("http://127.0.0.1:{port}"), "port": own});
    let seen: Value = run_agent(&settings).expect(0).json();
    for (step, expected) in [
        ("registered", 2001),
        ("registered_again", 4117),
        ("created", 2001),
        ("watched", 2001),
        ("added", 2001),
        ("latest", 2000),
        ("discovered", 2000),
        ("missing", 4004),
        // The embedded CSE has no semantic descriptors.
        ("described", 5001),
        ("stopped", 2002),
        ("other", 4106),
    ] {
        assert_eq!(seen[step]["rsc"], expected, "{step}: {seen}");
    }
    let told = &seen["notified"][0];
    assert_eq!((&told["eventType"], &told["resource"]), (&json!(3), &json!("cse/agent/lamp")));
    assert_eq!(told["content"]["m2m:cin"]["con"], "on", "{told}");
    assert_eq!(seen["latest"]["result"]["m2m:cin"]["con"], "on");
    assert_eq!(seen["discovered"]["result"]["m2m:uril"], json!(["cse/agent/lamp"]));
}
