//! The CSE behind the contenders, trivial and the same for all.

use std::convert::Infallible;
use std::net::SocketAddr;

use anyhow::Result;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::answer::CONTENT;

/// Arguments of `saegis-load upstream`.
#[derive(clap::Args)]
pub struct Args {
    /// Address to listen on, which is printed. Port 0 means a free port.
    #[arg(long, default_value = "127.0.0.1:0")]
    address: SocketAddr,
}

/// Serves until the process is killed.
///
/// # Errors
/// Fails if the address cannot be bound.
pub async fn serve(args: &Args) -> Result<()> {
    let listener = TcpListener::bind(args.address).await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        tokio::spawn(async move {
            let service =
                service_fn(|request| async move { Ok::<_, Infallible>(answer(&request)) });
            let connection = http1::Builder::new().serve_connection(TokioIo::new(socket), service);
            // An aborted connection is not an error.
            let _ = connection.await;
        });
    }
}

fn answer(request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(CONTENT.as_bytes())));
    let is_create = request.method() == Method::POST;
    if is_create {
        *response.status_mut() = StatusCode::CREATED;
    }
    let rsc = if is_create { "2001" } else { "2000" };
    let fields = response.headers_mut();
    fields.insert("content-type", hyper::header::HeaderValue::from_static("application/json"));
    fields.insert("x-m2m-rsc", hyper::header::HeaderValue::from_static(rsc));
    for name in ["x-m2m-ri", "x-m2m-rvi"] {
        if let Some(value) = request.headers().get(name) {
            fields.insert(name, value.clone());
        }
    }
    response
}
