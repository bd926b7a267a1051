//! What the host of a `peer` message names, as the original's resolver reads it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A host, before anything is looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// An address, in whatever form.
    Address(IpAddr),
    /// A name to look up.
    Name(String),
}

impl Host {
    /// Reads a host. Nothing when it can be neither an address nor a name. IPv6 addresses are
    /// taken only with `ipv6`: an original knows none.
    pub(super) fn parse(host: &[u8], ipv6: bool) -> Option<Self> {
        let text = std::str::from_utf8(host).ok()?;
        if text.is_empty() {
            return Some(Host::Address(Ipv4Addr::UNSPECIFIED.into()));
        }
        if let Ok(address) = text.parse::<Ipv6Addr>() {
            return ipv6.then_some(Host::Address(address.to_canonical()));
        }
        if let Some(address) = parse_ipv4(text) {
            return Some(Host::Address(address.into()));
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let is_name = text.bytes().all(allowed)
            && !text.starts_with(['-', '.'])
            // Digits and dots alone would be a mistyped address: no lookup for those.
            && text.bytes().any(|byte| byte.is_ascii_alphabetic())
            && !text.starts_with("0x");
        is_name.then(|| Host::Name(text.to_owned()))
    }
}

/// The forms of `inet_aton`: one to four numbers, decimal, octal (`0…`) or hexadecimal (`0x…`),
/// the last of which fills the bytes that are left.
fn parse_ipv4(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u32> = text
        .splitn(5, '.')
        .map(parse_number)
        .collect::<Option<_>>()?;
    let (last, leading) = parts.split_last()?;
    if leading.len() > 3 || leading.iter().any(|part| *part > 255) {
        return None;
    }
    let bits_left = 32 - 8 * leading.len() as u32;
    if u64::from(*last) >> bits_left != 0 {
        return None;
    }
    let bytes = (0..).zip(leading);
    let address = bytes.fold(*last, |address, (index, part)| {
        address | part << (24 - 8 * index)
    });
    Some(Ipv4Addr::from_bits(address))
}

fn parse_number(text: &str) -> Option<u32> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
        None => (text, 10),
    };
    // from_str_radix would take a sign.
    let all_digits = digits.chars().all(|digit| digit.is_digit(radix));
    if !all_digits {
        return None;
    }
    u32::from_str_radix(digits, radix).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(text: &str) -> Option<Host> {
        let address = text.parse().expect("an address");
        Some(Host::Address(address))
    }

    #[test]
    fn every_form_of_an_address_is_read() {
        for (text, expected) in [
            ("127.0.0.1", "127.0.0.1"),
            ("127.1", "127.0.0.1"),
            ("2130706433", "127.0.0.1"),
            ("0x7f.0.0.1", "127.0.0.1"),
            ("0X7F000001", "127.0.0.1"),
            ("0177.0.1", "127.0.0.1"),
            ("10.1.65535", "10.1.255.255"),
            ("4294967295", "255.255.255.255"),
            ("0", "0.0.0.0"),
            ("", "0.0.0.0"),
        ] {
            assert_eq!(
                Host::parse(text.as_bytes(), false),
                address(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for text in [
            "256.0.0.1",
            "1.2.3.4.5",
            "1.2.3.256",
            "4294967296",
            "1..2",
            "1.",
            "08",
            "0x",
            "+1",
            "-1",
            "1.2.3.4 ",
            " 1.2.3.4",
            "127.0.0.1\0",
            "a b",
            "a/b",
            "-a",
            ".a",
            "ä",
            "::1",
            "[::1]",
            "0xg",
            "999999999999",
            "<broadcast>",
        ] {
            assert_eq!(Host::parse(text.as_bytes(), false), None, "{text:?}");
        }
        assert_eq!(Host::parse(b"\xff", false), None);
    }

    #[test]
    fn names_are_left_to_be_looked_up() {
        for text in ["localhost", "a", "node-1.example.org.", "a_b", "1a"] {
            let name = Host::Name(text.to_owned());
            assert_eq!(Host::parse(text.as_bytes(), false), Some(name), "{text}");
        }
    }

    #[test]
    fn ipv6_is_known_where_the_socket_is() {
        assert_eq!(Host::parse(b"::1", true), address("::1"));
        assert_eq!(Host::parse(b"::ffff:10.0.0.1", true), address("10.0.0.1"));
    }

    proptest! {
        #[test]
        fn any_host_is_read_or_refused(host in prop::collection::vec(any::<u8>(), 0..139)) {
            if let Some(Host::Name(name)) = Host::parse(&host, true) {
                prop_assert!(name.is_ascii() && !name.is_empty());
            }
        }

        #[test]
        fn plain_addresses_are_themselves(ip: Ipv4Addr) {
            let expected = Some(Host::Address(ip.into()));
            prop_assert_eq!(Host::parse(ip.to_string().as_bytes(), false), expected.clone());
            prop_assert_eq!(Host::parse(ip.to_bits().to_string().as_bytes(), false), expected);
        }
    }
}
