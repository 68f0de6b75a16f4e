//! Logs the message of a panic. Without it, a panic is a trap without text.

use crate::bindings::saegis::policy::log;

/// Call it first in each function of a hook.
pub fn log_message() {
    std::panic::set_hook(Box::new(|panic| log::write(log::Level::Warn, &panic.to_string())));
}
