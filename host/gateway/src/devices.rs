//! Devices with pre-shared keys in the policy files. The command `saegis device` and the web page edit the
//! files with the same code, as a person would, and the running gateway loads them.

mod edit;
mod error;
mod rules;
mod table;

pub use edit::{Device, Devices, Ends, FileLimits, LockedDevices, check_plain};
pub use error::DeviceError;
pub use table::{Row, TableText, table_file};
