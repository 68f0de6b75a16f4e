//! ACME as a client of mosquitto: behind a gateway that is the other client, and as the registrar
//! of `saegis ae`, with mosquitto as the MQTT server that authenticates it.

use std::fs;
use std::net::TcpStream;
use std::process::Command;

use saegis_tests::{Ae, LIGHT1, LIGHT2, Running, Setup, Upstream, saegis, wait_until};
use tempfile::TempDir;

use crate::acme::Acme;

/// mosquitto with a port without TLS for ACME and the gateway, and one with pre-shared keys.
struct Mosquitto {
    plain: u16,
    psk: u16,
    folder: TempDir,
    _running: Running,
}

impl Mosquitto {
    fn start() -> Self {
        Self::start_at(Upstream::closed_port())
    }

    fn start_at(plain: u16) -> Self {
        let folder = TempDir::with_prefix("saegis-mosquitto-").expect("a temporary folder");
        let psk = Upstream::closed_port();
        let keys = folder.path().join("keys");
        fs::write(&keys, format!("{}:{}\n", LIGHT1.identity, LIGHT1.key)).expect("it is ours");
        let configuration = format!(
            "per_listener_settings true\nuser root\n\
             listener {plain} 127.0.0.1\nallow_anonymous true\n\
             listener {psk} 127.0.0.1\npsk_file {}\npsk_hint none\ntls_version tlsv1.2\n\
             ciphers PSK-AES128-CBC-SHA256:@SECLEVEL=0\nallow_anonymous true\n",
            keys.display()
        );
        let file = folder.path().join("mosquitto.conf");
        fs::write(&file, configuration).expect("it is ours");
        // Debian installs it in a folder that is not on every search path.
        let mut command = Command::new("/usr/sbin/mosquitto");
        let running = Running::start(command.arg("-c").arg(&file));
        wait_until("mosquitto listens", || TcpStream::connect(("127.0.0.1", psk)).is_ok());
        Self { plain, psk, folder, _running: running }
    }
}

#[test]
fn lights_use_acme_behind_mqtt_server() {
    let mosquitto = Mosquitto::start();
    let _acme = Acme::start_with_mqtt(mosquitto.plain);
    let url = format!("url = \"mqtt://127.0.0.1:{}\"", mosquitto.plain);
    let gateway = Setup::new().with("upstream", &url).start();
    let light1 = Ae::new(&gateway, "Clight-AE1", LIGHT1, "light1");
    let light2 = Ae::new(&gateway, "Clight-AE2", LIGHT2, "light2");
    for light in [&light1, &light2] {
        light.run(&["register"]).expect(0);
        light.run(&["create", "container", "lamp"]).expect(0);
        light.run(&["send", "lamp", "gr\u{fc}n"]).expect(0);
        assert_eq!(
            light.run_json(&["latest", "lamp"]).json()["content"]["m2m:cin"]["con"],
            "gr\u{fc}n"
        );
    }
    // ACME itself refuses the other light's lamp, and the gateway another originator.
    light2.run(&["latest", "/mn-cse-123456/cse/light1/lamp"]).expect(4);
    let other = Ae::new(&gateway, "Clight-AE2", LIGHT1, "other");
    other.run(&["latest", "/mn-cse-123456/cse/light2/lamp"]).expect(4);
    light1.run(&["deregister"]).expect(0);
    light1.run(&["latest", "lamp"]).expect(4);
}

#[test]
fn ae_uses_mqtt_server_with_pre_shared_keys() {
    let mosquitto = Mosquitto::start();
    let _acme = Acme::start_with_mqtt(mosquitto.plain);
    let text = format!(
        "[registrar]\naddress = \"127.0.0.1:{}\"\ncse-id = \"mn-cse-123456\"\n\
         [credential]\nkpsa-id = \"{}\"\nkpsa = \"{}\"\n\
         suites = [\"TLS_PSK_WITH_AES_128_CBC_SHA256\"]\n\
         [ae]\nae-id = \"Clight-AE1\"\napp-id = \"Nlight\"\nname = \"light1\"\n",
        mosquitto.psk, LIGHT1.identity, LIGHT1.key,
    );
    fs::write(mosquitto.folder.path().join("ae.toml"), text).expect("it is ours");
    let run = |verb: &[&str]| {
        let arguments = [&["ae", "--config", "ae.toml", "--binding", "mqtt"], verb].concat();
        saegis(mosquitto.folder.path(), &arguments)
    };
    run(&["register"]).expect(0);
    run(&["create", "container", "lamp"]).expect(0);
    run(&["send", "lamp", "on"]).expect(0);
    let latest = run(&["--json", "latest", "lamp"]).expect(0).json();
    assert_eq!(latest["content"]["m2m:cin"]["con"], "on", "{latest}");
    run(&["deregister"]).expect(0);
    run(&["latest", "lamp"]).expect(4);
}
