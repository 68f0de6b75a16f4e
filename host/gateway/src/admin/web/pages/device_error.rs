//! Errors of reading and changing devices, with the command that does the same outside of the gateway.

use maud::{Markup, html};

use crate::admin::web::device_files::command;
use crate::admin::web::text::data;
use crate::config::Config;
use crate::devices::DeviceError;

/// Returns an error for readers. `words` are the command of `saegis device` that does the same.
pub fn of_error(config: &Config, error: &DeviceError, words: &[String]) -> Markup {
    // The gateway may lack a permission or memory that the owner of the files has.
    let instead = matches!(error, DeviceError::File { .. } | DeviceError::Faults(_));
    html! {
        div class="notice" role="alert" {
            p { strong { "Nothing was changed." } }
            ul { @for line in error.to_string().lines() { li { (data(line)) } } }
            @if matches!(error, DeviceError::File { .. }) {
                p { "The gateway cannot write, read or lock a file of its policy folder." }
            }
            @if instead {
                p {
                    "Run this command as the owner of the files: "
                    code { (data(&command(config, words))) }
                }
            }
        }
    }
}
