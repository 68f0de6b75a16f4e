//! Sessions of the gateway's web page, with requests that a browser would send or would refuse to send.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::command_line::saegis;
use crate::gateway::Gateway;
use crate::http::{Request, Response};
use crate::process::BOUND;

/// A session.
pub struct WebSession {
    /// Its host, with the port.
    pub host: String,
    /// Path of its pages.
    pub path: String,
    /// Its cookie, as the browser sends it.
    pub cookie: String,
}

impl Gateway {
    /// Creates a link to the web page, and returns its address.
    #[track_caller]
    pub fn web_link(&self, arguments: &[&str]) -> String {
        let link = ["admin", "link", "--json"];
        let printed = saegis(&self.path(""), &[&link, arguments].concat()).expect(0).json();
        printed["url"].as_str().expect("an address").into()
    }

    /// Returns the port of the web page for other machines.
    #[track_caller]
    pub fn remote_web_port(&self) -> u16 {
        let printed = self.printed();
        let (_, rest) = printed.split_once("  web page    https://").expect("it has such a page");
        let (address, _) = rest.split_once(',').expect("an address");
        address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("a port")
    }

    /// Sends a request to the web page.
    #[track_caller]
    pub fn web(&self, request: &Request) -> Response {
        let address = self.web_address();
        let (_, port) = address.rsplit_once(':').expect("a port");
        request.send_in_plaintext(port.parse().expect("a number"))
    }

    /// Opens a session with the role operate, or with `--view`.
    #[track_caller]
    pub fn open_web(&self, arguments: &[&str]) -> WebSession {
        let (host, link) = host_and_path(&self.web_link(arguments));
        let opened = self.web(&Request::new("GET", &link).to_host(&host));
        assert_eq!(opened.status(), 303, "{opened:?}");
        let path = opened.header("location").expect("a location").to_string();
        let cookie = opened.header("set-cookie").expect("a cookie");
        let cookie = cookie.split(';').next().unwrap_or_default().to_string();
        WebSession { host, path, cookie }
    }
}

/// Returns the host of a link, with the port, and its path.
pub fn host_and_path(link: &str) -> (String, String) {
    let rest = link.strip_prefix("http://").unwrap_or_else(|| panic!("{link}: another scheme"));
    let (host, _) = rest.split_once('/').expect("a path");
    (host.into(), rest[host.len()..].into())
}

impl Request {
    /// Replaces the host.
    pub fn to_host(self, host: &str) -> Self {
        self.without("Host").header("Host", host)
    }
}

impl WebSession {
    /// Returns a request for one of its pages.
    pub fn request(&self, method: &str, page: &str) -> Request {
        let path = format!("{}{page}", self.path);
        Request::new(method, &path).to_host(&self.host).header("Cookie", &self.cookie)
    }

    /// Returns a form for an action, as its pages send it. `token` is the first field.
    pub fn form(&self, action: &str, token: &str, fields: &str) -> Request {
        self.request("POST", action)
            .header("Origin", &format!("http://{}", self.host))
            .header("Sec-Fetch-Site", "same-origin")
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(&format!("token={token}{fields}"))
    }

    /// Returns the text of a page.
    #[track_caller]
    pub fn page(&self, gateway: &Gateway, page: &str) -> String {
        let shown = gateway.web(&self.request("GET", page));
        assert_eq!(shown.status(), 200, "{shown:?}");
        shown.text()
    }

    /// Returns the token of its forms.
    #[track_caller]
    pub fn token(&self, gateway: &Gateway) -> String {
        let page = self.page(gateway, "");
        let (_, rest) = page.split_once("name=\"token\" value=\"").expect("a form");
        rest.split_once('"').expect("an attribute").0.into()
    }

    /// Opens the stream of updates.
    pub fn updates(&self) -> TcpStream {
        let (_, port) = self.host.rsplit_once(':').expect("a port");
        let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).expect("the port is open");
        stream.set_read_timeout(Some(BOUND)).expect("a bound");
        stream.write_all(&self.request("GET", "events").bytes()).expect("it can be sent");
        stream
    }
}

/// Reads a stream until a text occurs or the stream ends, and returns what was read.
#[track_caller]
pub fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let (mut read, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let all = String::from_utf8_lossy(&read).into_owned();
        if all.contains(text) {
            return all;
        }
        match stream.read(&mut chunk) {
            Ok(length @ 1..) => read.extend_from_slice(&chunk[..length]),
            Ok(0) => return all,
            Err(error) => panic!("no {text:?} within the limit ({error}): {all}"),
        }
    }
}
