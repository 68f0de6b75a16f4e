//! The table of devices with pre-shared keys: search, and the way to each device. Keys are never shown.

use maud::{Markup, html};

use super::device_error::of_error;
use super::list::{PER_PART, Query};
use crate::admin::protocol::WebRole;
use crate::admin::web::context::Context;
use crate::admin::web::device_files::{are_writable, command, with_files};
use crate::admin::web::text::{data, now, readable};
use crate::admin::web_access::Session;
use crate::devices::{DeviceError, FileLimits, Row, TableText, table_file};

/// The content of these pages for a MAF.
pub const NOT_OF_MAF: &str = "An M2M Authentication Function has no such table.";

/// A row of the table without its key.
pub struct Shown {
    /// Number of its line.
    pub line: usize,
    /// Name of the device.
    pub name: String,
    /// AE-ID-Stem; empty if the row names none.
    pub ae_id: String,
    /// KpsaID.
    pub kpsa_id: String,
    /// End of its validity; empty if it has none.
    pub expires: String,
    /// State of its key.
    pub state: &'static str,
}

impl Shown {
    /// Returns a row without its key.
    pub fn of(row: &Row) -> Self {
        Self {
            line: row.line,
            name: row.name().into(),
            ae_id: row.ae_id.clone(),
            kpsa_id: row.kpsa_id.clone(),
            expires: row.expires.clone(),
            state: row.state(),
        }
    }
}

/// The rows that a search found.
struct Part {
    all: usize,
    found: usize,
    rows: Vec<Shown>,
}

/// Returns the content of the page.
pub async fn content(context: &Context, session: &Session, query: Query) -> Markup {
    let config = &context.commands.gateway.config;
    if !config.role.is_cse() {
        return html! { p { (NOT_OF_MAF) } };
    }
    let read = with_files(context, move |commands| {
        let file = table_file(&commands.gateway.config);
        let table = TableText::open(&file, FileLimits::OF_GATEWAY.table)?;
        Ok::<_, DeviceError>((part_of(&table, &query), query))
    });
    let list = match read.await {
        Ok((part, query)) => list(&part, &query),
        Err(e) => of_error(config, &e, &["list".into()]),
    };
    html! {
        p {
            "Devices with pre-shared keys in the policy files, as "
            code { "saegis device list" } " shows them. The Policy page has the tables in force."
        }
        @if session.role == WebRole::Operate {
            p { a href="add-device" { "Add a device" } }
        }
        (not_writable(context))
        (list)
    }
}

/// Explains that the gateway cannot change its devices. Returns nothing if it can.
pub fn not_writable(context: &Context) -> Markup {
    let config = &context.commands.gateway.config;
    html! {
        @if !are_writable(config) {
            p class="notice" {
                "The gateway cannot write its policy folder, as under a hardened unit of systemd. So this page \
                 cannot change devices, and shows the command to run instead, such as "
                code { (data(&command(config, &["add".into(), "NAME".into()]))) }
            }
        }
    }
}

/// Returns the address of the page of a device.
pub fn address(kpsa_id: &str) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("id", kpsa_id);
    format!("device?{}", query.finish())
}

fn part_of(table: &TableText, query: &Query) -> Part {
    let wanted = query.search.to_lowercase();
    let is_found = |row: &Row| {
        let fields = [row.name(), &row.ae_id, &row.kpsa_id];
        wanted.is_empty() || fields.iter().any(|field| field.to_lowercase().contains(&wanted))
    };
    let (mut all, mut found) = (0, 0);
    for row in table.rows() {
        all += 1;
        found += usize::from(is_found(&row));
    }
    let rows = table.rows().filter(is_found).skip(query.shown_part(found) * PER_PART);
    Part { all, found, rows: rows.take(PER_PART).map(|row| Shown::of(&row)).collect() }
}

const COLUMNS: [&str; 5] = ["AE-ID", "KpsaID", "Valid until", "State", "Line"];

fn list(part: &Part, query: &Query) -> Markup {
    html! {
        (query.form("devices", "Name, AE-ID or KpsaID"))
        p { (part.found) " of " (part.all) " rows, at " (now()) }
        table {
            caption class="hidden" { "Devices" }
            thead {
                tr {
                    th scope="col" { "Device" }
                    @for name in COLUMNS { th scope="col" { (name) } }
                }
            }
            tbody { @for row in &part.rows { (line(row)) } }
        }
        (query.links("devices", part.found))
    }
}

fn line(row: &Shown) -> Markup {
    let (expires, number) = (valid_until(&row.expires), row.line.to_string());
    let cells = [&row.ae_id, &row.kpsa_id, &expires, row.state, &number];
    html! {
        tr {
            td data-label="Device" { a href=(address(&row.kpsa_id)) { (data(&row.name)) } }
            @for (name, cell) in COLUMNS.iter().zip(cells) {
                td data-label=(name) { (data(cell)) }
            }
        }
    }
}

/// Returns the end of the validity of a key for readers.
pub fn valid_until(expires: &str) -> String {
    if expires.is_empty() { "no end".into() } else { readable(expires) }
}
