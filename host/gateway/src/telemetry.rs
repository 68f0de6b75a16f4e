//! Logs, audit trails, recorded decisions, metrics and warnings.

pub mod audit;
pub mod decision_log;
pub mod log_writer;
pub mod logging;
pub mod metrics;
pub mod rotating_file;
pub mod warnings;
