//! The tokens that requests must carry.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use crate::audit;
use crate::config::{Secret, SecretError, read_secret};

/// The configuration key of the token for everything.
const ALL: &str = "http.token_file";
/// The configuration key of the token that reads metrics.
const METRICS: &str = "http.metrics_token_file";

/// Why a token cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {source}")]
pub struct TokenError {
    /// The configuration key that names its file.
    pub key: &'static str,
    /// What is wrong with the file.
    pub source: SecretError,
}

/// Where the tokens come from. Copies share them, so that a reload reaches every connection.
#[derive(Clone, Debug)]
pub struct TokenSource {
    all: TokenFile,
    metrics: TokenFile,
}

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grant {
    /// Everything.
    All,
    /// To read metrics, and nothing else.
    Metrics,
}

impl TokenSource {
    /// No token: only for listeners that no other machine can reach.
    #[must_use]
    pub fn none() -> Self {
        TokenSource {
            all: TokenFile::new(ALL, None),
            metrics: TokenFile::new(METRICS, None),
        }
    }

    /// The token of a file (`http.token_file`), or none.
    ///
    /// # Errors
    /// When the file is not one that only its owner can read.
    pub fn open(path: Option<&Path>) -> Result<Self, TokenError> {
        let source = TokenSource {
            all: TokenFile::new(ALL, path),
            ..Self::none()
        };
        source.all.read()?;
        Ok(source)
    }

    /// The same with the token of a file that reads metrics and nothing else
    /// (`http.metrics_token_file`), or with none.
    ///
    /// # Errors
    /// When the file is not one that only its owner can read.
    pub fn and_metrics(mut self, path: Option<&Path>) -> Result<Self, TokenError> {
        self.metrics = TokenFile::new(METRICS, path);
        self.metrics.read()?;
        Ok(self)
    }

    /// Reads the files again.
    ///
    /// # Errors
    /// When one is not a file that only its owner can read; its token so far goes on being asked
    /// for, and the other one is the new one.
    pub fn reload(&self) -> Result<(), TokenError> {
        let (all, metrics) = (self.all.read(), self.metrics.read());
        all.and(metrics)
    }

    /// Whether requests for something else than metrics must carry a token.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.all.path.is_some()
    }

    /// Whether requests for metrics must carry a token.
    #[must_use]
    pub fn is_set_for_metrics(&self) -> bool {
        self.is_set() || self.metrics.path.is_some()
    }

    /// What `candidate` is the token for, if it is one.
    pub(super) fn grant(&self, candidate: &[u8]) -> Option<Grant> {
        if self.all.matches(candidate) {
            Some(Grant::All)
        } else {
            self.metrics.matches(candidate).then_some(Grant::Metrics)
        }
    }
}

/// A file and the token that was last read from it.
#[derive(Clone, Debug)]
struct TokenFile {
    key: &'static str,
    path: Option<Arc<Path>>,
    current: Arc<RwLock<Option<Secret>>>,
}

impl TokenFile {
    fn new(key: &'static str, path: Option<&Path>) -> Self {
        TokenFile {
            key,
            path: path.map(Arc::from),
            current: Arc::new(RwLock::new(None)),
        }
    }

    fn read(&self) -> Result<(), TokenError> {
        if let Some(path) = &self.path {
            let key = self.key;
            let secret = read_secret(path).map_err(|source| TokenError { key, source })?;
            let new = secret.clone();
            let before = {
                let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
                current.replace(secret)
            };
            if before.is_some_and(|before| !before.matches(new.expose())) {
                audit::note_secrets(&format!("the token of HTTP requests, {key}"));
            }
        }
        Ok(())
    }

    fn matches(&self, candidate: &[u8]) -> bool {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current
            .as_ref()
            .is_some_and(|secret| secret.matches(candidate))
    }
}
