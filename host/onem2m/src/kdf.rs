//! Key derivation from an enrolment key Ke (TS-0003 clause 10.3.7).

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Length of a derived key, in bytes.
pub const DERIVED_LEN: usize = 32;

/// Derives the Kpsa that the enrolee and `enrolee_b` share: HMAC-SHA-256 with the key Ke over the
/// purpose and the identifier of the other end.
///
/// `enrolee_b` is the CSE-ID or AE-ID of that end, in the form that both ends agreed on, in UTF-8
/// NFKC. ASCII text is always in NFKC.
#[must_use]
pub fn kpsa(ke: &[u8], enrolee_b: &str) -> [u8; DERIVED_LEN] {
    derive(ke, "oneM2M Enrolment Key to Provisioned Secure Connection Key derivation", enrolee_b)
}

/// Derives the Km that the enrolee and a MAF share. `maf_id` is the MAF's domain name.
#[must_use]
pub fn km(ke: &[u8], maf_id: &str) -> [u8; DERIVED_LEN] {
    derive(ke, "oneM2M Enrolment Key to Master Credential derivation", maf_id)
}

/// Derives a key for one purpose, the SUID (TS-0004 clause 6.3.4.2.39), and one target: a domain
/// name, an absolute CSE-ID or AE-ID. The clause does not define how the SUID is encoded. This
/// function writes it as a decimal number.
#[must_use]
pub fn usage_constrained(ke: &[u8], suid: u8, target: &str) -> [u8; DERIVED_LEN] {
    let purpose = "oneM2M Enrolment Key to Usage-Constrained Symmetric Key derivation";
    derive(ke, purpose, &format!("{suid}{target}"))
}

fn derive(ke: &[u8], purpose: &str, id: &str) -> [u8; DERIVED_LEN] {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(ke).expect("HMAC takes any key length");
    mac.update(purpose.as_bytes());
    mac.update(id.as_bytes());
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with Python: `hmac.new(bytes(range(32)), b"oneM2M Enrolment Key to Provisioned
    /// Secure Connection Key \ derivation" + b"/mn-cse-123456", "sha256").hexdigest()`
    #[test]
    fn kpsa_as_another_implementation_computes_it() {
        let ke: Vec<u8> = (0..32).collect();
        assert_eq!(
            hex::encode(kpsa(&ke, "/mn-cse-123456")),
            "b25c6ce922be674ada22d1a596a54eb37866cf6691b48accc599a0736ef9dc92"
        );
    }

    /// Computed with Python in the same way: Ke, the purpose, then `b"maf.provider.com"`, and
    /// `b"22" + b"//in.provider.com/in-cse"`.
    #[test]
    fn derived_keys_match_other_implementation() {
        let ke: Vec<u8> = (0..32).collect();
        assert_eq!(
            hex::encode(km(&ke, "maf.provider.com")),
            "609100f06a9327a828b53751c1aa0544c62d5a6276dda743d095fff54516bbfd"
        );
        assert_eq!(
            hex::encode(usage_constrained(&ke, 22, "//in.provider.com/in-cse")),
            "238b9d6a2b79db28c29a376c9d4a5f29bab35be3c264b797a9563a8925fdfc9c"
        );
    }
}
