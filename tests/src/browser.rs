//! Chromium, which chromedriver controls over WebDriver.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use openssl::base64;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::Request;
use crate::process::{BOUND, Running};
use crate::waiting::eventually_within;

/// Time limit of each command and each wait. A browser needs many times the work of the other
/// programs, and starts slowly while other tests use the processors.
const BROWSER_BOUND: Duration = Duration::from_secs(120);

/// Arguments of Chromium. Its sandbox does not work as root, and a container can have little shared
/// memory. Others make pictures smaller, or prevent requests to services of its vendor.
const ARGUMENTS: [&str; 15] = [
    "--headless",
    "--hide-scrollbars",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-extensions",
    "--disable-lcd-text",
    "--disable-sync",
    "--no-default-browser-check",
    "--no-first-run",
];

/// A running browser. Dropping the value ends it.
pub struct Browser {
    driver: Option<Running>,
    port: u16,
    session: String,
    /// Process ID of Chromium.
    process: u64,
    /// Its profile.
    profile: TempDir,
}

impl Browser {
    /// Starts Chromium. It resolves no name except these, which are names of this machine.
    #[track_caller]
    pub fn start(names: &[&str]) -> Self {
        let installed = std::env::var_os("PATH").is_some_and(|path| {
            std::env::split_paths(&path).any(|folder| folder.join("chromedriver").exists())
        });
        assert!(installed, "chromedriver is missing; run `apt-get install chromium-driver`");
        let profile = TempDir::with_prefix("saegis-browser-").expect("a temporary folder");
        let mut command = Command::new("chromedriver");
        let driver = Running::start(command.arg("--port=0"));
        let port = driver.out.wait(BROWSER_BOUND, |bytes, _| {
            let text = String::from_utf8_lossy(bytes);
            let (_, rest) = text.split_once("started successfully on port ")?;
            let (port, _) = rest.split_once('.')?;
            port.parse().ok()
        });
        let port = port.unwrap_or_else(|| panic!("no port: {}", driver.out.text()));
        let known = names.iter().map(|name| format!("MAP {name} 127.0.0.1, "));
        let known: String = known.collect();
        let names = format!(
            "{known}MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost, EXCLUDE *.localhost"
        );
        let mut arguments: Vec<_> = ARGUMENTS.iter().map(ToString::to_string).collect();
        arguments.push(format!("--host-resolver-rules={names}"));
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        }}});
        let session = String::new();
        let mut browser = Self { driver: Some(driver), port, session, process: 0, profile };
        let started = browser.command("POST", "/session", &capabilities);
        browser.session = started["sessionId"].as_str().expect("a session").into();
        browser.process = started["capabilities"]["goog:processID"].as_u64().unwrap_or_default();
        browser
    }

    /// Sends a command of WebDriver, and returns its value.
    #[track_caller]
    fn command(&self, method: &str, path: &str, content: &Value) -> Value {
        let request = Request::new(method, path)
            .to_host(&format!("127.0.0.1:{}", self.port))
            .header("Content-Type", "application/json; charset=utf-8")
            .body(&content.to_string());
        let response = request.send_in_plaintext_within(self.port, BROWSER_BOUND);
        let value = response.json()["value"].clone();
        assert_eq!(response.status(), 200, "{method} {path}: {value}");
        value
    }

    #[track_caller]
    fn of_session(&self, path: &str, content: &Value) -> Value {
        self.command("POST", &format!("/session/{}/{path}", self.session), content)
    }

    /// Opens an address, and waits until it is loaded.
    #[track_caller]
    pub fn open(&self, address: &str) {
        self.of_session("url", &json!({ "url": address }));
    }

    /// Runs a script in the page, and returns its result.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        self.of_session("execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Runs a script in the page until its result is not null, and returns the result.
    #[track_caller]
    pub fn wait_for(&self, script: &str) -> Value {
        eventually_within(BROWSER_BOUND, || match self.run(script) {
            Value::Null => Err(format!("null: {script}")),
            found => Ok(found),
        })
    }

    /// Waits until a condition holds in the browser.
    #[track_caller]
    pub fn wait_until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        eventually_within(BROWSER_BOUND, || if holds(self) { Ok(()) } else { Err(what) });
    }

    /// Sends a command of the DevTools protocol, and returns its result.
    #[track_caller]
    pub fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.of_session("goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    /// Sets the size of the page and its color scheme.
    #[track_caller]
    pub fn display(&self, (width, height): (u64, u64), scheme: &str) {
        let size = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false,
        });
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", &media);
    }

    /// Writes a picture of the visible part of the page, in PNG.
    #[track_caller]
    pub fn screenshot(&self, file: &Path) {
        let taken = self.devtools("Page.captureScreenshot", &json!({ "format": "png" }));
        let picture = base64::decode_block(taken["data"].as_str().expect("a picture"));
        fs::create_dir_all(file.parent().expect("a folder")).expect("it can be created");
        fs::write(file, picture.expect("it is in Base64")).expect("it can be written");
    }

    /// Returns the messages of the console since the last call.
    #[track_caller]
    pub fn console(&self) -> Vec<String> {
        let messages = self.of_session("se/log", &json!({ "type": "browser" }));
        let messages = messages.as_array().into_iter().flatten();
        messages.map(|of| of["message"].as_str().unwrap_or_default().to_string()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            // Chromium could outlive its driver.
            let path = format!("/session/{}", self.session);
            let request =
                Request::new("DELETE", &path).to_host(&format!("127.0.0.1:{}", self.port)).bytes();
            if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
                let _ = stream.set_read_timeout(Some(BOUND));
                let _ = stream.write_all(&request).and_then(|()| stream.read(&mut [0; 64]));
            }
        }
        drop(self.driver.take());
        // It has ended, unless the driver did not respond. The number could already be that of another
        // process, so the profile is compared.
        let arguments = fs::read(format!("/proc/{}/cmdline", self.process)).unwrap_or_default();
        let profile = self.profile.path().display().to_string();
        if String::from_utf8_lossy(&arguments).contains(&profile) {
            let _ = Command::new("kill").args(["-KILL", &self.process.to_string()]).status();
        }
    }
}
