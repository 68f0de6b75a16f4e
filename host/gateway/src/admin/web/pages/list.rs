//! Search and parts of a long list. Both are on the server, so that a page is always short.

use maud::{Markup, html};

/// Number of entries in a part.
pub const PER_PART: usize = 50;
/// Maximum length of a search text in characters.
const MAX_SEARCH: usize = 256;

/// Parameters of a page with a list.
#[derive(Default)]
pub struct Query {
    /// The search text.
    pub search: String,
    /// Number of the part, from 0.
    pub part: usize,
}

impl Query {
    /// Parses the query of an address. Unknown and invalid parameters are ignored.
    pub fn parse(query: &str) -> Self {
        let mut parsed = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "q" => {
                    let text = value.trim().chars().filter(|c| !c.is_control());
                    parsed.search = text.take(MAX_SEARCH).collect();
                }
                "page" => parsed.part = value.parse().unwrap_or_default(),
                _ => {}
            }
        }
        parsed
    }

    /// Returns the address of another part of the same search.
    fn address(&self, page: &str, part: usize) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if !self.search.is_empty() {
            query.append_pair("q", &self.search);
        }
        query.append_pair("page", &part.to_string());
        format!("{page}?{}", query.finish())
    }

    /// Returns the number of the part that is shown, if so many entries were found.
    pub fn shown_part(&self, found: usize) -> usize {
        self.part.min(last_part(found))
    }

    /// Returns the form of the search.
    pub fn form(&self, page: &str, label: &str) -> Markup {
        html! {
            form method="get" action=(page) role="search" {
                label for="q" { (label) } " "
                input type="search" id="q" name="q" value=(self.search) maxlength=(MAX_SEARCH);
                button type="submit" { "Search" }
            }
        }
    }

    /// Returns the links to the neighboring parts.
    pub fn links(&self, page: &str, found: usize) -> Markup {
        let (part, last) = (self.shown_part(found), last_part(found));
        html! {
            @if last > 0 {
                nav class="pages" aria-label="Parts of the list" {
                    @if part > 0 { a href=(self.address(page, part - 1)) rel="prev" { "Previous" } }
                    span { "Part " (part + 1) " of " (last + 1) }
                    @if part < last { a href=(self.address(page, part + 1)) rel="next" { "Next" } }
                }
            }
        }
    }
}

fn last_part(found: usize) -> usize {
    found.saturating_sub(1) / PER_PART
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_is_bounded_and_invalid_values_are_ignored() {
        let query = Query::parse(&format!("q={}&page=x&other=1", "a".repeat(1000)));
        assert_eq!((query.search.len(), query.part), (MAX_SEARCH, 0));
        let query = Query::parse("q=%3Ca%00%1b%26b%0a&page=2");
        assert_eq!((query.search.as_str(), query.part), ("<a&b", 2));
        assert_eq!(query.address("associations", 3), "associations?q=%3Ca%26b&page=3");
    }

    #[test]
    fn part_past_the_end_is_the_last_one() {
        let query = Query { part: usize::MAX, ..Query::default() };
        for (found, part) in [(0, 0), (PER_PART, 0), (PER_PART + 1, 1)] {
            assert_eq!(query.shown_part(found), part, "{found}");
        }
    }
}
