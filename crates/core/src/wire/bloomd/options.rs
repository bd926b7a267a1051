//! The options of `create`, in the C server's form and in the Python server's.
//!
//! The C server reads each token with `scanf("capacity=%llu")` and its like. That makes every
//! prefix of an option word a token that matches and changes nothing, and lets anything follow a
//! number. Both are kept, because clients in the field send such lines and get `Done`.

use super::{
    CAPACITY_MAX, CAPACITY_OPTION_MIN, CAPACITY_POSITIONAL_MIN, ClientError, PROBABILITY_MIN,
    PROBABILITY_OPTION_LIMIT, PROBABILITY_POSITIONAL_LIMIT,
};

const CAPACITY: &[u8] = b"capacity=";
const PROBABILITY: &[u8] = b"prob=";
const IN_MEMORY: &[u8] = b"in_memory=";

/// The Python server's words for where a filter lives.
const WORD_IN_MEMORY: &[u8] = b"in_memory";
const WORD_ON_DISK: &[u8] = b"on_disk";

/// What a `create` asks for. `None` is the server's default.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CreateOptions {
    /// Keys the first layer holds; within the bounds of the form that named it.
    pub capacity: Option<u64>,
    /// Largest probability of a false positive, at least [`PROBABILITY_MIN`] and below 1.
    pub probability: Option<f64>,
    /// Whether the filter lives in memory only, so that a restart empties it.
    pub in_memory: Option<bool>,
}

/// Reads everything after `create NAME `.
pub(super) fn parse(text: &[u8]) -> Result<CreateOptions, ClientError> {
    // The first token that both servers do not read as a word (or as nothing) decides the form.
    let telling = tokens(text).find(|token| !matches!(*token, WORD_IN_MEMORY | WORD_ON_DISK));
    match telling {
        Some(token) if !starts_like_number(token) => parse_assignments(text),
        _ => parse_positional(text),
    }
}

/// Runs of spaces separate as one does: the C server takes an empty token for a no-op.
fn tokens(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b' ')
        .filter(|token| !token.is_empty())
}

fn starts_like_number(token: &[u8]) -> bool {
    let digits = match token {
        [b'+' | b'-', rest @ ..] => rest,
        _ => token,
    };
    let digits = digits.strip_prefix(b".").unwrap_or(digits);
    digits.first().is_some_and(u8::is_ascii_digit)
}

/// C's form: `capacity=N prob=F in_memory=0|1`, any order, the last of each counts. Bounds are
/// checked on what counts, so a bad value that a later token overrides is no error.
fn parse_assignments(text: &[u8]) -> Result<CreateOptions, ClientError> {
    let mut capacity = None;
    let mut probability = None;
    let mut in_memory = None;
    for token in tokens(text) {
        if token == WORD_IN_MEMORY {
            // A no-op in C, but whoever writes the word wants what it says.
            in_memory = Some(1);
        } else if [CAPACITY, PROBABILITY, IN_MEMORY]
            .iter()
            .any(|word| word.starts_with(token))
        {
            // A prefix of an option word changes nothing.
        } else if let Some(value) = token.strip_prefix(CAPACITY) {
            assign(&mut capacity, scan(value, scan_integer)?);
        } else if let Some(value) = token.strip_prefix(PROBABILITY) {
            assign(&mut probability, scan(value, scan_float)?);
        } else if let Some(value) = token.strip_prefix(IN_MEMORY) {
            assign(&mut in_memory, scan(value, scan_integer)?);
        } else {
            return Err(ClientError::BadArguments);
        }
    }
    Ok(CreateOptions {
        capacity: capacity.map(option_capacity).transpose()?,
        probability: probability
            .map(|value| {
                probability_below(value, PROBABILITY_OPTION_LIMIT).ok_or(ClientError::BadArguments)
            })
            .transpose()?,
        in_memory: in_memory.map(option_in_memory).transpose()?,
    })
}

fn assign<T>(slot: &mut Option<T>, value: Option<T>) {
    *slot = value.or(slot.take());
}

fn option_capacity(value: i64) -> Result<u64, ClientError> {
    u64::try_from(value)
        .ok()
        .filter(|&capacity| capacity >= CAPACITY_OPTION_MIN)
        .ok_or(ClientError::BadArguments)
}

fn option_in_memory(value: i64) -> Result<bool, ClientError> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(ClientError::BadArguments),
    }
}

fn probability_below(value: f64, limit: f64) -> Option<f64> {
    (PROBABILITY_MIN..limit).contains(&value).then_some(value)
}

/// Python's form: `[CAPACITY [PROB]]`, with `in_memory` or `on_disk` anywhere. A line with more
/// numbers than that, or with a token of C's form, belongs to neither server.
fn parse_positional(text: &[u8]) -> Result<CreateOptions, ClientError> {
    let mut options = CreateOptions::default();
    let mut numbers = [None; 2];
    let mut count = 0;
    for token in tokens(text) {
        let of_c_form = [CAPACITY, PROBABILITY, IN_MEMORY]
            .iter()
            .any(|word| token.starts_with(word));
        match token {
            WORD_IN_MEMORY => options.in_memory = Some(true),
            WORD_ON_DISK => options.in_memory = Some(false),
            _ if of_c_form || count == numbers.len() => return Err(ClientError::BadArguments),
            _ => {
                numbers[count] = Some(token);
                count += 1;
            }
        }
    }
    let [capacity, probability] = numbers;
    options.capacity = capacity.map(positional_capacity).transpose()?;
    options.probability = probability.map(positional_probability).transpose()?;
    Ok(options)
}

fn positional_capacity(token: &[u8]) -> Result<u64, ClientError> {
    str::from_utf8(token)
        .ok()
        .and_then(|text| text.parse().ok())
        .filter(|capacity| (CAPACITY_POSITIONAL_MIN..=CAPACITY_MAX).contains(capacity))
        .ok_or(ClientError::BadInitialCapacity)
}

fn positional_probability(token: &[u8]) -> Result<f64, ClientError> {
    str::from_utf8(token)
        .ok()
        .and_then(|text| text.parse().ok())
        .and_then(|value| probability_below(value, PROBABILITY_POSITIONAL_LIMIT))
        .ok_or(ClientError::BadFalsePositiveProbability)
}

/// Reads a value as `scanf` does: blanks before the number are skipped, what follows it is ignored,
/// and no text at all is neither a value nor a mismatch (`Ok(None)`).
fn scan<T>(text: &[u8], number: fn(&[u8]) -> Option<T>) -> Result<Option<T>, ClientError> {
    // scanf's blanks are those of ASCII and the vertical tab, which `trim_ascii_start` leaves out.
    let blanks = text
        .iter()
        .take_while(|byte| byte.is_ascii_whitespace() || **byte == 0x0b)
        .count();
    match &text[blanks..] {
        [] => Ok(None),
        text => number(text).map(Some).ok_or(ClientError::BadArguments),
    }
}

/// `%llu` and `%d`: an optional sign and decimal digits. A number beyond 64 bits becomes -1, as in
/// C, which every option refuses.
fn scan_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let length = count_digits(digits);
    if length == 0 {
        return None;
    }
    let magnitude = digits[..length].iter().try_fold(0_i64, |value, digit| {
        value.checked_mul(10)?.checked_add(i64::from(digit - b'0'))
    });
    Some(match magnitude {
        Some(value) if negative => -value,
        Some(value) => value,
        None => -1,
    })
}

/// `%lf`, decimal notation only: sign, digits, point, digits, exponent. Hexadecimal
/// notation and names (`nan`, `inf`) are a mismatch.
fn scan_float(text: &[u8]) -> Option<f64> {
    let mut end = usize::from(matches!(text.first(), Some(b'+' | b'-')));
    if let [b'0', b'x' | b'X', ..] = &text[end..] {
        return None;
    }
    let whole = count_digits(&text[end..]);
    end += whole;
    let mut fraction = 0;
    if text.get(end) == Some(&b'.') {
        fraction = count_digits(&text[end + 1..]);
        end += 1 + fraction;
    }
    if whole + fraction == 0 {
        return None;
    }
    if let Some(b'e' | b'E') = text.get(end) {
        let sign = usize::from(matches!(text.get(end + 1), Some(b'+' | b'-')));
        let exponent = count_digits(&text[end + 1 + sign..]);
        // Without digits the letter is what follows the number.
        if exponent > 0 {
            end += 1 + sign + exponent;
        }
    }
    str::from_utf8(&text[..end]).ok()?.parse().ok()
}

fn count_digits(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_digit()).count()
}
