//! Test module that performs I/O on request and returns the result as the reason of a refusal.
//!
//! A psk_identity `probe|WORD|ARGUMENT|…` selects the operation. Other identities are unknown.

#[allow(unsafe_code, missing_docs, clippy::all, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package saegis:io-probe;
            world io-probe {
                import wasi:config/store@0.2.0-rc.1;
                import wasi:http/outgoing-handler@0.2.12;
                import wasi:keyvalue/store@0.2.0-draft;
                import wasi:keyvalue/atomics@0.2.0-draft;
                import wasi:keyvalue/batch@0.2.0-draft;
                export saegis:policy/credential-lookup@0.1.0;
            }
        ",
        generate_all,
    });
    export!(IoProbe);
    use super::IoProbe;
}

use bindings::exports::saegis::policy::credential_lookup::{Answer, Guest, Query};
use bindings::wasi::config::store as config;
use bindings::wasi::http::outgoing_handler;
use bindings::wasi::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingResponse, Method, OutgoingBody,
    OutgoingRequest, Scheme, http_error_code,
};
use bindings::wasi::io::streams::StreamError;
use bindings::wasi::keyvalue::store::{self, Bucket};
use bindings::wasi::keyvalue::{atomics, batch};

struct IoProbe;

impl Guest for IoProbe {
    fn lookup(query: Query) -> Answer {
        let mut words = query.psk_identity.split('|');
        if words.next() != Some("probe") {
            return Answer::NotMine;
        }
        let words: Vec<&str> = words.collect();
        Answer::Refused(done(&words))
    }
}

#[expect(clippy::infinite_loop, reason = "that is what it is for")]
fn done(words: &[&str]) -> String {
    let number = |text: &str| text.parse::<usize>().unwrap_or_default();
    match words {
        ["get", url] => get(url),
        ["method", method, url] => sent(Method::Other((*method).into()), url, 0),
        ["post", bytes, url] => sent(Method::Post, url, number(bytes)),
        ["header", name, url] => {
            let fields = Fields::new();
            let set = fields.append(name, b"evil.example").is_ok();
            format!("set {set}, {}", with_fields(Method::Get, url, fields, 0))
        }
        ["follow", url] => follow(url),
        // One after another, and all at once without reading a response.
        ["again", times, url] => {
            let all: Vec<_> = (0..number(times)).map(|_| get(url)).collect();
            all.last().cloned().unwrap_or_default()
        }
        ["hold", times, url] => hold(number(times), url),
        ["spin", url] => {
            let told = get(url);
            loop {
                core::hint::black_box(&told);
            }
        }
        ["pathless", times, authority] => {
            for _ in 0..number(times) {
                let request = OutgoingRequest::new(Fields::new());
                let _ = request.set_authority(Some(authority));
                let _ = outgoing_handler::handle(request, None);
            }
            "asked".into()
        }
        ["config", name] => format!("{:?}", config::get(name)),
        ["config"] => format!("{:?}", config::get_all()),
        words => match store::open("") {
            Ok(bucket) => stored(&bucket, words).unwrap_or_else(|e| format!("failed {e:?}")),
            Err(e) => format!("no store {e:?}"),
        },
    }
}

fn stored(bucket: &Bucket, words: &[&str]) -> Result<String, store::Error> {
    let number = |text: &str| text.parse::<usize>().unwrap_or_default();
    Ok(match words {
        ["set", key, bytes] => {
            bucket.set(key, &vec![b'x'; number(bytes)])?;
            "set".into()
        }
        ["read", key] => format!("{:?}", bucket.get(key)?.map(|value| value.len())),
        ["exists", key] => format!("{}", bucket.exists(key)?),
        ["delete", key] => {
            bucket.delete(key)?;
            "deleted".into()
        }
        ["increment", key] => format!("is {}", atomics::increment(bucket, key, 1)?),
        ["fill", bytes] => {
            let value = vec![b'x'; number(bytes)];
            let mut set = 0;
            let why = loop {
                match bucket.set(&format!("fill{set:04}"), &value) {
                    Ok(()) => set += 1,
                    Err(e) => break e,
                }
            };
            format!("{set} fit, then {why:?}")
        }
        ["keys"] => format!("{:?}", bucket.list_keys(None)?.keys),
        ["long-key"] => format!("{:?}", bucket.set(&"k".repeat(257), b"")),
        ["many-keys"] => format!("{:?}", batch::get_many(bucket, &vec!["a".into(); 257])),
        ["batch"] => {
            batch::set_many(bucket, &[("a".into(), b"1".into()), ("b".into(), b"22".into())])?;
            let read = batch::get_many(bucket, &["a".into(), "b".into(), "c".into()])?;
            let read: Vec<_> = read.iter().flatten().map(|(k, v)| (k, v.len())).collect();
            batch::delete_many(bucket, &["a".into()])?;
            format!("{read:?}, then {:?}", bucket.list_keys(None)?.keys)
        }
        ["other-stores"] => {
            let names = ["psk-table", "../registrar", "/etc/passwd"];
            format!("{:?}", names.map(|name| store::open(name).is_ok()))
        }
        ["handles"] => {
            let mut handles = Vec::new();
            while let Ok(bucket) = store::open("default") {
                handles.push(bucket);
            }
            format!("{} more handles", handles.len())
        }
        other => format!("does not know {other:?}"),
    })
}

fn get(url: &str) -> String {
    sent(Method::Get, url, 0)
}

fn sent(method: Method, url: &str, bytes: usize) -> String {
    with_fields(method, url, Fields::new(), bytes)
}

fn with_fields(method: Method, url: &str, fields: Fields, bytes: usize) -> String {
    match begun(method, url, fields, bytes).and_then(|coming| response(&coming)) {
        Ok(response) => told(&response),
        Err(e) => format!("failed {}", name(&e)),
    }
}

fn name(error: &ErrorCode) -> String {
    format!("{error:?}")
}

fn begun(
    method: Method,
    url: &str,
    fields: Fields,
    bytes: usize,
) -> Result<FutureIncomingResponse, ErrorCode> {
    let bad = || ErrorCode::InternalError(Some("the probe can't say that".into()));
    let (scheme, rest) = url.split_once("://").ok_or_else(bad)?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.into()),
    };
    let request = OutgoingRequest::new(fields);
    let set = request
        .set_method(&method)
        .and_then(|()| request.set_scheme(Some(&scheme)))
        .and_then(|()| request.set_authority(Some(authority)))
        .and_then(|()| request.set_path_with_query(Some(&format!("/{path}"))));
    set.map_err(|()| bad())?;
    if bytes == 0 {
        return outgoing_handler::handle(request, None);
    }
    let body = request.body().map_err(|()| bad())?;
    let coming = outgoing_handler::handle(request, None)?;
    if let Ok(stream) = body.write() {
        let mut left = bytes;
        while left > 0 {
            let some = left.min(4096);
            if stream.blocking_write_and_flush(&vec![b'x'; some]).is_err() {
                break;
            }
            left -= some;
        }
    }
    // An error is reported with the response.
    let _ = OutgoingBody::finish(body, None);
    Ok(coming)
}

fn response(coming: &FutureIncomingResponse) -> Result<IncomingResponse, ErrorCode> {
    coming.subscribe().block();
    let nothing = || ErrorCode::InternalError(Some("no answer".into()));
    coming.get().and_then(Result::ok).ok_or_else(nothing)?
}

fn told(response: &IncomingResponse) -> String {
    let status = response.status();
    let Ok(body) = response.consume() else { return format!("status {status}, no content") };
    let Ok(stream) = body.stream() else { return format!("status {status}, no content") };
    let mut bytes = 0;
    loop {
        match stream.blocking_read(65_536) {
            Ok(some) => bytes += some.len(),
            Err(StreamError::Closed) => return format!("status {status}, {bytes} bytes"),
            Err(StreamError::LastOperationFailed(e)) => {
                let why = http_error_code(&e).map_or_else(|| e.to_debug_string(), |e| name(&e));
                return format!("status {status}, failed {why}");
            }
        }
    }
}

/// Follows a redirection.
fn follow(url: &str) -> String {
    let found = begun(Method::Get, url, Fields::new(), 0).and_then(|coming| response(&coming));
    match found {
        Ok(response) => {
            let location = response.headers().get("location").into_iter().next();
            let location = location.and_then(|bytes| String::from_utf8(bytes).ok());
            let status = response.status();
            location.map_or_else(
                || format!("status {status}, leads nowhere"),
                |location| format!("status {status}, then {}", get(&location)),
            )
        }
        Err(e) => format!("failed {}", name(&e)),
    }
}

/// Starts requests without reading a response.
fn hold(times: usize, url: &str) -> String {
    let mut held = Vec::new();
    let mut why = "nothing".into();
    for _ in 0..times {
        let begun = begun(Method::Get, url, Fields::new(), 0);
        match begun.and_then(|coming| response(&coming).map(|answer| (coming, answer))) {
            Ok(both) => held.push(both),
            Err(e) => {
                why = name(&e);
                break;
            }
        }
    }
    format!("{} held, then {why}", held.len())
}
