//! Every name of the MAF's interface: resources, types, attributes.
//!
//! **These names are ours.** TS-0003 clause 8.8 says what is exchanged; what it is called on the wire
//! is in TS-0032, which was not at hand. So each name stands here and nowhere else, to be corrected
//! in one place. Only [`EXPIRATION_TIME`] and [`LABELS`] are of TS-0004 clause 8.2.
//!
//! | what TS-0003 speaks of | here |
//! |---|---|
//! | the MAF | what `/maf` or `//MAF-FQDN/maf` addresses, [`BASE`] |
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

/// The MAF's base: it stands where an address of another kind has the CSE-ID, so that the binding of
/// TS-0009 carries it as it is, `/~/maf/…` and `/_/MAF-FQDN/maf/…`.
pub const BASE: &str = "maf";

/// The root of a client registration.
pub const CLIENT_REGISTRATION: &str = "maf:clientReg";
/// The type of a client registration, far from those that TS-0004 assigns.
pub const CLIENT_REGISTRATION_TYPE: u16 = 61001;
/// What each mafClientRegID starts with. No RelativeKeyID does: those of this MAF are hexadecimal.
pub const CLIENT_REGISTRATION_PREFIX: &str = "mcr-";
/// What names the client's own registration to a client that does not know its mafClientRegID any
/// more.
pub const OWN_REGISTRATION: &str = "own";

/// The root of a key registration.
pub const KEY_REGISTRATION: &str = "maf:keyReg";
/// The type of a key registration.
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
/// assignedSymmKeyID, where the MAF has provisioned a Km. This MAF does not.
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
