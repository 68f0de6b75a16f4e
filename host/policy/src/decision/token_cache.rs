//! Tokens that were verified in a generation.
//!
//! A device sends its token with each request, and verifying a signature costs more than all other
//! checks of a request. The cache ends with its generation, so that a changed policy applies at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use sha2::{Digest as _, Sha256};

use crate::data::files::Digest;
use crate::data::token::{Token, TokenError, verify};
use crate::data::token_issuers::TokenIssuers;

/// Maximum number of cached tokens, of at most a few kilobytes each.
const MAX_TOKENS: usize = 2048;

/// The verified tokens of a generation, those used last, by their digests.
pub(crate) struct TokenCache(Mutex<LruCache<Digest, Arc<Token>>>);

impl Default for TokenCache {
    fn default() -> Self {
        // Unbounded, for a bounded one allocates all of its table at once.
        Self(Mutex::new(LruCache::unbounded()))
    }
}

impl TokenCache {
    /// Returns a token, which is verified unless it is cached. Beyond [`MAX_TOKENS`], the one that was
    /// used least recently is dropped.
    ///
    /// # Errors
    /// Returns the reason of a refusal, which is not cached.
    pub fn verify(&self, issuers: &TokenIssuers, token: &str) -> Result<Arc<Token>, TokenError> {
        let digest = Sha256::digest(token).into();
        if let Some(known) = self.lock().get(&digest) {
            return Ok(known.clone());
        }
        let token = Arc::new(verify(issuers, token)?);
        let mut tokens = self.lock();
        tokens.put(digest, token.clone());
        if tokens.len() > MAX_TOKENS {
            tokens.pop_lru();
        }
        Ok(token)
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<Digest, Arc<Token>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
