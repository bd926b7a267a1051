//! Keys out of a body that comes in pieces: a line each, a length before each, or strings of a
//! JSON array. Of what has come, no more than one unfinished key is kept.

use std::borrow::Cow;

/// What stands before each key of `application/octet-stream`: its length in bytes, an unsigned
/// 32-bit number, least significant byte first.
const LENGTH_BYTES: usize = 4;
/// Bytes of JSON that one byte of a key can take: `\u0041`.
const ESCAPED_BYTES_MAX: usize = 6;

/// Bytes that are kept for the next unfinished key when a long one has ended.
const KEPT_BYTES: usize = 128 << 10;

/// Why a body holds no keys. Those before the fault have been dealt with.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum FramingError {
    #[error("key {number} is longer than {limit} bytes (limits.line)")]
    KeyTooLong { number: u64, limit: usize },
    #[error("the body ends in the middle of key {number}")]
    Truncated { number: u64 },
    #[error("expected {{\"keys\":[\"…\",…]}}: at byte {offset} {expected} is missing")]
    Json { offset: u64, expected: &'static str },
    #[error("key {number} is no JSON string")]
    JsonString { number: u64 },
}

/// How keys are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// Ended by a line feed; empty lines are none.
    Lines,
    /// Each after its length.
    Lengths,
    /// `{"keys":["…",…]}`.
    Json,
}

impl Framing {
    /// The framing of a media type, parameters of which are ignored.
    pub(super) fn of(media_type: &str) -> Option<Self> {
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        match essence.to_ascii_lowercase().as_str() {
            "application/json" => Some(Framing::Json),
            "text/plain" => Some(Framing::Lines),
            "application/octet-stream" => Some(Framing::Lengths),
            _ => None,
        }
    }
}

/// Takes pieces of a body, gives keys.
#[derive(Debug)]
pub(super) struct KeyStream {
    framing: Framing,
    key_max: usize,
    /// An unfinished key.
    carry: Vec<u8>,
    splitter: Splitter,
}

/// Where the stream is.
#[derive(Debug)]
struct Splitter {
    /// Leading bytes of the unfinished key that have been looked through.
    scanned: usize,
    /// Keys so far.
    count: u64,
    /// Bytes of the body before the unfinished key.
    offset: u64,
    json: JsonState,
}

/// What must come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JsonState {
    Object,
    Member,
    Colon,
    Array,
    FirstKey,
    Comma,
    Key,
    ObjectEnd,
    Nothing,
}

impl KeyStream {
    pub(super) fn new(framing: Framing, key_max: usize) -> Self {
        KeyStream {
            framing,
            key_max,
            carry: Vec::new(),
            splitter: Splitter {
                scanned: 0,
                count: 0,
                offset: 0,
                json: JsonState::Object,
            },
        }
    }

    /// Bytes of an unfinished key that are kept.
    pub(super) fn kept(&self) -> usize {
        self.carry.capacity()
    }

    /// Takes the next piece and gives the keys that it completes to `take`, all at once. When a
    /// fault is found, the keys before it are given first.
    pub(super) fn feed<E: From<FramingError>>(
        &mut self,
        piece: &[u8],
        take: impl FnOnce(&[Cow<'_, [u8]>]) -> Result<(), E>,
    ) -> Result<(), E> {
        let carried = !self.carry.is_empty();
        if carried {
            self.carry.extend_from_slice(piece);
        }
        let buffer = if carried { &self.carry[..] } else { piece };
        let mut keys = Vec::new();
        let splitter = &mut self.splitter;
        let split = match self.framing {
            Framing::Lines => splitter.lines(buffer, self.key_max, &mut keys),
            Framing::Lengths => splitter.lengths(buffer, self.key_max, &mut keys),
            Framing::Json => splitter.json(buffer, self.key_max, &mut keys),
        };
        if !keys.is_empty() {
            take(&keys)?;
        }
        drop(keys);
        let consumed = split?;
        splitter.offset += consumed as u64;
        if carried {
            self.carry.drain(..consumed);
            if consumed > 0 {
                self.carry.shrink_to(KEPT_BYTES);
            }
        } else {
            self.carry.extend_from_slice(&piece[consumed..]);
        }
        Ok(())
    }

    /// To be called at the end of the body: gives the last line, if it has no end.
    pub(super) fn finish<E: From<FramingError>>(
        self,
        take: impl FnOnce(&[Cow<'_, [u8]>]) -> Result<(), E>,
    ) -> Result<(), E> {
        let Splitter {
            count,
            offset,
            json,
            ..
        } = self.splitter;
        let number = count + 1;
        match self.framing {
            Framing::Lines if !self.carry.is_empty() => take(&[Cow::Borrowed(&self.carry)]),
            Framing::Lengths if !self.carry.is_empty() => {
                Err(FramingError::Truncated { number }.into())
            }
            Framing::Json if json != JsonState::Nothing => {
                let offset = offset + self.carry.len() as u64;
                let expected = json.expected();
                Err(FramingError::Json { offset, expected }.into())
            }
            _ => Ok(()),
        }
    }
}

type Keys<'b> = Vec<Cow<'b, [u8]>>;

impl Splitter {
    fn too_long(&self, limit: usize) -> FramingError {
        let number = self.count + 1;
        FramingError::KeyTooLong { number, limit }
    }

    fn lines<'b>(
        &mut self,
        buffer: &'b [u8],
        key_max: usize,
        keys: &mut Keys<'b>,
    ) -> Result<usize, FramingError> {
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', &buffer[self.scanned..]) {
            let end = self.scanned + end;
            if end - start > key_max {
                return Err(self.too_long(key_max));
            }
            if end > start {
                keys.push(Cow::Borrowed(&buffer[start..end]));
                self.count += 1;
            }
            start = end + 1;
        }
        self.scanned = buffer.len() - start;
        if self.scanned > key_max {
            return Err(self.too_long(key_max));
        }
        Ok(start)
    }

    fn lengths<'b>(
        &mut self,
        buffer: &'b [u8],
        key_max: usize,
        keys: &mut Keys<'b>,
    ) -> Result<usize, FramingError> {
        let mut start = 0;
        while let Some((length, rest)) = buffer[start..].split_first_chunk::<LENGTH_BYTES>() {
            let length = u32::from_le_bytes(*length) as usize;
            if length > key_max {
                return Err(self.too_long(key_max));
            }
            let Some(key) = rest.get(..length) else { break };
            keys.push(Cow::Borrowed(key));
            self.count += 1;
            start += LENGTH_BYTES + length;
        }
        Ok(start)
    }

    fn json<'b>(
        &mut self,
        buffer: &'b [u8],
        key_max: usize,
        keys: &mut Keys<'b>,
    ) -> Result<usize, FramingError> {
        let mut at = 0;
        loop {
            at += buffer[at..]
                .iter()
                .take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
                .count();
            let Some(&byte) = buffer.get(at) else {
                return Ok(at);
            };
            let state = self.json;
            if byte == b'"' && state.takes_string() {
                let raw_max = key_max.saturating_mul(ESCAPED_BYTES_MAX).saturating_add(2);
                let Some(end) = self.string_end(&buffer[at..]) else {
                    if self.scanned > raw_max {
                        return Err(self.too_long(key_max));
                    }
                    return Ok(at);
                };
                self.scanned = 0;
                let text = self.string(&buffer[at..=at + end])?;
                at += end + 1;
                if state == JsonState::Member {
                    if &*text != b"keys" {
                        return Err(self.missing(at, state));
                    }
                    self.json = JsonState::Colon;
                    continue;
                }
                if text.len() > key_max {
                    return Err(self.too_long(key_max));
                }
                keys.push(text);
                self.count += 1;
                self.json = JsonState::Comma;
                continue;
            }
            self.json = state.after(byte).ok_or_else(|| self.missing(at, state))?;
            at += 1;
        }
    }

    fn missing(&self, at: usize, state: JsonState) -> FramingError {
        FramingError::Json {
            offset: self.offset + at as u64,
            expected: state.expected(),
        }
    }

    /// Index of the quotation mark that ends the string at the start of `token`. Without one,
    /// notes how far was looked, never splitting an escape.
    fn string_end(&mut self, token: &[u8]) -> Option<usize> {
        let mut at = self.scanned.max(1);
        while let Some(found) = memchr::memchr2(b'"', b'\\', token.get(at..)?) {
            at += found;
            if token[at] == b'"' {
                return Some(at);
            }
            if at + 1 >= token.len() {
                self.scanned = at;
                return None;
            }
            at += 2;
        }
        self.scanned = token.len();
        None
    }

    fn string<'b>(&self, raw: &'b [u8]) -> Result<Cow<'b, [u8]>, FramingError> {
        let wrong = |_| FramingError::JsonString {
            number: self.count + 1,
        };
        if memchr::memchr(b'\\', raw).is_none() {
            let text: &str = serde_json::from_slice(raw).map_err(wrong)?;
            return Ok(Cow::Borrowed(text.as_bytes()));
        }
        let text: String = serde_json::from_slice(raw).map_err(wrong)?;
        Ok(Cow::Owned(text.into_bytes()))
    }
}

impl JsonState {
    fn takes_string(self) -> bool {
        matches!(
            self,
            JsonState::Member | JsonState::FirstKey | JsonState::Key
        )
    }

    /// The state behind a punctuation mark; none when another was due.
    fn after(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (JsonState::Object, b'{') => Some(JsonState::Member),
            (JsonState::Colon, b':') => Some(JsonState::Array),
            (JsonState::Array, b'[') => Some(JsonState::FirstKey),
            (JsonState::Comma, b',') => Some(JsonState::Key),
            (JsonState::FirstKey | JsonState::Comma, b']') => Some(JsonState::ObjectEnd),
            (JsonState::ObjectEnd, b'}') => Some(JsonState::Nothing),
            _ => None,
        }
    }

    fn expected(self) -> &'static str {
        match self {
            JsonState::Object => "an opening brace",
            JsonState::Member => "the one member \"keys\"",
            JsonState::Colon => "a colon",
            JsonState::Array => "an opening bracket",
            JsonState::FirstKey => "a string or a closing bracket",
            JsonState::Comma => "a comma or a closing bracket",
            JsonState::Key => "a string",
            JsonState::ObjectEnd => "a closing brace",
            JsonState::Nothing => "the end",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(
        framing: Framing,
        key_max: usize,
        body: &[u8],
        piece: usize,
    ) -> Result<Vec<Vec<u8>>, FramingError> {
        let mut stream = KeyStream::new(framing, key_max);
        let mut keys = Vec::new();
        for piece in body.chunks(piece) {
            stream.feed(piece, |found| {
                keys.extend(found.iter().map(|key| key.to_vec()));
                Ok::<_, FramingError>(())
            })?;
        }
        stream.finish(|found| {
            keys.extend(found.iter().map(|key| key.to_vec()));
            Ok::<_, FramingError>(())
        })?;
        Ok(keys)
    }

    fn framed(framing: Framing, keys: &[Vec<u8>]) -> Vec<u8> {
        let mut body = Vec::new();
        match framing {
            Framing::Lines => keys.iter().for_each(|key| {
                body.extend_from_slice(key);
                body.push(b'\n');
            }),
            Framing::Lengths => keys.iter().for_each(|key| {
                body.extend_from_slice(&(key.len() as u32).to_le_bytes());
                body.extend_from_slice(key);
            }),
            Framing::Json => {
                let keys: Vec<_> = keys
                    .iter()
                    .map(|key| String::from_utf8_lossy(key))
                    .collect();
                body = serde_json::json!({ "keys": keys }).to_string().into_bytes();
            }
        }
        body
    }

    #[test]
    fn media_types_name_their_framing() {
        assert_eq!(
            Framing::of("Text/Plain; charset=utf-8"),
            Some(Framing::Lines)
        );
        assert_eq!(Framing::of("application/json"), Some(Framing::Json));
        assert_eq!(
            Framing::of("application/octet-stream "),
            Some(Framing::Lengths)
        );
        assert_eq!(Framing::of("application/x-www-form-urlencoded"), None);
    }

    #[test]
    fn lines_end_with_a_line_feed_and_nothing_else_is_taken_from_them() {
        let keys = read(Framing::Lines, 10, b"a\r\n\n b \n\nlast", 3).unwrap();
        assert_eq!(keys, [&b"a\r"[..], b" b ", b"last"]);
    }

    #[test]
    fn json_may_have_blanks_and_escapes() {
        let body = br#" { "keys" : [ "a\"b" , "\u00e9\\" ,"" ] } "#;
        for piece in [1, 2, 7, 1000] {
            let keys = read(Framing::Json, 10, body, piece).unwrap();
            assert_eq!(keys, [b"a\"b".to_vec(), "é\\".as_bytes().to_vec(), vec![]]);
        }
        assert_eq!(read(Framing::Json, 9, b"{\"keys\":[]}", 4), Ok(vec![]));
    }

    #[test]
    fn what_is_no_list_of_keys_is_refused_with_its_place() {
        for (body, offset) in [
            ("", 0),
            ("[", 0),
            ("{\"key\":[]}", 6),
            ("{\"keys\":[\"a\",]}", 13),
            ("{\"keys\":[1]}", 9),
            ("{\"keys\":[\"a\"", 12),
            ("{\"keys\":[]}x", 11),
            ("{\"keys\":[],\"more\":1}", 10),
        ] {
            for piece in [1, 100] {
                let found = read(Framing::Json, 10, body.as_bytes(), piece);
                assert!(
                    matches!(found, Err(FramingError::Json { offset: o, .. }) if o == offset),
                    "{body}: {found:?}"
                );
            }
        }
        let broken = read(Framing::Json, 10, b"{\"keys\":[\"\xff\"]}", 100);
        assert_eq!(broken, Err(FramingError::JsonString { number: 1 }));
    }

    #[test]
    fn a_key_over_the_limit_is_refused_before_it_is_whole() {
        for framing in [Framing::Lines, Framing::Lengths, Framing::Json] {
            let keys = vec![b"ok".to_vec(), vec![b'x'; 11]];
            for piece in [1, 8, 1000] {
                let found = read(framing, 10, &framed(framing, &keys), piece);
                let refused = FramingError::KeyTooLong {
                    number: 2,
                    limit: 10,
                };
                assert_eq!(found, Err(refused), "{framing:?} {piece}");
            }
            let longest = vec![vec![b'x'; 10]];
            assert_eq!(
                read(framing, 10, &framed(framing, &longest), 3),
                Ok(longest)
            );
        }
        let mut stream = KeyStream::new(Framing::Lines, 100);
        let endless = (0..1000).find_map(|_| {
            let fed: Result<(), FramingError> = stream.feed(&[b'x'; 64], |_| Ok(()));
            assert!(stream.carry.len() <= 200);
            fed.err()
        });
        assert!(endless.is_some());
    }

    #[test]
    fn a_length_without_its_key_is_refused() {
        let found = read(Framing::Lengths, 10, b"\x01\0\0\0a\x02\0\0\0b", 3);
        assert_eq!(found, Err(FramingError::Truncated { number: 2 }));
    }

    proptest! {
        #[test]
        fn keys_come_out_as_they_went_in(
            texts in proptest::collection::vec("[a-z\"\\\\é\u{1}-\u{9}]{1,8}", 0..40),
            piece in 1_usize..50,
        ) {
            let keys: Vec<Vec<u8>> = texts.into_iter().map(String::into_bytes).collect();
            for framing in [Framing::Lines, Framing::Lengths, Framing::Json] {
                let found = read(framing, 100, &framed(framing, &keys), piece);
                prop_assert_eq!(found, Ok(keys.clone()), "{:?}", framing);
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(
            body in proptest::collection::vec(any::<u8>(), 0..200),
            piece in 1_usize..50,
        ) {
            for framing in [Framing::Lines, Framing::Lengths, Framing::Json] {
                let pieces = read(framing, 20, &body, piece);
                let whole = read(framing, 20, &body, 1000);
                prop_assert_eq!(pieces.is_ok(), whole.is_ok());
            }
        }
    }
}
