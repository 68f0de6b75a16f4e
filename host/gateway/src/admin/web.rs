//! The web page for the operator: on a loopback port without TLS, and on another one with TLS and client
//! certificates.
//!
//! A link or a certificate opens a session of [`super::web_access`]. Its pages are below `/s/NUMBER/`. They are rendered
//! here; a small script only updates texts and charts in them. Changes are forms, which become requests
//! of the admin protocol. A request without a session always gets the same answer.

mod actions;
mod chart;
mod context;
mod device_files;
mod device_forms;
mod guard;
mod health;
mod history;
mod listeners;
mod live;
mod pages;
mod remote;
mod rendering;
mod text;
mod updates;
mod visitor;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue, LOCATION, SET_COOKIE};
use hyper::{Method, Request, Response, StatusCode};
use maud::Markup;
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use self::actions::FormError;
use self::context::Context;
use self::device_forms::{DeviceChange, FormAnswer};
use self::guard::{Body, content, plain};
use self::history::History;
use self::pages::add_device::Wanted;
use self::pages::list::Query;
use self::remote::RemoteServer;
use self::rendering::Rendering;
use self::updates::Updates;
use self::visitor::Visitor;
use super::commands::Commands;
use super::web_access::{Binding, Session, WebAccess};
use crate::config::ListenAddress;
use crate::listener::loopback_http::{LoopbackServer, ServerLimits};
use crate::telemetry::{admin_audit, recent_refusals, request_paths};

/// A browser opens up to six connections. A stream of updates reconnects when its connection ends.
const LIMITS: ServerLimits = ServerLimits {
    connections: 64,
    header: Duration::from_secs(5),
    connection: Duration::from_secs(600),
    active_until_sent: true,
};

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = include_str!("web/assets/style.css");
const SCRIPT: &str = include_str!("web/assets/page.js");
const ICON: &str = include_str!("web/assets/icon.svg");

/// The running page. It stops when this is dropped.
pub struct WebPage {
    /// Address for browsers on this machine, if it listens.
    pub local: Option<SocketAddr>,
    /// Address for other machines, if it listens.
    pub remote: Option<SocketAddr>,
    _tasks: JoinSet<()>,
}

/// Serves the page on the configured addresses. An address that is in use is tried again.
pub async fn open(commands: Arc<Commands>, access: Arc<WebAccess>) -> WebPage {
    recent_refusals::collect();
    request_paths::collect();
    let config = commands.gateway.clone();
    let config = &config.config.admin.web;
    let context = Arc::new(Context {
        commands,
        access,
        history: History::default(),
        updates: Updates::default(),
        rendering: Rendering::default(),
    });
    let mut tasks = JoinSet::new();
    let (mut local, mut remote) = (None, None);
    if let Some(address) = config.listen.clone() {
        let (own, address) = (context.clone(), Arc::new(address));
        let open = move || {
            let (own, address) = (own.clone(), address.clone());
            async move { open_local(&own, &address).await }
        };
        let first = open().await;
        local = first.as_ref().ok().and_then(|all| all.first()).map(|server| server.address);
        tasks.spawn(async move { match listeners::keep_open("web page", first, open).await {} });
    }
    if let Some(config) = config.remote.clone() {
        let (own, config) = (context.clone(), Arc::new(config));
        let open = move || {
            let (own, config) = (own.clone(), config.clone());
            async move { RemoteServer::listen(&config, answer_with(&own)).await }
        };
        let first = open().await;
        remote = first.as_ref().ok().map(|server| server.address);
        let name = "web page for other machines";
        tasks.spawn(async move { match listeners::keep_open(name, first, open).await {} });
    }
    tasks.spawn(live::run(context));
    WebPage { local, remote, _tasks: tasks }
}

async fn open_local(
    context: &Arc<Context>,
    address: &ListenAddress,
) -> Result<Vec<LoopbackServer>, String> {
    let failed = |e| format!("cannot bind admin.web.listen {address}: {e}");
    let opened = match listeners::bind(address).await.map_err(failed) {
        Ok(listeners) => {
            let answer = answer_with(context);
            let answer = move |request| answer(Visitor::Local, request);
            let serve = |of| LoopbackServer::serve(of, LIMITS, None, answer.clone());
            listeners.into_iter().map(serve).collect::<Result<Vec<_>, _>>().map_err(failed)
        }
        Err(why) => Err(why),
    };
    let bound = opened.as_ref().map_err(Clone::clone);
    let first = bound.and_then(|all| all.first().ok_or_else(|| "no address".into()));
    context.access.set_address(first.map(|server| server.address));
    opened
}

/// Returns the function that responds to requests.
fn answer_with(
    context: &Arc<Context>,
) -> impl Fn(Visitor, Request<Incoming>) -> Answering + Clone + Send + Sync + 'static {
    let context = context.clone();
    move |visitor, request| {
        let context = context.clone();
        Box::pin(async move { guard::protect(respond(&context, &visitor, request).await) })
    }
}

/// A response in preparation.
type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

async fn respond(
    context: &Arc<Context>,
    visitor: &Visitor,
    request: Request<Incoming>,
) -> Response<Body> {
    let Some(binding) = visitor.binding(&request) else { return guard::refusal() };
    let path = request.uri().path().to_string();
    let mut parts = path.splitn(4, '/').skip(1);
    match (visitor, parts.next(), parts.next(), parts.next()) {
        (Visitor::Local, Some("open"), Some(secret), None) if request.method() == Method::GET => {
            let Binding::Host(host) = &binding else { return guard::refusal() };
            let session = context.access.open(host, secret);
            session.map_or_else(guard::refusal, |session| opened(visitor, &session))
        }
        (Visitor::Remote(operator), Some(""), None, None) if request.method() == Method::GET => {
            let access = &context.access;
            match access.any_session(&binding, &visitor.cookies(request.headers())) {
                Some(session) => redirect(&path_of(&session)),
                None => {
                    let (name, role) = (&operator.name, operator.role);
                    opened(visitor, &access.open_for(name, operator.digest, role))
                }
            }
        }
        (_, Some("s"), Some(id), Some(page)) => {
            let cookies = visitor.cookies(request.headers());
            match context.access.session(id, &binding, &cookies) {
                Some(session) => serve(context, &session, page, request).await,
                None => guard::refusal(),
            }
        }
        _ => guard::refusal(),
    }
}

fn path_of(session: &Session) -> String {
    format!("/s/{}/", session.id)
}

/// Responds to the request that opened a session.
fn opened(visitor: &Visitor, session: &Session) -> Response<Body> {
    admin_audit::page_opened(&session.id, session.role.name(), &session.opener);
    let path = path_of(session);
    let cookie = Zeroizing::new(visitor.cookie(&session.cookie.text(), &path));
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
            let query = request.uri().query().unwrap_or_default();
            match page {
                "style.css" => asset("text/css; charset=utf-8", STYLE),
                "page.js" => asset("text/javascript; charset=utf-8", SCRIPT),
                "icon.svg" => asset("image/svg+xml", ICON),
                "events" => live::respond(context, session.clone()),
                page => {
                    let (own, session) = (context.clone(), session.clone());
                    let (page, query) = (page.to_string(), query.to_string());
                    let page = async move { show(&own, &session, &page, &query).await };
                    context.rendering.run(page).await
                }
            }
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

fn asset(kind: &'static str, text: &'static str) -> Response<Body> {
    content(StatusCode::OK, kind, Bytes::from_static(text.as_bytes()))
}

async fn show(
    context: &Arc<Context>,
    session: &Arc<Session>,
    page: &str,
    query: &str,
) -> Response<Body> {
    let (path, shown) = match page {
        "" => ("./", pages::overview::content(context).await),
        "refusals" => (page, pages::refusals::content()),
        "associations" => {
            (page, pages::associations::content(context, session, &Query::parse(query)))
        }
        "requests" => (page, pages::requests::content(query)),
        "devices" => {
            ("devices", pages::devices::content(context, session, Query::parse(query)).await)
        }
        "device" => {
            ("devices", pages::device::content(context, session, of_query(query, "id")).await)
        }
        "add-device" => {
            let wanted = Wanted::presented(of_query(query, "identity"));
            ("devices", pages::add_device::content(context, session, &wanted, None))
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
    let done = match DeviceChange::named(action) {
        Some(change) => {
            let answer = device_forms::carry_out(context, session, change, form).await;
            answer.map(|answer| match answer {
                FormAnswer::Next(next) => redirect(&format!("/s/{}/{next}", session.id)),
                FormAnswer::Page(status, page) => content(status, HTML, page),
            })
        }
        None => actions::carry_out(context, session, action, form).await.map(|next| match next {
            Some(next) => redirect(&format!("/s/{}/{next}", session.id)),
            None => plain(StatusCode::OK, "The session has ended.\n"),
        }),
    };
    let (status, why) = match done {
        Ok(response) => return response,
        Err(FormError::Ended) => return guard::refusal(),
        Err(FormError::Unreadable) => (StatusCode::BAD_REQUEST, "The form cannot be read."),
        Err(FormError::Token) => {
            (StatusCode::FORBIDDEN, "The form is not of this session. Load the page again.")
        }
        Err(FormError::Role) => (StatusCode::FORBIDDEN, "This session may only view."),
        Err(FormError::Unknown) => (StatusCode::NOT_FOUND, "There is no such action."),
    };
    html(status, pages::message(context, session, why))
}

/// Returns the first value of a parameter in the query of an address. The limits on requests bound it.
fn of_query(query: &str, name: &str) -> String {
    let mut values = form_urlencoded::parse(query.as_bytes()).filter(|(of, _)| of == name);
    values.next().map(|(_, value)| value.into_owned()).unwrap_or_default()
}

fn html(status: StatusCode, page: Markup) -> Response<Body> {
    content(status, HTML, Bytes::from(page.into_string()))
}
