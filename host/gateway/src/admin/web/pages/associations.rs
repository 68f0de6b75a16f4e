//! The active associations: search, pages, and the end of one.

use maud::{Markup, html};

use super::{button, requests};
use crate::admin::protocol::AssociationEntry;
use crate::admin::web::context::Context;
use crate::admin::web::text::{data, now, readable};
use crate::admin::web_access::Session;

/// Number of associations on a page.
const PER_PAGE: usize = 50;
/// Maximum length of a search text in characters.
const MAX_SEARCH: usize = 256;

/// Parameters of the page.
#[derive(Default)]
pub struct Query {
    search: String,
    page: usize,
}

impl Query {
    /// Parses the query of an address. Unknown and invalid parameters are ignored.
    pub fn parse(query: &str) -> Self {
        let mut parsed = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "q" => parsed.search = value.trim().chars().take(MAX_SEARCH).collect(),
                "page" => parsed.page = value.parse().unwrap_or_default(),
                _ => {}
            }
        }
        parsed
    }

    /// Returns the address of another page of the same search.
    fn address(&self, page: usize) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if !self.search.is_empty() {
            query.append_pair("q", &self.search);
        }
        query.append_pair("page", &page.to_string());
        format!("associations?{}", query.finish())
    }

    fn selects(&self, entry: &AssociationEntry) -> bool {
        let wanted = self.search.to_lowercase();
        let fields = [&entry.entity, &entry.credential_id, &entry.peer, &entry.suite, &entry.saef];
        fields.into_iter().any(|field| field.to_lowercase().contains(&wanted))
    }
}

/// Returns the content of the page.
pub fn content(context: &Context, session: &Session, query: &Query) -> Markup {
    let mut all = context.commands.associations().associations;
    let count = all.len();
    if !query.search.is_empty() {
        all.retain(|entry| query.selects(entry));
    }
    let last = all.len().saturating_sub(1) / PER_PAGE;
    let page = query.page.min(last);
    let shown = all.iter().skip(page * PER_PAGE).take(PER_PAGE);
    html! {
        form method="get" action="associations" role="search" {
            label for="q" { "Entity, Credential-ID, address or suite" } " "
            input type="search" id="q" name="q" value=(query.search) maxlength=(MAX_SEARCH);
            button type="submit" { "Search" }
        }
        p { (all.len()) " of " (count) " associations, at " (now()) }
        table {
            caption class="hidden" { "Associations" }
            thead {
                tr {
                    @for name in COLUMNS { th scope="col" { (name) } }
                    th scope="col" { "Last requests" }
                    th scope="col" { "Action" }
                }
            }
            tbody { @for entry in shown { (row(session, entry)) } }
        }
        @if last > 0 {
            nav class="pages" aria-label="Parts of the list" {
                @if page > 0 { a href=(query.address(page - 1)) rel="prev" { "Previous" } }
                span { "Part " (page + 1) " of " (last + 1) }
                @if page < last { a href=(query.address(page + 1)) rel="next" { "Next" } }
            }
        }
    }
}

const COLUMNS: [&str; 6] = ["Number", "Entity", "Credential-ID", "Address", "Suite", "Since"];

fn row(session: &Session, entry: &AssociationEntry) -> Markup {
    let id = entry.id.to_string();
    let describes = format!("End association {id}");
    let suite = format!("{} {}", entry.protocol, entry.suite);
    let since = readable(&entry.established);
    let cells = [&id, &entry.entity, &entry.credential_id, &entry.peer, &suite, &since];
    html! {
        tr {
            @for (name, cell) in COLUMNS.iter().zip(cells) {
                td data-label=(name) { (data(cell)) }
            }
            td { a href=(requests::address("association", &id)) { "Requests" } }
            td { (button(session, "end-association", "End", Some(&describes), &[("id", &id)])) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_is_bounded_and_invalid_values_are_ignored() {
        let query = Query::parse(&format!("q={}&page=x&other=1", "a".repeat(1000)));
        assert_eq!((query.search.len(), query.page), (MAX_SEARCH, 0));
        let query = Query::parse("q=%3Ca%26b&page=2");
        assert_eq!((query.search.as_str(), query.page), ("<a&b", 2));
        assert_eq!(query.address(3), "associations?q=%3Ca%26b&page=3");
    }
}
