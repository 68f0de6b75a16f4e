//! Keys that MAFs distribute.

mod cache;
pub mod fetcher;
