//! Responses to notifications.

use http::StatusCode;
use hyper::body::Incoming;
use saegis_onem2m::http::STATUS;
use saegis_onem2m::primitive::ResponsePrimitive;
use saegis_onem2m::rsc::Rsc;

use super::failure::Failure;

/// Maximum size of a response, in bytes.
pub const MAX_CONTENT: usize = 64 << 10;

/// Reads the response of a server that may not implement oneM2M. Only a resource is expected to
/// respond to a notification (TS-0001 table 9.6.8-2, notificationURI). The HTTP status decides, and
/// a oneM2M status if it is a refusal.
pub fn read_status<B>(response: &http::Response<B>) -> Result<ResponsePrimitive, Failure> {
    let code = response.headers().get(STATUS).and_then(|v| v.to_str().ok()?.parse().ok());
    let rsc = match code.map(Rsc::from_code) {
        Some(refusal) if !refusal.is_success() => refusal,
        _ if response.status().is_success() => Rsc::Ok,
        _ => return Err(Failure::NotTaken(response.status())),
    };
    Ok(ResponsePrimitive {
        rsc,
        from: None,
        request_id: String::new(),
        release: None,
        content: None,
        content_location: None,
        parameters: Default::default(),
    })
}

/// Reads a response, with a size limit.
pub async fn read(response: http::Response<Incoming>) -> Result<ResponsePrimitive, Failure> {
    let status = response.status();
    if !response.headers().contains_key(STATUS) && status != StatusCode::NO_CONTENT {
        return Err(Failure::NoStatusCode(status));
    }
    saegis_client::response::read(response, MAX_CONTENT).await.map_err(Failure::NoResponse)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status_of(status: u16, rsc: Option<&str>) -> Result<Rsc, String> {
        let mut response = http::Response::builder().status(status);
        if let Some(rsc) = rsc {
            response = response.header(STATUS, rsc);
        }
        let read = read_status(&response.body(()).unwrap());
        read.map(|response| response.rsc).map_err(|failure| failure.for_originator())
    }

    #[test]
    fn any_http_success_is_accepted_from_url() {
        for (status, rsc) in [
            (200, None),
            (201, None),
            (204, None),
            (299, None),
            (200, Some("2000")),
            (204, Some("rubbish")),
        ] {
            assert_eq!(status_of(status, rsc), Ok(Rsc::Ok), "{status} {rsc:?}");
        }
        // A oneM2M refusal counts with every HTTP status.
        for status in [200, 403, 500] {
            let refused = status_of(status, Some("4103"));
            assert_eq!(refused, Ok(Rsc::OriginatorHasNoPrivilege), "{status}");
        }
        for status in [302, 404, 500] {
            assert_eq!(status_of(status, None), Err(format!("the target responded with {status}")));
        }
    }
}
