//! What a node says of itself once it is admitted: a MessagePack map, in which a reader passes
//! over what it does not know.

use bytes::Bytes;
use grapevine_core::membership::{GroupIdentity, Introduction};
use grapevine_core::origin::Origin;
use serde::{Deserialize, Serialize};

/// Longest text in a greeting, in bytes.
const TEXT_BYTES_MAX: usize = 255;

/// The greeting. It holds the group's seed: only ever sent to a peer that has proved membership.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Greeting {
    /// The configured name of the group.
    pub(super) group_name: String,
    /// The group.
    pub(super) group: GroupIdentity,
    /// The origin of its operations.
    pub(super) origin: Origin,
    /// What people call the node.
    pub(super) node: String,
    /// The version of its program.
    pub(super) software: String,
    /// Where it can be reached.
    pub(super) addresses: Vec<String>,
}

/// Why a greeting cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum GreetingError {
    #[error("a greeting that does not decode: {0}")]
    Map(#[from] rmp_serde::decode::Error),
    #[error("a greeting with a text of {0} bytes, the limit is {TEXT_BYTES_MAX}")]
    TooLong(usize),
}

impl Greeting {
    pub(super) fn encode(&self) -> Bytes {
        let bytes = rmp_serde::to_vec_named(self).expect("a greeting is plain data");
        bytes.into()
    }

    /// Reads one. The transport has bounded its length.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, GreetingError> {
        let greeting: Greeting = rmp_serde::from_slice(bytes)?;
        let texts = [&greeting.group_name, &greeting.node, &greeting.software];
        match texts.iter().find(|text| text.len() > TEXT_BYTES_MAX) {
            Some(text) => Err(GreetingError::TooLong(text.len())),
            None => Ok(greeting),
        }
    }

    pub(super) fn introduction(&self) -> Introduction {
        Introduction {
            name: self.group_name.clone(),
            identity: self.group,
            origin: self.origin,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use grapevine_core::hash::Seed;

    fn greeting() -> Greeting {
        Greeting {
            group_name: "lab".to_owned(),
            group: GroupIdentity {
                id: [1; 16],
                seed: Seed::new([2; 16]),
                met: false,
            },
            origin: Origin::new([3; 16]),
            node: "a".to_owned(),
            software: "0.1.0".to_owned(),
            addresses: vec!["[::1]:8676".to_owned()],
        }
    }

    #[test]
    fn fields_of_a_later_version_are_passed_over() {
        #[derive(Serialize)]
        struct Later {
            #[serde(flatten)]
            greeting: Greeting,
            zone: &'static str,
        }
        let later = Later {
            greeting: greeting(),
            zone: "north",
        };
        let bytes = rmp_serde::to_vec_named(&later).expect("plain data");
        assert_eq!(Greeting::decode(&bytes).expect("it decodes"), greeting());
        assert!(Greeting::decode(b"\x91\x01").is_err());
    }

    #[test]
    fn long_texts_are_refused() {
        let mut long = greeting();
        long.node = "x".repeat(TEXT_BYTES_MAX + 1);
        assert!(matches!(
            Greeting::decode(&long.encode()),
            Err(GreetingError::TooLong(256))
        ));
    }
}
