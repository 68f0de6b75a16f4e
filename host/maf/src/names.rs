//! The names of the MAF's interface: resources, types, attributes.
//!
//! **These names are specific to this project.** TS-0003 clause 8.8 defines the content of the
//! messages. TS-0032 defines their names on the wire, but was not available. So each name is
//! defined only in this module, where it can be corrected. [`EXPIRATION_TIME`] and [`LABELS`] are
//! from TS-0004 clause 8.2.
//!
//! | TS-0003 | this project |
//! |---|---|
//! | the MAF | the target of `/maf` or `//MAF-FQDN/maf`, [`BASE`] |
//! | a MAF client registration | `maf:clientReg`, type 61001, at `/maf/<mafClientRegID>` |
//! | a key registration | `maf:keyReg`, type 61002, at `/maf/<RelativeKeyID>` |
//! | expirationTime | `et` |
//! | labels | `lbl` |
//! | adminFQDN | `adfq` |
//! | mafClientRegID | `crid` |
//! | MAF Client ID | `mcid` |
//! | assignedSymmKeyID | `askid` |
//! | SUID | `suid`, a number |
//! | targetIDs | `tgids`, a list of absolute identifiers |
//! | Key Value | `kval`, in hexadecimal digits |
//! | RelativeKeyID | `rkid` |
//! | Source MAF Client ID | `scid` |

/// Base of the MAF, which takes the position of the CSE-ID in an address. The binding of TS-0009
/// then carries the address unchanged, as `/~/maf/…` and `/_/MAF-FQDN/maf/…`.
pub const BASE: &str = "maf";

/// Root of a client registration.
pub const CLIENT_REGISTRATION: &str = "maf:clientReg";
/// Type of a client registration, far from the types that TS-0004 assigns.
pub const CLIENT_REGISTRATION_TYPE: u16 = 61001;
/// Prefix of each mafClientRegID. The RelativeKeyIDs of this MAF are hexadecimal, so none of them
/// starts with it.
pub const CLIENT_REGISTRATION_PREFIX: &str = "mcr-";
/// Name of the client's own registration, for a client that does not know its mafClientRegID.
pub const OWN_REGISTRATION: &str = "own";

/// Root of a key registration.
pub const KEY_REGISTRATION: &str = "maf:keyReg";
/// Type of a key registration.
pub const KEY_REGISTRATION_TYPE: u16 = 61002;

/// expirationTime, a timestamp (TS-0004).
pub const EXPIRATION_TIME: &str = "et";
/// labels, a list of texts (TS-0004).
pub const LABELS: &str = "lbl";
/// adminFQDN, the domain name of the administrating stakeholder.
pub const ADMIN_FQDN: &str = "adfq";
/// mafClientRegID.
pub const CLIENT_REGISTRATION_ID: &str = "crid";
/// MAF Client ID, an absolute identifier.
pub const CLIENT_ID: &str = "mcid";
/// assignedSymmKeyID, if the MAF has provisioned a Km. This MAF does not.
pub const ASSIGNED_KEY_ID: &str = "askid";
/// SUID, a number (TS-0004 clause 6.3.4.2.39).
pub const SUID: &str = "suid";
/// targetIDs, a list of absolute identifiers.
pub const TARGET_IDS: &str = "tgids";
/// Key Value, in hexadecimal digits.
pub const KEY_VALUE: &str = "kval";
/// RelativeKeyID.
pub const RELATIVE_KEY_ID: &str = "rkid";
/// Source MAF Client ID, an absolute identifier.
pub const SOURCE_ID: &str = "scid";
