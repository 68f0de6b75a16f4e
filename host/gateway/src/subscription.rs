//! Service subscription of this CSE.

mod cache_file;
pub mod source;
