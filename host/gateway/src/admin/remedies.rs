//! Remedies by the cause of a refused handshake, or by the Response Status Code of a refused request.

/// Returns the remedy.
pub fn of(event: &str, cause: &str) -> Option<&'static str> {
    let table = match event {
        "handshake.refused" => &HANDSHAKES[..],
        "request.refused" => &REQUESTS[..],
        "association.revoked" => {
            return Some(
                "restore the credential in the policy files, if it should be valid; the device must \
                 then connect again",
            );
        }
        "association.superseded" => {
            return Some(
                "look for a device that connects in a loop, or for a key in two devices; \
                 limits.associations-per-credential has the limit",
            );
        }
        _ => return None,
    };
    table.iter().find(|(name, _)| *name == cause).map(|(_, remedy)| *remedy)
}

const HANDSHAKES: [(&str, &str); 26] = [
    (
        "unknown-identity",
        "add a row for the identity, if the device is yours: saegis device add NAME",
    ),
    (
        "wrong-key",
        "compare the key in the row with that in the device, or run saegis device rotate-key NAME",
    ),
    ("expired", "renew the row (saegis device rotate-key NAME), or issue a new certificate"),
    ("revoked", "issue a new certificate, if the revocation was a mistake"),
    ("refused-by-module", "read the reason of the module above; change its table or its manifest"),
    (
        "module-failed",
        "report the fault to the author of the module; saegis tail --event module shows more",
    ),
    ("malformed-identity", "correct the psk_identity in the device: UTF-8, 1 to 256 bytes, no NUL"),
    (
        "certificate",
        "run saegis certs inspect FILE with the device's certificate; add its authority, or renew it",
    ),
    (
        "certificate-unmapped",
        "add a row with its Credential-ID to certificate-table.csv, or a rule",
    ),
    (
        "certificates-only",
        "let the device offer a suite with a pre-shared key, or write certificates.toml",
    ),
    ("rules-unavailable", "check the connection to the IN-CSE that has the service subscription"),
    ("no-common-suite", "let the device offer one of the suites in listen.suites"),
    ("old-version", "update the device: it offers no TLS version from 1.2 on"),
    (
        "tls13-psk",
        "set the highest TLS version of the device to 1.2; pre-shared keys are supported there",
    ),
    ("plain-http", "use https:// in the address"),
    (
        "not-tls",
        "use the port of the TLS listener, and TLS; add a load balancer to proxy-protocol.from",
    ),
    (
        "proxy-header",
        "let the load balancer in proxy-protocol.from send the PROXY protocol, version 2, to this port",
    ),
    ("malformed", "the peer does not speak TLS correctly: correct its address or its library"),
    ("too-large", "the ClientHello is too large: correct the device"),
    ("timeout", "check the network; for slow links, raise limits.first-flight-seconds"),
    ("too-many", "with many devices behind one address, raise limits.handshakes-per-peer"),
    (
        "too-many-failed",
        "correct the devices behind that address, or raise limits.failed-handshakes-per-minute",
    ),
    ("too-many-in-all", "an attack, or too low a limit: limits.handshakes"),
    ("displaced", "an attack, or too low a limit: limits.handshakes"),
    ("no-place", "raise limits.connections"),
    ("connection", "the connection broke: check the network and the device"),
];

const REQUESTS: [(&str, &str); 12] = [
    ("4000", "correct the request of the device"),
    (
        "4004",
        "correct the target; at the registrar CSE it starts with the resource name of the CSEBase, or with -",
    ),
    ("4008", "the CSE behind the gateway, or the device, was too slow"),
    ("4103", "permit the operation with an access control policy of the resource"),
    ("4105", "choose another resource name"),
    (
        "4106",
        "let the device write its own AE-ID in X-M2M-Origin, or connect with the key of that AE",
    ),
    (
        "4117",
        "the AE-ID belongs to another credential: saegis ae-ids lists them, saegis release-ae-id frees one",
    ),
    (
        "4126",
        "extend a rule in service-subscription.toml: Credential-ID, App-ID and AE-ID must all match",
    ),
    ("4128", "add a [[node]] with the CSE-ID of this gateway to service-subscription.toml"),
    ("5000", "read module.failed with saegis tail --event module"),
    (
        "5103",
        "check the CSE behind the gateway, or the connection to the other CSE: saegis status, saegis peers",
    ),
    ("5207", "the AE has used its quota, or the request needs too much work (limits)"),
];
