//! Debian's registry with a private authority and a password, and functions that publish artifacts.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, Config, ImageLayer};
use oci_client::manifest::OciImageManifest;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use oci_wasm::{WasmClient, WasmConfig};
use openssl::base64::encode_block;
use saegis_test_ca::{Authority, Name, Request};
use saegis_tests::{BOUND, Running, Setup};
use tempfile::TempDir;

/// The registry's user, and the output of `htpasswd -B` for it.
const USER: &str = "tester";
const PASSWORD: &str = "secret";
const HTPASSWD_LINE: &str = "tester:$2y$05$8I2xqm92ESETafmOweVEHeutLkG36zIXJjNro6XoP.iNs3.Kgs6m2\n";

/// Writes the files `ca.pem`, `tls.pem` and `tls.key` of a registry's certificate into a folder.
pub fn certify(folder: &Path) {
    let authority = Authority::new(&Request::new("Registries")).unwrap();
    let name = Name::dns("localhost");
    let issued = authority.issue(&Request::new("Registry").name(name)).unwrap();
    fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    fs::write(folder.join("tls.pem"), issued.chain_pem()).unwrap();
    fs::write(folder.join("tls.key"), issued.key_pem()).unwrap();
}

/// Writes credentials as `docker login` does.
pub fn log_in(file: &Path, host: &str, password: &str) {
    let auth = encode_block(format!("{USER}:{password}").as_bytes());
    fs::write(file, format!("{{\"auths\":{{\"{host}\":{{\"auth\":\"{auth}\"}}}}}}")).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

/// The registry. Dropping the value ends it.
pub struct Registry {
    folder: TempDir,
    running: Option<Running>,
    host: String,
}

impl Registry {
    pub fn start() -> Self {
        let folder = TempDir::with_prefix("saegis-registry-").unwrap();
        certify(folder.path());
        fs::write(folder.path().join("htpasswd"), HTPASSWD_LINE).unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
             auth:\n  htpasswd:\n    realm: tests\n    path: {}\n\
             http:\n  addr: 127.0.0.1:0\n  tls:\n    certificate: {}\n    key: {}\n",
            path("data"),
            path("htpasswd"),
            path("tls.pem"),
            path("tls.key"),
        );
        let file = folder.path().join("config.yml");
        fs::write(&file, config).unwrap();
        let running = Running::start(Command::new("docker-registry").arg("serve").arg(&file));
        let port = running.err.wait(BOUND, |bytes, ended| {
            let text = String::from_utf8_lossy(bytes);
            assert!(!ended, "{text}");
            let (_, rest) = text.split_once("listening on 127.0.0.1:")?;
            let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
            (digits.len() < rest.len()).then(|| digits.to_owned())
        });
        let host = format!("localhost:{}", port.unwrap());
        Self { folder, running: Some(running), host }
    }

    /// Returns `host:port`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Ends the registry. Its files remain.
    pub fn stop(&mut self) {
        self.running = None;
    }

    /// Returns the path of the authority's certificate.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Allows a gateway to fetch from the registry.
    pub fn allow(&self, setup: Setup) -> Setup {
        log_in(&setup.path("credentials.json"), &self.host, PASSWORD);
        fs::copy(self.authority(), setup.path("ca.pem")).unwrap();
        setup.with_another("[artifacts.registry]", &self.lines())
    }

    /// Returns the registry's lines in a gateway configuration.
    pub fn lines(&self) -> String {
        let files = "ca-file = \"ca.pem\"\ncredentials-file = \"credentials.json\"";
        format!("host = \"{}\"\n{files}\ntimeout-seconds = 5", self.host)
    }

    fn client(&self) -> Client {
        let data = fs::read(self.authority()).unwrap();
        let authority = Certificate { encoding: CertificateEncoding::Pem, data };
        let config =
            ClientConfig { extra_root_certificates: vec![authority], ..Default::default() };
        Client::try_from(config).unwrap()
    }

    fn publish<F, Fut>(&self, name: &str, push: F) -> String
    where
        F: FnOnce(Client, Reference, RegistryAuth) -> Fut,
        Fut: Future<Output = ()>,
    {
        let reference: Reference = format!("{}/{name}", self.host).parse().unwrap();
        let auth = RegistryAuth::Basic(USER.into(), PASSWORD.into());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let digest = runtime.block_on(async {
            push(self.client(), reference.clone(), auth.clone()).await;
            self.client().fetch_manifest_digest(&reference, &auth).await.unwrap()
        });
        format!("oci://{}/{name}@{digest}", self.host)
    }

    /// Publishes a module with the library for WebAssembly artifacts, and returns its reference.
    pub fn publish_module(&self, name: &str, file: &Path) -> String {
        self.publish(name, async |client, reference, auth| {
            let (config, layer) = WasmConfig::from_component(file, None).await.unwrap();
            let client = WasmClient::new(client);
            client.push(&reference, &auth, layer, config, None).await.unwrap();
        })
    }

    /// Publishes files like `oras push`, and returns their reference.
    pub fn publish_files(&self, name: &str, files: &[(&str, &str)]) -> String {
        let layers = files.iter().map(|(title, text)| {
            let title = ("org.opencontainers.image.title".to_owned(), (*title).to_owned());
            let media_type = "application/vnd.oci.image.layer.v1.tar".to_owned();
            ImageLayer::new(text.as_bytes().to_vec(), media_type, Some(BTreeMap::from([title])))
        });
        let layers: Vec<_> = layers.collect();
        self.publish(name, async |client, reference, auth| {
            let empty = "application/vnd.oci.empty.v1+json".to_owned();
            let config = Config::new(b"{}".to_vec(), empty, None);
            let manifest = OciImageManifest::build(&layers, &config, None);
            client.push(&reference, &layers, config, &auth, Some(manifest)).await.unwrap();
        })
    }
}
