//! Faults of policy files and modules: position, description and remedy.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::data::shown::Shown;

/// A fault of a policy file or a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file.
    pub file: PathBuf,
    /// Line, counted from 1.
    pub line: Option<u64>,
    /// Column, counted in characters from 1.
    pub column: Option<u64>,
    /// The fault and its remedy.
    pub what: String,
}

impl Fault {
    /// Creates a fault of a file as a whole.
    pub fn of(file: &Path, what: impl Into<String>) -> Self {
        Self { file: file.into(), line: None, column: None, what: what.into() }
    }

    /// Creates a fault at a position in a file.
    pub fn at(file: &Path, line: u64, column: u64, what: impl Into<String>) -> Self {
        Self { line: Some(line), column: Some(column), ..Self::of(file, what) }
    }
}

impl From<Fault> for Vec<Fault> {
    fn from(fault: Fault) -> Self {
        vec![fault]
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Shown(&self.file))?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(column) = self.column {
            write!(f, ":{column}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// All faults of a rejected generation; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}
