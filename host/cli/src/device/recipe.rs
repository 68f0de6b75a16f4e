//! Instructions and programs for a device: how it uses its credential.

use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use serde_json::{Value, json};

use saegis_gateway::devices::{DeviceError, check_plain};

/// The form of the instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A configuration for `saegis ae`
    Ae,
    /// A request with OpenSSL, as a shell command
    Openssl,
    /// A program in C with OpenSSL 3
    C,
    /// A program in C with Mbed TLS
    Mbedtls,
    /// A program for ESP-IDF
    EspIdf,
    /// A sketch for Arduino on ESP32
    Arduino,
    /// A program in Python 3.13
    Python,
    /// A program in JavaScript for Node 20
    Node,
    /// A QR code with all values, for a terminal
    Qr,
    /// All values as JSON
    Json,
}

/// The values that a device needs.
pub struct Recipe {
    /// Address of the gateway: `host:port`.
    pub gateway: String,
    /// CSE-ID, without a slash.
    pub cse_id: String,
    /// Resource name of the CSEBase.
    pub csebase: String,
    /// AE-ID-Stem.
    pub ae_id: String,
    /// App-ID.
    pub app_id: String,
    /// Resource name of the AE.
    pub name: String,
    /// KpsaID.
    pub kpsa_id: String,
    /// Kpsa in hexadecimal digits.
    pub kpsa: String,
}

/// Values of the worked example, which the programs in `examples/devices` have.
const EXAMPLE_KPSA_ID: &str = "AE123456789012-Light@in.provider.com";
const EXAMPLE_KPSA: &str = "1a2b3c4d5e6f7a8b";

impl Recipe {
    /// Returns the recipe, after a check that no value can end the text that contains it.
    ///
    /// # Errors
    /// Returns the value with another character.
    pub fn checked(self) -> Result<Self, DeviceError> {
        for (what, value) in [
            ("address", &self.gateway),
            ("CSE-ID", &self.cse_id),
            ("name of the CSEBase", &self.csebase),
            ("AE-ID", &self.ae_id),
            ("App-ID", &self.app_id),
            ("name", &self.name),
            ("KpsaID", &self.kpsa_id),
            ("key", &self.kpsa),
        ] {
            check_plain(what, value)?;
        }
        Ok(self)
    }

    /// Returns the instructions in a form.
    pub fn text(&self, format: Format) -> String {
        match format {
            Format::Ae => self.ae(),
            Format::Openssl => self.openssl(),
            Format::C => self.program(include_str!("../../../../examples/devices/light.c")),
            Format::Mbedtls => {
                self.program(include_str!("../../../../examples/devices/light-mbedtls.c"))
            }
            Format::EspIdf => {
                self.program(include_str!("../../../../examples/devices/light-esp-idf.c"))
            }
            Format::Arduino => {
                self.program(include_str!("../../../../examples/devices/light-arduino.ino"))
            }
            Format::Python => self.program(include_str!("../../../../examples/devices/light.py")),
            Format::Node => self.program(include_str!("../../../../examples/devices/light.mjs")),
            Format::Qr => self.qr(),
            Format::Json => self.json().to_string(),
        }
    }

    /// Returns all values.
    pub fn json(&self) -> Value {
        json!({
            "name": self.name,
            "gateway": self.gateway,
            "cse_id": self.cse_id,
            "csebase": self.csebase,
            "ae_id": self.ae_id,
            "app_id": self.app_id,
            "kpsa_id": self.kpsa_id,
            "kpsa": self.kpsa,
        })
    }

    fn ae(&self) -> String {
        let Self { gateway, cse_id, kpsa_id, kpsa, ae_id, app_id, name, .. } = self;
        format!(
            "[registrar]\naddress = \"{gateway}\"\ncse-id = \"{cse_id}\"\n\n\
             [credential]\nkpsa-id = \"{kpsa_id}\"\nkpsa = \"{kpsa}\"\n\n\
             [ae]\nae-id = \"{ae_id}\"\napp-id = \"{app_id}\"\nname = \"{name}\""
        )
    }

    /// Returns a command that registers the device.
    fn openssl(&self) -> String {
        let Self { gateway, csebase, kpsa_id, kpsa, ae_id, app_id, name, .. } = self;
        let body =
            format!(r#"{{"m2m:ae":{{"rn":"{name}","api":"{app_id}","rr":false,"srv":["3"]}}}}"#);
        format!(
            "printf 'POST /{csebase} HTTP/1.1\\r\\nHost: gateway\\r\\nConnection: close\\r\\n\
             X-M2M-Origin: {ae_id}\\r\\nX-M2M-RI: r1\\r\\nX-M2M-RVI: 3\\r\\n\
             Content-Type: application/json;ty=2\\r\\nContent-Length: {}\\r\\n\\r\\n{body}' | \
             openssl s_client -quiet -connect {gateway} -tls1_2 \
             -cipher ECDHE-PSK-CHACHA20-POLY1305 -psk {kpsa} -psk_identity {kpsa_id}",
            body.len()
        )
    }

    /// Returns an example program with the values of this device.
    fn program(&self, example: &str) -> String {
        let (host, port) = self.gateway.rsplit_once(':').unwrap_or((&self.gateway, "8443"));
        let bytes = |key: &str| {
            let digits = key.as_bytes().chunks(2).map(String::from_utf8_lossy);
            digits.map(|two| format!("0x{two}")).collect::<Vec<_>>().join(", ")
        };
        example
            .replace(EXAMPLE_KPSA_ID, &self.kpsa_id)
            .replace(&bytes(EXAMPLE_KPSA), &bytes(&self.kpsa))
            .replace(EXAMPLE_KPSA, &self.kpsa)
            .replace("Clight-AE1", &self.ae_id)
            .replace("Nlight", &self.app_id)
            .replace("light1", &self.name)
            .replace("Light 1 of the worked example", &format!("The device {}", self.name))
            .replace("127.0.0.1:8443", &self.gateway)
            .replace("\"127.0.0.1\"", &format!("\"{host}\""))
            .replace("\"8443\"", &format!("\"{port}\""))
            .replace("/cse", &format!("/{}", self.csebase))
            .trim_end()
            .to_string()
    }

    fn qr(&self) -> String {
        match QrCode::new(self.json().to_string()) {
            Ok(code) => code.render::<Dense1x2>().build(),
            Err(e) => format!("the values do not fit in a QR code: {e}"),
        }
    }
}
