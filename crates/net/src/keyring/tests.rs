use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use crate::secret::SecretError;

fn key(id: &str, byte: u8) -> Key {
    Key::new(id, [byte; KEY_BYTES]).unwrap()
}

fn ids(ring: &Keyring) -> Vec<&str> {
    ring.keys().iter().map(Key::id).collect()
}

#[test]
fn a_secret_is_rotated_by_add_use_remove() {
    let old = Keyring::new(key("old", 1));
    let both = old.add(key("new", 2)).unwrap();
    assert_eq!(ids(&both), ["old", "new"]);
    let turned = both.using("new").unwrap();
    assert_eq!(ids(&turned), ["new", "old"]);
    let last = turned.without("old").unwrap();
    assert_eq!(ids(&last), ["new"]);
    assert!(turned.accepts(&key("x", 1)) && !last.accepts(&key("x", 1)));
    assert!(last.without("new").unwrap().is_empty());
}

#[test]
fn using_a_key_keeps_the_order_of_the_others() {
    let mut ring = Keyring::new(key("a", 1));
    for (id, byte) in [("b", 2), ("c", 3), ("d", 4)] {
        ring = ring.add(key(id, byte)).unwrap();
    }
    assert_eq!(ids(&ring.using("c").unwrap()), ["c", "a", "b", "d"]);
}

#[test]
fn what_would_go_wrong_is_refused() {
    let ring = Keyring::new(key("a", 1)).add(key("b", 2)).unwrap();
    let id = |id: &str| id.to_owned();
    assert_eq!(
        ring.add(key("a", 3)),
        Err(KeyringError::Exists { id: id("a") })
    );
    assert_eq!(
        ring.add(key("c", 2)),
        Err(KeyringError::SameSecret { id: id("b") })
    );
    assert_eq!(ring.using("x"), Err(KeyringError::NotFound { id: id("x") }));
    assert_eq!(ring.without("a"), Err(KeyringError::InUse { id: id("a") }));
    let mut full = ring;
    for byte in 3..=8 {
        full = full.add(key(&byte.to_string(), byte)).unwrap();
    }
    assert_eq!(full.add(key("9", 9)), Err(KeyringError::Full));
    for bad in ["", "a b", "é", "a/b", &"x".repeat(33)] {
        assert!(Key::new(bad, [0; KEY_BYTES]).is_err(), "{bad:?}");
    }
}

#[test]
fn the_text_is_read_as_it_is_written() {
    let ring = Keyring::new(key("a", 0xab)).add(key("b", 2)).unwrap();
    let text = ring.text();
    assert_eq!(
        text.lines().next(),
        Some(&*format!("a {}", "ab".repeat(32)))
    );
    assert_eq!(Keyring::parse(&text), Ok(ring.clone()));
    let commented = format!("# group lab\n\n  {}", text.replace('\n', "\r\n"));
    assert_eq!(Keyring::parse(&commented), Ok(ring));
    let line = |text: &str| Keyring::parse(&format!("#\n{text}"));
    for bad in ["a", "a zz", "a b c", &format!("a {}", "ab".repeat(31))] {
        assert_eq!(line(bad), Err(KeyringError::Line { line: 2 }), "{bad}");
    }
    let bad_digits = format!("a {}é", "a".repeat(62));
    assert_eq!(line(&bad_digits), Err(KeyringError::Line { line: 2 }));
}

#[test]
fn secrets_are_not_printed() {
    let ring = Keyring::new(key("a", 0xab));
    assert!(!format!("{ring:?}").contains("ab"));
    assert!(!format!("{ring:?}").contains("171"));
}

#[test]
fn proofs_are_hmac_sha256() {
    // RFC 4231 has no case with a key of 32 bytes and this input, so the expected value is
    // worked out by the definition of HMAC.
    use sha2::Digest;
    let (secret, input) = ([0x0b; KEY_BYTES], [0x55; PROOF_INPUT_BYTES]);
    let padded = |with: u8| {
        let mut block = [with; 64];
        block[..KEY_BYTES].iter_mut().for_each(|byte| *byte ^= 0x0b);
        block
    };
    let inner = Sha256::new()
        .chain_update(padded(0x36))
        .chain_update(input)
        .finalize();
    let expected = Sha256::new()
        .chain_update(padded(0x5c))
        .chain_update(inner)
        .finalize();
    let proof = Key::new("x", secret).unwrap().proof(&input);
    assert_eq!(proof[..], expected[..]);
    assert!(key("x", 0x0b).verifies(&input, &proof));
    assert!(!key("x", 0x0c).verifies(&input, &proof));
}

#[test]
fn a_file_is_replaced_whole_and_stays_private() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ring");
    let first = Keyring::new(key("a", 1));
    write_keyring(&path, &first).unwrap();
    assert_eq!(read_keyring(&path).unwrap(), first);
    let link = directory.path().join("link");
    symlink(&path, &link).unwrap();
    // What a crash left behind is in nobody's way.
    let left = directory.path().join("ring.new");
    fs::write(&left, "half").unwrap();
    fs::set_permissions(&left, Permissions::from_mode(0o644)).unwrap();
    let second = first.add(key("b", 2)).unwrap();
    write_keyring(&link, &second).unwrap();
    assert_eq!(read_keyring(&path).unwrap(), second);
    assert!(link.is_symlink() && !left.exists());
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn files_that_are_no_keyring_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ring");
    for (bytes, expected) in [
        (b"a b".as_slice(), "line 1 is not a key"),
        (b"# only this", "has no key"),
        (b"\xff\xff", "is not text"),
    ] {
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let error = read_keyring(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains(&path.display().to_string()), "{error}");
    }
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(
        read_keyring(&path),
        Err(KeyringFileError::Secret(SecretError::Permissions { .. }))
    ));
}
