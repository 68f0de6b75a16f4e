//! The embedded CSE as a backend.

pub mod places;
pub mod threads;
