//! Envoy filter with the check of Saegis's `originator-check`. X-M2M-Origin must be the AE-ID-Stem
//! of the absolute AE-ID in the peer's certificate (TS-0003 clause 7.2.1, TS-0004 clause 7.3.2.1).

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, LogLevel};

#[allow(unsafe_code, reason = "the entry that proxy-wasm's contract asks for")]
mod entry {
    proxy_wasm::main! {{
        proxy_wasm::set_log_level(super::LogLevel::Warn);
        proxy_wasm::set_http_context(|_, _| Box::new(super::OriginatorCheck));
    }}
}

/// Service provider and registrar CSE in the certificates of the benchmark.
const REGISTRAR: &str = "//in.provider.com/mn-cse-123456/";

struct OriginatorCheck;

impl Context for OriginatorCheck {}

impl HttpContext for OriginatorCheck {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let uri = self.get_property(vec!["connection", "uri_san_peer_certificate"]);
        let from = self.get_http_request_header("x-m2m-origin");
        match refusal(uri.as_deref().unwrap_or_default(), from.as_deref()) {
            None => Action::Continue,
            Some((status, rsc)) => {
                let id = self.get_http_request_header("x-m2m-ri").unwrap_or_default();
                let fields = vec![("x-m2m-rsc", rsc), ("x-m2m-ri", &id)];
                self.send_http_response(status, fields, None);
                Action::Pause
            }
        }
    }
}

/// Returns the status and the Response Status Code of an error response, if the request is refused.
fn refusal(uri: &[u8], from: Option<&str>) -> Option<(u32, &'static str)> {
    let Some(from) = from else { return Some((400, "4000")) };
    let own = uri.strip_prefix(REGISTRAR.as_bytes());
    (own.is_none_or(|own| own != from.as_bytes())).then_some((403, "4106"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn originator_must_match_certificate() {
        let uri = b"//in.provider.com/mn-cse-123456/Clight-AE1";
        assert_eq!(refusal(uri, Some("Clight-AE1")), None);
        for from in ["Clight-AE2", "Clight-AE", "", "/mn-cse-123456/Clight-AE1"] {
            assert_eq!(refusal(uri, Some(from)), Some((403, "4106")), "{from}");
        }
        assert_eq!(refusal(uri, None), Some((400, "4000")));
        for uri in ["", "//in.provider.com/other/Clight-AE1", "Clight-AE1"] {
            assert_eq!(refusal(uri.as_bytes(), Some("Clight-AE1")), Some((403, "4106")), "{uri}");
        }
    }
}
