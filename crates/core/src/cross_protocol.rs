//! Lines of HTTP that reach a protocol of lines.
//!
//! A browser posts a page's form to any address, this machine's own included, and a protocol that
//! passes over lines it does not understand would run those of the form. So a connection that
//! begins with a request line, or that sends the header `Host`, is no client's and is to be ended.

/// Whether this is the first line of a request (RFC 9112, section 3): a method, a target, the
/// version.
pub fn is_request_line(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return false;
    };
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let is_target = target.starts_with(b"/")
        || target == b"*"
        || method == b"CONNECT"
        || target.windows(3).any(|part| part == b"://");
    !method.is_empty()
        && method.iter().all(is_token)
        && is_target
        && version.len() == b"HTTP/1.1".len()
        && version.starts_with(b"HTTP/")
}

/// Whether this is the header `Host`, which every request since HTTP/1.1 has.
pub fn is_host_header(line: &[u8]) -> bool {
    let name = b"host:";
    line.get(..name.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_from_commands() {
        for line in [
            &b"POST / HTTP/1.1"[..],
            b"POST /a?b=c HTTP/1.1\r",
            b"GET http://localhost:8673/ HTTP/1.0",
            b"OPTIONS * HTTP/1.1",
            b"CONNECT localhost:1 HTTP/1.1",
            b"drop /f HTTP/1.1",
            b"PRI * HTTP/2.0",
        ] {
            assert!(is_request_line(line), "{}", line.escape_ascii());
        }
        for line in [
            &b""[..],
            b"list",
            b"s f HTTP/1.1",
            b"s f a HTTP/1.1",
            b"b f / HTTP/1.1",
            b"GET /",
            b"POST / HTTP/1.1 ",
            b" / HTTP/1.1",
        ] {
            assert!(!is_request_line(line), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn the_header_is_known_in_any_case() {
        for line in [&b"Host: localhost:8673"[..], b"host:", b"HOST:x\r"] {
            assert!(is_host_header(line), "{}", line.escape_ascii());
        }
        for line in [&b"Hos"[..], b"hosts: x", b"s Host: x", b""] {
            assert!(!is_host_header(line), "{}", line.escape_ascii());
        }
    }
}
