//! Rust source without its comments and the insides of its literals: enough to look for words of
//! the language.

/// The code of `source`, line by line: comments, and what strings and characters hold, are gone.
pub(crate) fn code_of(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let length = foreign_length(rest);
        if length == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.extend(rest[..length].chars().filter(|c| *c == '\n'));
            // Something must stand between the words before and after.
            code.push(' ');
            rest = &rest[length..];
        }
        if first.is_alphanumeric() || first == '_' {
            // The rest of the word, so that its last letter does not begin a literal.
            let end = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            let end = if length == 0 { end } else { 0 };
            code.push_str(&rest[..end]);
            rest = &rest[end..];
        }
    }
    code
}

/// Bytes of the comment or literal at the start of `rest`; 0 when there is none.
fn foreign_length(rest: &str) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment_length(rest);
    }
    let literal = rest.trim_start_matches(['b', 'c']);
    let prefix = rest.len() - literal.len();
    if let Some(raw) = literal.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let close = format!("\"{}", "#".repeat(hashes));
            let body = &raw[hashes + 1..];
            let end = body.find(&close).map_or(body.len(), |at| at + close.len());
            return prefix + 1 + hashes + 1 + end;
        }
    }
    if prefix <= 1 && literal.starts_with('"') {
        return prefix + quoted_length(literal, '"');
    }
    if prefix <= 1 && is_character(literal) {
        return prefix + quoted_length(literal, '\'');
    }
    0
}

/// Block comments nest.
fn block_comment_length(rest: &str) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < rest.len() {
        let here = &rest.as_bytes()[at..];
        if here.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// Length of a literal from its opening to its closing quote.
fn quoted_length(literal: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in literal.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    literal.len()
}

/// Whether a quote begins a character and not a lifetime.
fn is_character(literal: &str) -> bool {
    let mut rest = literal.chars();
    rest.next() == Some('\'')
        && match rest.next() {
            Some('\\') => true,
            Some(_) => rest.next() == Some('\''),
            None => false,
        }
}

/// Whether `code` holds `word` as a whole word.
pub(crate) fn has_word(code: &str, word: &str) -> bool {
    let joins = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word)
        .any(|(at, _)| !code[..at].ends_with(joins) && !code[at + word.len()..].starts_with(joins))
}

#[test]
fn comments_and_literals_are_not_code() {
    for (source, code) in [
        ("a // unsafe\nb", "a  \nb"),
        ("a /* x /* y */ z */ b", "a   b"),
        ("f(\"a \\\" // b\", 1)", "f( , 1)"),
        ("f(r#\"a \" b\"#)", "f( )"),
        ("f(b'\"', 'x', '\\'')", "f( ,  ,  )"),
        ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
        ("var = \"x\"", "var =  "),
        ("\"one\ntwo\"", "\n "),
    ] {
        assert_eq!(code_of(source), code, "{source:?}");
    }
    assert!(has_word("x unsafe {", "unsafe"));
    assert!(!has_word("deny(unsafe_code)", "unsafe"));
}
