//! Former names of options.

use saegis_policy::Document;

/// Former names of options and tables, and the names that replace them.
pub const RENAMED: &[(&str, &str)] = &[
    ("artefacts", "artifacts"),
    ("audit.old-files", "audit.retained-files"),
    ("bindings", "ae-ids"),
    ("decisions.old-files", "decisions.retained-files"),
    ("limits.answer-bytes", "limits.response-bytes"),
    ("limits.answer-bytes-per-credential", "limits.response-bytes-per-credential"),
    ("limits.answer-seconds", "limits.response-seconds"),
    ("limits.cse-places-per-credential", "limits.cse-requests-per-credential"),
    ("notifications.seconds", "notifications.timeout-seconds"),
    ("policy.unready-when-behind", "policy.unready-when-outdated"),
    ("registrar", "cse"),
    ("upstream.notifications", "upstream.notification-listen"),
    ("upstream.notifications-key", "upstream.notification-key-file"),
    ("upstream.notifications-uid", "upstream.notification-uid"),
];

/// Rejects each option with a former name, and reports the current name.
pub fn refuse(document: &mut Document<'_>) {
    for (old, new) in RENAMED {
        document.refuse(old, &format!("is now called {new}"));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The only fault is the one about the name, and the new name is valid.
    #[test]
    fn former_option_name_is_refused_with_new_one() {
        for (old, new) in RENAMED {
            let (table, key) = old.rsplit_once('.').unwrap_or(("", old));
            let text = match table {
                "" => format!("[{key}]\nstore = \"x\"\n"),
                _ => format!("[{table}]\n{key} = 1\n"),
            };
            let mut document = Document::parse(Path::new("saegis.toml"), &text);
            refuse(&mut document);
            let faults: Vec<_> = document.into_faults().iter().map(ToString::to_string).collect();
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert!(faults[0].ends_with(&format!("{old}: is now called {new}")), "{faults:?}");
        }
    }
}
