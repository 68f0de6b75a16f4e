//! The names of the MAF's interface: resources, types, attributes.
//!
//! TS-0003 clause 8.8 defines the content of the messages. TS-0032 defines their names on the wire,
//! but was not available. So each name is defined only in this module, where it can be corrected.
//! The last column is the source of each name.
//!
//! | TS-0003 | this project | source |
//! |---|---|---|
//! | the MAF | the target of `/maf` or `//MAF-FQDN/maf` | none: [`DEFAULT_BASE`] is a setting of both sides |
//! | a MAF client registration | `sec:mafClientReg`, at `/maf/<mafClientRegID>` | prefix: TS-0003 clause 12.1; name: by analogy with `<mefClientReg>` (clause 8.3.9.2) |
//! | its type | 61001 | none |
//! | a key registration | `sec:symmKeyReg`, at `/maf/<RelativeKeyID>` | prefix: clause 12.1; name: none |
//! | its type | 61002 | none |
//! | mafClientRegID, RelativeKeyID | `ri`, the resource identifier | clause 8.3.9.2 for the MEF; the MAF by analogy |
//! | expirationTime, labels | `et`, `lbl` | TS-0004 clause 8.2 |
//! | adminFQDN | `adfq` | none |
//! | MAF Client ID | `mcid` | none |
//! | assignedSymmKeyID | `askid` | none |
//! | SUID | `suid`, a number | type: TS-0004 clause 6.3.4.2.39; name: none |
//! | targetIDs | `tgids`, a list of absolute identifiers | type: TS-0003 clause 12.4.3; name: none |
//! | Key Value | `keyValue`, in hexadecimal digits | name: clause 8.3.9.9.4; encoding: none |
//! | Source MAF Client ID | `scid` | none |

use saegis_onem2m::id::CseId;

/// Default base of a MAF, which takes the position of the CSE-ID in an address. The binding of
/// TS-0009 then carries the address unchanged, as `/~/maf/…` and `/_/MAF-FQDN/maf/…`.
pub const DEFAULT_BASE: &str = "maf";

/// Returns [`DEFAULT_BASE`] as the identifier that it replaces.
#[must_use]
pub fn default_base() -> CseId {
    #[expect(clippy::expect_used, reason = "the name is a constant")]
    CseId::parse(DEFAULT_BASE).expect("the base is a valid CSE-ID")
}

/// Root of a client registration.
pub const CLIENT_REGISTRATION: &str = "sec:mafClientReg";
/// Type of a client registration, far from the types that TS-0004 assigns.
pub const CLIENT_REGISTRATION_TYPE: u16 = 61001;
/// Prefix of each mafClientRegID. The RelativeKeyIDs of this MAF are hexadecimal, so none of them
/// starts with it.
pub const CLIENT_REGISTRATION_PREFIX: &str = "mcr-";

/// Root of a key registration.
pub const KEY_REGISTRATION: &str = "sec:symmKeyReg";
/// Type of a key registration.
pub const KEY_REGISTRATION_TYPE: u16 = 61002;

/// Resource identifier: the mafClientRegID or the RelativeKeyID.
pub const RESOURCE_ID: &str = "ri";
/// expirationTime, a timestamp (TS-0004).
pub const EXPIRATION_TIME: &str = "et";
/// labels, a list of texts (TS-0004).
pub const LABELS: &str = "lbl";
/// adminFQDN, the domain name of the administrating stakeholder.
pub const ADMIN_FQDN: &str = "adfq";
/// MAF Client ID, an absolute identifier.
pub const CLIENT_ID: &str = "mcid";
/// assignedSymmKeyID, if the MAF has provisioned a Km. This MAF does not.
pub const ASSIGNED_KEY_ID: &str = "askid";
/// SUID, a number (TS-0004 clause 6.3.4.2.39).
pub const SUID: &str = "suid";
/// targetIDs, a list of absolute identifiers.
pub const TARGET_IDS: &str = "tgids";
/// Key Value, in hexadecimal digits.
pub const KEY_VALUE: &str = "keyValue";
/// Source MAF Client ID, an absolute identifier.
pub const SOURCE_ID: &str = "scid";
