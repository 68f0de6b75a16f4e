//! Other sites in the same browser: a page on another port of this machine, and a page of another
//! site whose name resolves to this machine. Both have secrets of the session, which they cannot know.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use saegis_tests::{Browser, Gateway, LIGHT1, Setup, Tool, host_and_path, wait_until};

use super::web::{associations, with_page};
use super::web_browser::open;

/// A name of another site.
const EVIL: &str = "evil.example";

/// A server with one page for all requests, which it records.
struct Site {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Site {
    fn serve(page: String) -> Self {
        Self::with_script(page, "")
    }

    /// Serves a script at `/worker.js` too.
    fn with_script(page: String, script: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let recorded = requests.clone();
        let is_over = Arc::<AtomicBool>::default();
        let over = is_over.clone();
        let thread = std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                if over.load(Ordering::Acquire) {
                    return;
                }
                // A browser also opens connections without a request.
                let (page, recorded) = (page.clone(), recorded.clone());
                std::thread::spawn(move || respond(socket, &page, script, &recorded));
            }
        });
        Self { port, requests, is_over, thread }
    }

    /// Closes the port.
    fn stop(self) {
        self.is_over.store(true, Ordering::Release);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        self.thread.join().unwrap();
    }
}

/// Records a request, and sends the page or the script.
fn respond(mut socket: TcpStream, page: &str, script: &str, recorded: &Mutex<Vec<String>>) {
    let (mut request, mut chunk) = (Vec::new(), [0; 4096]);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match socket.read(&mut chunk) {
            Ok(length @ 1..) => request.extend_from_slice(&chunk[..length]),
            _ => return,
        }
    }
    let (kind, content) = match request.starts_with(b"GET /worker.js ") {
        true => ("text/javascript", script),
        false => ("text/html", page),
    };
    recorded.lock().unwrap().push(String::from_utf8_lossy(&request).into_owned());
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close");
    let length = content.len();
    let _ =
        socket.write_all(format!("{head}\r\nContent-Length: {length}\r\n\r\n{content}").as_bytes());
}

/// Returns a script that tries everything with the page of the session at `address`, and then sets
/// `window.found` to what it could read.
fn attack(address: &str, token: &str, id: u64, link: &str) -> String {
    format!(
        "const found = [];
        const note = (what) => (value) => found.push(`${{what}}: ${{value}}`);
        const get = (mode) => fetch('{address}', {{ mode, credentials: 'include' }})
          .then((r) => r.text()).then((text) => text && note(mode)(text), () => 0);
        const body = 'token={token}&id={id}';
        const post = (type) => fetch('{address}end-association', {{
          method: 'POST', mode: 'no-cors', credentials: 'include', headers: {{ 'Content-Type': type }}, body,
        }}).then((r) => r.text()).then((text) => text && note(type)(text), () => 0);
        const load = (name, attributes, parent) => new Promise((done) => {{
          const element = document.createElement(name);
          Object.assign(element, attributes);
          element.onload = () => {{
            const inside = (() => {{ try {{ return element.contentDocument?.body?.innerText; }} catch {{ return 0; }} }})();
            if (name !== 'iframe' && element.rel !== 'prefetch') note(name)('loaded');
            if (inside) note(name)(inside);
            done();
          }};
          element.onerror = done;
          parent.append(element);
        }});
        const events = new Promise((done) => {{
          const source = new EventSource('{address}events', {{ withCredentials: true }});
          source.onopen = () => {{ note('events')('open'); done(); }};
          source.addEventListener('update', (event) => note('events')(event.data));
          source.onerror = () => {{ source.close(); done(); }};
        }});
        const tried = [
          get('cors'), get('no-cors'), events,
          post('application/x-www-form-urlencoded'), post('text/plain'),
          load('img', {{ src: '{address}icon.svg' }}, document.body),
          load('script', {{ src: '{address}page.js' }}, document.body),
          load('iframe', {{ src: '{address}' }}, document.body),
          load('link', {{ rel: 'stylesheet', href: '{address}style.css' }}, document.head),
          load('link', {{ rel: 'prefetch', href: '{link}' }}, document.head),
          fetch('{link}', {{ mode: 'no-cors', credentials: 'include' }}).then(() => 0, () => 0),
        ];
        Promise.all(tried).then(() => {{ window.found = found; }});"
    )
}

/// Lets a site attack the page of a session: by a script, by forms and by a link.
fn attacked_by(browser: &Browser, gateway: &Gateway, name: &str) {
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    let [id] = associations(gateway)[..] else { panic!("one association") };
    let address = open(browser, gateway, &[]);
    let token = browser.run("return document.querySelector('[name=token]').value");
    let token = token.as_str().unwrap();
    let link = gateway.web_link(&[]);
    let forms: String = ["application/x-www-form-urlencoded", "text/plain"]
        .iter()
        .map(|kind| {
            format!(
                "<form method=post action='{address}end-association' enctype='{kind}'>
                <input name=token value='{token}'><input name=id value='{id}'></form>"
            )
        })
        .collect();
    let script = attack(&address, token, id, &link);
    let site = Site::serve(format!("<!DOCTYPE html><body>{forms}<script>{script}</script>"));
    let own = format!("http://{name}:{}/", site.port);
    browser.open(&own);
    let found = browser.wait_for("return window.found ?? null");
    assert_eq!(found, serde_json::json!([]), "the other site reads nothing");
    for change in ["document.forms[0].submit()", "document.forms[1].submit()"] {
        browser.open(&own);
        browser.wait_for("return window.found ?? null");
        browser.run(change);
        refused(browser);
    }
    // A link that another site opens is refused, and not used up.
    browser.open(&own);
    browser.wait_for("return window.found ?? null");
    browser.run(&format!("location.href = '{link}'"));
    refused(browser);
    assert_eq!(associations(gateway), [id]);
    light.assert_served_as("Clight-AE1");
    browser.open(&link);
    browser.wait_until("the link opens a session", |browser| {
        browser.run("return document.title") == "Overview – Saegis /mn-cse-123456"
    });
    assert!(!site.requests.lock().unwrap().is_empty());
}

#[track_caller]
fn refused(browser: &Browser) {
    browser.wait_until("the request is refused", |browser| {
        let text = browser.run("return document.body?.innerText ?? ''").to_string();
        text.contains("This page opens with a link")
    });
}

#[test]
fn page_on_other_port_reads_and_changes_nothing() {
    let (browser, gateway) = (Browser::start(&[]), with_page().start());
    attacked_by(&browser, &gateway, "127.0.0.1");
}

#[test]
fn other_site_in_browser_reads_and_changes_nothing() {
    let (browser, gateway) = (Browser::start(&[EVIL]), with_page().start());
    attacked_by(&browser, &gateway, EVIL);
}

/// A name of the other site becomes one of this machine, so that its pages have the gateway's origin.
#[test]
fn rebound_name_in_browser_gets_nothing() {
    let (browser, gateway) = (Browser::start(&[EVIL]), with_page().start());
    let address = open(&browser, &gateway, &[]);
    let (host, _) = host_and_path(&address);
    let (name, _) = host.split_once(':').unwrap();
    let rebound = address.replace(name, EVIL);
    browser.open(&rebound);
    refused(&browser);
    // The page is of the same origin as the address, so it can read the response.
    let read = format!("return fetch('{rebound}events').then((r) => r.text())");
    assert!(browser.run(&read).to_string().contains("This page opens with a link"));
    let link = gateway.web_link(&[]);
    let (host, _) = host_and_path(&link);
    let (name, _) = host.split_once(':').unwrap();
    browser.open(&link.replace(name, EVIL));
    refused(&browser);
    browser.open(&link);
    browser.wait_until("the link opens a session", |browser| {
        browser.run("return document.title") == "Overview – Saegis /mn-cse-123456"
    });
}

/// Cookies do not belong to a port. So a server on another port sees whether the browser sends them.
#[test]
fn browser_sends_no_cookie_to_other_ports_and_sites() {
    let (browser, gateway) = (Browser::start(&[EVIL]), with_page().start());
    let address = open(&browser, &gateway, &[]);
    let (host, path) = host_and_path(&address);
    let (name, _) = host.split_once(':').unwrap();
    let listening = Site::serve(String::new());
    // The name of the session, which no other site knows, and the names that all know.
    let targets: Vec<_> = [name, "127.0.0.1", "localhost"]
        .iter()
        .map(|name| format!("http://{name}:{}{path}", listening.port))
        .collect();
    let attack = |names: &[&str]| {
        let page = format!(
            "<!DOCTYPE html><body><script>
            const tried = {targets:?}.map((target) => fetch(target + 'x',
              {{ method: 'POST', mode: 'no-cors', credentials: 'include', body: 'x' }}));
            Promise.allSettled(tried).then(() => {{ window.found = 1; }});
            </script>"
        );
        let site = Site::serve(page);
        for name in names {
            browser.open(&format!("http://{name}:{}/", site.port));
            browser.wait_for("return window.found ?? null");
        }
    };
    attack(&[EVIL, "127.0.0.1", "localhost"]);
    // A form of another site navigates.
    let forms = targets.iter().map(|to| format!("<form method=post action='{to}form'></form>"));
    let site = Site::serve(format!("<!DOCTYPE html><body>{}", forms.collect::<String>()));
    for form in 0..targets.len() {
        browser.open(&format!("http://{EVIL}:{}/", site.port));
        browser.run(&format!("document.forms[{form}].submit()"));
    }
    let received = || {
        let all = listening.requests.lock().unwrap();
        all.iter().filter(|request| request.starts_with("POST /s/")).cloned().collect::<Vec<_>>()
    };
    wait_until("all requests have come", || received().len() >= 3 * targets.len() + 3);
    for request in received() {
        assert!(!request.to_lowercase().contains("cookie:"), "{request}");
    }
    // The browser has one, and sends it to the page itself.
    browser.open(&address);
    browser.wait_until("the session still works", |browser| {
        browser.run("return document.title") == "Overview – Saegis /mn-cse-123456"
    });
}

/// Another program that once had the port can have left a service worker, which receives all requests
/// of its origin.
#[test]
fn former_holder_of_port_receives_no_link() {
    const WORKER: &str = "self.addEventListener('install', () => self.skipWaiting());
        self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()));
        self.addEventListener('fetch', (event) => event.respondWith(
          new Response('<title>intercepted</title>', { headers: { 'Content-Type': 'text/html' } })));";
    let browser = Browser::start(&[]);
    let page = "<!DOCTYPE html><title>former</title><script>
        navigator.serviceWorker.register('/worker.js').then(() => navigator.serviceWorker.ready)
          .then(() => { window.found = 1; });
        </script>";
    let former = Site::with_script(page.into(), WORKER);
    let port = former.port;
    for name in ["127.0.0.1", "localhost"] {
        browser.open(&format!("http://{name}:{port}/"));
        browser.wait_for("return window.found ?? null");
    }
    former.stop();
    let gateway = Setup::new().with("admin.web", &format!("listen = \"127.0.0.1:{port}\"")).start();
    // The worker is there.
    for name in ["127.0.0.1", "localhost"] {
        browser.open(&format!("http://{name}:{port}/open/x"));
        browser.wait_until("the worker responds", |browser| {
            browser.run("return document.title") == "intercepted"
        });
    }
    open(&browser, &gateway, &[]);
    assert_eq!(browser.run("return document.title"), "Overview – Saegis /mn-cse-123456");
}
