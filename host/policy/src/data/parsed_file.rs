//! Policy files that are parsed as a whole, unlike tables.

use std::sync::Arc;

use crate::data::files::Digest;

/// The content of a policy file, and the digest of its source. Both are `None` without the file.
#[derive(Debug)]
pub(crate) struct ParsedFile<T> {
    pub content: Option<Arc<T>>,
    pub digest: Option<Digest>,
}

impl<T> Default for ParsedFile<T> {
    fn default() -> Self {
        Self { content: None, digest: None }
    }
}

impl<T> Clone for ParsedFile<T> {
    fn clone(&self) -> Self {
        Self { content: self.content.clone(), digest: self.digest }
    }
}
