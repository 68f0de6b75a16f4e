//! The state of a registration with another CSE.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// The state of a registration, which changes.
#[derive(Debug, Default)]
pub struct Registration(Mutex<RegistrationState>);

/// The state of a registration.
#[derive(Debug, Clone, Default)]
pub enum RegistrationState {
    /// It has not been asked for.
    #[default]
    Nothing,
    /// It holds until then.
    Until(SystemTime),
    /// It could not be had, or was lost.
    Failed(String),
}

impl Registration {
    /// The state now.
    pub fn standing(&self) -> RegistrationState {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes it.
    pub(super) fn set(&self, standing: RegistrationState) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = standing;
    }
}
