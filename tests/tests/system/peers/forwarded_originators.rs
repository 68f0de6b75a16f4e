//! Originators of a peer CSE. It may use its own CSE-ID and those of the AEs behind it (TS-0004
//! clause 7.3.2.1).

use saegis_tests::{Credential, LIGHT1, Request, Setup, Tool, with_each_client};
use serde_json::json;

with_each_client!(cse_may_use_its_own_and_forwarded_originators, cse_registers_as_remote_cse,);

const CSE: Credential<'static> =
    Credential { identity: "mn-2@in.provider.com", key: "0123456789abcdef0123456789abcdef" };

fn cse_may_use_its_own_and_forwarded_originators(tool: Tool) {
    let rows = format!(
        "ae_id,cse_id,kpsa,kpsa_id\n,/mn-2,{},{}\nClight-AE1,,1a2b3c,light@in.provider.com\n",
        CSE.key, CSE.identity
    );
    let gateway = Setup::new().file("psk-lookup-table.csv", &rows).start();
    let mut peer = tool.connect(gateway.port(), CSE);
    peer.ask(&Request::retrieve("/cse").from("/mn-2")).expect(200, 2000);
    for from in ["/mn-2/Clamp", "//in.provider.com/mn-2", "//in.provider.com/mn-2/Clamp"] {
        let reply = peer.ask(&Request::retrieve("/cse").from(from));
        assert_ne!(reply.rsc(), Some(4106), "{from}: {reply:?}");
    }
    for from in [
        "/mn-3",
        "/mn-3/Clamp",
        "/mn-123456",
        "Clight-AE1",
        "C",
        "//in.provider.com/mn-3",
        "//other.org/mn-2",
        "//other.org/mn-2/Clamp",
    ] {
        peer.ask(&Request::retrieve("/cse").from(from)).expect_refusal(403, 4106);
    }
    for from in ["mn-2", "/mn-2/lamp", "/mn-2/", "//mn-2"] {
        peer.ask(&Request::retrieve("/cse").from(from)).expect_refusal(400, 4000);
    }
    peer.ask(&Request::create_ae("lamp").from("/mn-2")).expect_refusal(405, 4005);
    peer.ask(&Request::retrieve("/cse").from("/mn-2")).expect(200, 2000);
}

fn registration(cse_id: &str) -> Request {
    let content = json!({ "m2m:csr": {
        "rn": "peer", "cb": format!("{cse_id}/cse"), "csi": cse_id, "rr": true,
    }});
    Request::create("/cse", 16, &content)
}

/// The peer creates, updates and deletes its <remoteCSE> (TS-0004 clause 7.4.4).
fn cse_registers_as_remote_cse(tool: Tool) {
    let rows = format!(
        "ae_id,cse_id,kpsa,kpsa_id\n,/mn-2,{},{}\nClight-AE1,,{},{}\n,,{},new@in.provider.com\n",
        CSE.key, CSE.identity, LIGHT1.key, LIGHT1.identity, CSE.key
    );
    let gateway = Setup::new().file("psk-lookup-table.csv", &rows).start();
    // Credentials of an AE, and of an AE that is not registered yet.
    let new = Credential { identity: "new@in.provider.com", ..CSE };
    for credential in [LIGHT1, new] {
        let mut ae = tool.connect(gateway.port(), credential);
        ae.ask(&registration("/mn-2").from("/mn-2")).expect_refusal(403, 4107);
    }
    let mut light = tool.connect(gateway.port(), LIGHT1);
    light.ask(&registration("/mn-2").from("Clight-AE1")).expect_refusal(405, 4005);
    let mut peer = tool.connect(gateway.port(), CSE);
    peer.ask(&registration("/mn-3").from("/mn-2")).expect_refusal(403, 4106);
    peer.ask(&registration("/mn-2").from("/mn-3")).expect_refusal(403, 4106);
    peer.ask(&registration("/mn-2").from("/mn-2")).expect(201, 2001);
    peer.ask(&registration("/mn-2").from("/mn-2")).expect_refusal(403, 4117);
    let change = json!({ "m2m:csr": { "rr": false } });
    peer.ask(&Request::update("/cse/peer", &change).from("/mn-2")).expect(200, 2004);
    light.ask(&Request::delete("/cse/peer").from("Clight-AE1")).expect_refusal(403, 4103);
    peer.ask(&Request::delete("/cse/peer").from("/mn-2")).expect(200, 2002);
    peer.ask(&registration("/mn-2").from("/mn-2")).expect(201, 2001);
}
