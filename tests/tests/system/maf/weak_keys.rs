//! Keys that can be guessed, from a MAF that distributes them. The MAF of this project registers no
//! such keys, so the test is the MAF.

use std::thread;

use saegis_tests::{Credential, Gateway, Light, ListeningAe, Mark};
use serde_json::json;

use super::scene::{FQDN, IN_KM, PHONE, Settings};

/// Eight bytes, which is the minimum, without a pattern.
const SHORT: &str = "9c36c8112163fa4d";

/// Starts the IN-CSE with a MAF, of whose keys it uses this part.
fn start(part: &str) -> (ListeningAe, Gateway) {
    let (id, km) = IN_KM;
    let maf = ListeningAe::with_key(Credential { identity: id, key: km });
    let peer = format!(
        "fqdn = \"{FQDN}\"\naddress = \"127.0.0.1:{}\"\nkey = \"{part}\"\n\
         credential = {{ km-id = \"{id}\", km = \"{km}\" }}\n",
        maf.port()
    );
    (maf, Settings::new().infrastructure.with_another("[maf-peer]", &peer).start())
}

/// Returns whether a client can connect with a key, while the MAF distributes the whole one for its
/// identity.
fn connects(
    gateway: &Gateway,
    maf: &mut ListeningAe,
    (name, key, whole): (&str, &str, &str),
) -> bool {
    let (port, identity) = (gateway.port(), format!("{name}@{FQDN}"));
    thread::scope(|scope| {
        let credential = Credential { identity: &identity, key };
        let connecting = scope.spawn(move || Light::connect(port, credential).is_ok());
        let request = maf.request_with("GET");
        let content = json!({"sec:symmKeyReg": {
            "et": "20990101T000000", "scid": PHONE, "adfq": "in.provider.com", "suid": 32,
            "keyValue": whole,
        }});
        maf.answer_with(&request, 2000, &content.to_string());
        connecting.join().unwrap()
    })
}

#[test]
fn guessable_key_from_maf_is_refused() {
    for (part, keys) in [
        ("whole", ["01", "9c36c8112163fa", &"00".repeat(16), &"ab".repeat(32)]),
        (
            "first-half",
            [
                "0102",
                &format!("{SHORT}8d053d8e085ad3"),
                &format!("{}{SHORT}", "00".repeat(8)),
                &"00".repeat(64),
            ],
        ),
    ] {
        let (mut maf, gateway) = start(part);
        for (n, whole) in keys.into_iter().enumerate() {
            let key = if part == "whole" { whole } else { &whole[..whole.len() / 4 * 2] };
            let mark = gateway.log().mark();
            assert!(
                !connects(&gateway, &mut maf, (&format!("k{n}"), key, whole)),
                "{part} {whole}"
            );
            let refused = gateway.log().wait_after(mark, "maf.key-refused");
            assert_eq!(refused.text("source"), PHONE);
            assert!(!refused.message().contains(whole), "{}", refused.message());
        }
    }
}

#[test]
fn weak_key_from_maf_is_logged() {
    for (part, rest) in [("whole", ""), ("first-half", "053d8e085ad303e1")] {
        let (mut maf, gateway) = start(part);
        let whole = format!("{SHORT}{rest}");
        assert!(connects(&gateway, &mut maf, ("weak", SHORT, &whole)));
        assert_eq!(gateway.log().wait("maf.weak-key").text("source"), PHONE);
    }
    let (mut maf, gateway) = start("whole");
    let good = format!("{SHORT}053d8e085ad303e1");
    assert!(connects(&gateway, &mut maf, ("good", &good, &good)));
    assert!(gateway.log().all(Mark::START, "maf.weak-key", 0).is_empty());
}
