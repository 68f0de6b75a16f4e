//! The state of a registration with another CSE.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// State of a registration, shared with its readers.
#[derive(Debug, Default)]
pub struct Registration(Mutex<RegistrationState>);

/// The state of a registration.
#[derive(Debug, Clone, Default)]
pub enum RegistrationState {
    /// Not requested yet.
    #[default]
    Nothing,
    /// Registered until that time.
    Until(SystemTime),
    /// Failed or lost.
    Failed(String),
}

impl Registration {
    /// Returns the current state.
    pub fn standing(&self) -> RegistrationState {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets the state.
    pub(super) fn set(&self, standing: RegistrationState) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = standing;
    }
}
