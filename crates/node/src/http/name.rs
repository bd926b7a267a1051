//! Names in URLs: any bytes, percent-encoded (RFC 3986, section 2.1).

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};

/// Everything but the unreserved characters of RFC 3986, section 2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The form of a name in a path or a query.
#[must_use]
pub fn encode(name: &[u8]) -> String {
    percent_encode(name, RESERVED).to_string()
}

/// The bytes behind an encoded name; none when a `%` is not followed by two hexadecimal digits.
#[must_use]
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    let whole = |at: usize| {
        bytes
            .get(at + 1..at + 3)
            .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    memchr::memchr_iter(b'%', bytes)
        .all(whole)
        .then(|| percent_decode(bytes).collect())
}

/// A name for people: as it is when it is UTF-8, with U+FFFD for what is not.
#[must_use]
pub fn display(name: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_look_like_paths_are_one_segment() {
        assert_eq!(encode(b"a/b"), "a%2Fb");
        assert_eq!(encode(b"50%?#"), "50%25%3F%23");
        assert_eq!(encode(b"\xff\x00"), "%FF%00");
        assert_eq!(encode("é.txt".as_bytes()), "%C3%A9.txt");
    }

    #[test]
    fn a_percent_sign_needs_two_digits() {
        for text in ["%", "a%", "%4", "%zz", "%4g", "%%41"] {
            assert_eq!(decode(text), None, "{text}");
        }
        assert_eq!(decode("%41%2f+"), Some(b"A/+".to_vec()));
    }

    proptest! {
        #[test]
        fn any_name_comes_back(name in proptest::collection::vec(any::<u8>(), 0..50)) {
            let encoded = encode(&name);
            prop_assert!(encoded.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b'?'));
            prop_assert_eq!(decode(&encoded), Some(name));
        }

        #[test]
        fn any_text_is_decoded_or_refused(text in "\\PC{0,30}") {
            drop(decode(&text));
        }
    }
}
