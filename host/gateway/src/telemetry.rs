//! Logs, audit trails, recorded decisions, metrics and warnings.

pub mod admin_audit;
pub mod audit;
pub mod decision_log;
pub mod generation_history;
mod json_lines;
pub mod log_writer;
pub mod logging;
pub mod metrics;
pub mod recent_refusals;
pub mod request_paths;
pub mod rotating_file;
pub mod warnings;
