//! The web page for the operator, on a loopback port.
//!
//! A link of [`super::web_access`] opens a session. Its pages are below `/s/NUMBER/`. They are rendered
//! here; a small script only updates texts and charts in them. Changes are forms, which become requests
//! of the admin protocol. A request without a session always gets the same answer.

mod actions;
mod chart;
mod context;
mod guard;
mod health;
mod history;
mod live;
mod pages;
mod text;
mod updates;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue, LOCATION, SET_COOKIE};
use hyper::{Method, Request, Response, StatusCode};
use maud::Markup;
use zeroize::Zeroizing;

use self::actions::FormError;
use self::context::Context;
use self::guard::{Body, COOKIE_NAME, content, plain};
use self::history::History;
use self::pages::associations::Query;
use self::updates::Updates;
use super::commands::Commands;
use super::web_access::{Session, WebAccess};
use crate::config::ListenAddress;
use crate::listener::loopback_http::{LoopbackServer, ServerLimits};
use crate::telemetry::{admin_audit, recent_refusals};

/// A browser opens up to six connections. A stream of updates reconnects when its connection ends.
const LIMITS: ServerLimits = ServerLimits {
    connections: 64,
    header: Duration::from_secs(5),
    connection: Duration::from_secs(600),
};

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = include_str!("web/assets/style.css");
const SCRIPT: &str = include_str!("web/assets/page.js");
const ICON: &str = include_str!("web/assets/icon.svg");

/// The running page. It stops when this is dropped.
pub struct WebPage {
    /// The listener.
    pub server: LoopbackServer,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for WebPage {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Binds the address and serves the page.
///
/// # Errors
/// Fails if the address cannot be bound.
pub async fn listen(
    address: &ListenAddress,
    commands: Arc<Commands>,
    access: Arc<WebAccess>,
) -> std::io::Result<WebPage> {
    recent_refusals::collect();
    let context = Arc::new(Context {
        commands,
        access: access.clone(),
        history: History::default(),
        updates: Updates::default(),
    });
    let own = context.clone();
    let answer = move |request: Request<Incoming>| {
        let context = own.clone();
        async move { guard::protect(respond(&context, request).await) }
    };
    let server = LoopbackServer::listen(address, LIMITS, None, answer).await?;
    access.set_address(server.address);
    Ok(WebPage { server, task: tokio::spawn(live::run(context)) })
}

async fn respond(context: &Arc<Context>, request: Request<Incoming>) -> Response<Body> {
    if !guard::is_own(&request) {
        return guard::refusal();
    }
    let path = request.uri().path().to_string();
    let mut parts = path.splitn(4, '/').skip(1);
    match (parts.next(), parts.next(), parts.next()) {
        (Some("open"), Some(secret), None) if request.method() == Method::GET => {
            context.access.open(secret).map_or_else(guard::refusal, |session| opened(&session))
        }
        (Some("s"), Some(id), Some(page)) => {
            match context.access.session(id, guard::cookies(request.headers())) {
                Some(session) => serve(context, &session, page, request).await,
                None => guard::refusal(),
            }
        }
        _ => guard::refusal(),
    }
}

/// Responds to a link that was opened.
fn opened(session: &Session) -> Response<Body> {
    admin_audit::page_opened(&session.id, session.role.name(), session.uid);
    let path = format!("/s/{}/", session.id);
    let cookie = Zeroizing::new(format!(
        "{COOKIE_NAME}={}; Path={path}; HttpOnly; SameSite=Strict",
        *session.cookie.text()
    ));
    let Ok(mut cookie) = HeaderValue::from_str(&cookie) else { return guard::refusal() };
    cookie.set_sensitive(true);
    let mut response = redirect(&path);
    response.headers_mut().insert(SET_COOKIE, cookie);
    response
}

fn redirect(path: &str) -> Response<Body> {
    let Ok(path) = HeaderValue::from_str(path) else { return guard::refusal() };
    let mut response = plain(StatusCode::SEE_OTHER, "");
    response.headers_mut().insert(LOCATION, path);
    response
}

/// Responds to a request of a session.
async fn serve(
    context: &Arc<Context>,
    session: &Arc<Session>,
    page: &str,
    request: Request<Incoming>,
) -> Response<Body> {
    match *request.method() {
        Method::GET => {
            show(context, session, page, request.uri().query().unwrap_or_default()).await
        }
        Method::POST => {
            let (head, body) = request.into_parts();
            change(context, session, page, (&head.headers, body)).await
        }
        _ => {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and POST\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST"));
            response
        }
    }
}

async fn show(
    context: &Arc<Context>,
    session: &Arc<Session>,
    page: &str,
    query: &str,
) -> Response<Body> {
    let asset = |kind, text: &'static str| {
        content(StatusCode::OK, kind, Bytes::from_static(text.as_bytes()))
    };
    let (path, shown) = match page {
        "style.css" => return asset("text/css; charset=utf-8", STYLE),
        "page.js" => return asset("text/javascript; charset=utf-8", SCRIPT),
        "icon.svg" => return asset("image/svg+xml", ICON),
        "events" => return live::respond(context, session.clone()),
        "" => ("./", pages::overview::content(context).await),
        "refusals" => (page, pages::refusals::content()),
        "associations" => {
            (page, pages::associations::content(context, session, &Query::parse(query)))
        }
        "policy" => (page, pages::policy::content(context, session).await),
        _ => {
            let text = "There is no such page.";
            return html(StatusCode::NOT_FOUND, pages::message(context, session, text));
        }
    };
    html(StatusCode::OK, pages::page(context, session, path, &shown))
}

async fn change(
    context: &Arc<Context>,
    session: &Arc<Session>,
    action: &str,
    form: (&hyper::HeaderMap, Incoming),
) -> Response<Body> {
    let (status, why) = match actions::carry_out(context, session, action, form).await {
        Ok(Some(next)) => return redirect(&format!("/s/{}/{next}", session.id)),
        Ok(None) => return plain(StatusCode::OK, "The session has ended.\n"),
        Err(FormError::Unreadable) => (StatusCode::BAD_REQUEST, "The form cannot be read."),
        Err(FormError::Token) => {
            (StatusCode::FORBIDDEN, "The form is not of this session. Load the page again.")
        }
        Err(FormError::Role) => (StatusCode::FORBIDDEN, "This session may only view."),
        Err(FormError::Unknown) => (StatusCode::NOT_FOUND, "There is no such action."),
    };
    html(status, pages::message(context, session, why))
}

fn html(status: StatusCode, page: Markup) -> Response<Body> {
    content(status, HTML, Bytes::from(page.into_string()))
}
