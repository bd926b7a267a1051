//! The token that requests must carry.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use crate::audit;
use crate::config::{Secret, SecretError, read_secret};

/// Where the token comes from. Copies share it, so that a reload reaches every connection.
#[derive(Clone, Debug)]
pub struct TokenSource {
    path: Option<Arc<Path>>,
    current: Arc<RwLock<Option<Secret>>>,
}

impl TokenSource {
    /// No token: only for listeners that no other machine can reach.
    #[must_use]
    pub fn none() -> Self {
        TokenSource {
            path: None,
            current: Arc::new(RwLock::new(None)),
        }
    }

    /// The token of a file (`http.token_file`), or none.
    ///
    /// # Errors
    /// When the file is not one that only its owner can read.
    pub fn open(path: Option<&Path>) -> Result<Self, SecretError> {
        let source = TokenSource {
            path: path.map(Arc::from),
            current: Arc::new(RwLock::new(None)),
        };
        source.reload()?;
        Ok(source)
    }

    /// Reads the file again.
    ///
    /// # Errors
    /// When it is not one that only its owner can read; the token so far goes on being asked for.
    pub fn reload(&self) -> Result<(), SecretError> {
        if let Some(path) = &self.path {
            let secret = read_secret(path)?;
            let new = secret.clone();
            let before = {
                let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
                current.replace(secret)
            };
            if before.is_some_and(|before| !before.matches(new.expose())) {
                audit::note_secrets("the token of HTTP requests");
            }
        }
        Ok(())
    }

    /// Whether requests must carry a token.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.path.is_some()
    }

    /// Whether `candidate` is the token.
    pub(super) fn matches(&self, candidate: &[u8]) -> bool {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current
            .as_ref()
            .is_some_and(|secret| secret.matches(candidate))
    }
}
