//! Where keys are found, and that nothing goes in the clear because one is unfit.

use grapevine::gateway::hbbp::{
    KeyFileError, Opener, Refusal, SendError, Side, Unusable, generate, public_key, seal,
};
use grapevine_core::wire::hbbp::Packet;

use crate::directory::{Keys, set_mode};

const PRIVATE: [u8; 32] = [3; 32];

fn public() -> [u8; 32] {
    public_key([5; 32])
}

/// Keys of a sender for all tasks.
fn sender() -> Keys {
    let keys = Keys::empty();
    keys.put("default", "send.priv", &PRIVATE);
    keys.put("default", "recv.pub", &public());
    keys
}

/// What a sender finds wrong with its keys, by each file.
fn unfit(keys: &Keys, task: &str) -> Vec<KeyFileError> {
    let Unusable { files, .. } = keys
        .directory()
        .find(task.as_bytes(), Side::Sender)
        .expect_err("refused");
    let sent = seal(&keys.directory(), task.as_bytes(), b"secret");
    assert!(matches!(sent, Err(SendError::Keys(_))), "not in the clear");
    files
}

#[test]
fn each_file_is_looked_for_on_its_own_first_by_the_task() {
    let keys = sender();
    let sealed = |task: &[u8]| seal(&keys.directory(), task, b"").expect("sealed");
    assert_eq!(sealed(b"a/b").len(), 3 + 1 + 40);
    keys.put("a/b", "send.priv", b"short");
    assert!(
        matches!(&unfit(&keys, "a/b")[..], [KeyFileError::Short { path }]
        if path.ends_with("a/b/send.priv"))
    );
    assert_eq!(
        sealed(b"a").len(),
        1 + 1 + 40,
        "another task is not concerned"
    );
}

#[test]
fn without_any_key_messages_are_plain() {
    let keys = Keys::empty();
    let datagram = seal(&keys.directory(), b"task", b"text").expect("plain");
    assert_eq!(datagram, b"task\0text");
    let packet = Packet::parse(&datagram).expect("a packet");
    let opened = Opener::new(keys.directory()).open(&packet, std::time::Instant::now());
    assert!(!opened.expect("taken").sealed);
}

#[test]
fn one_key_alone_is_refused_on_both_sides() {
    let keys = Keys::empty();
    keys.put("default", "recv.pub", &public());
    assert!(unfit(&keys, "task").is_empty());
    let sent = seal(&keys.directory(), b"task", b"text");
    let said = sent
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default();
    let base = keys.path().display().to_string();
    assert_eq!(
        said,
        format!(
            "no usable pair of keys: send.priv is missing: put it into {base}/task or \
             {base}/default (chmod 400)"
        )
    );
    keys.put("default", "recv.priv", &PRIVATE);
    let packet = Packet {
        key: b"task",
        payload: b"text",
    };
    let opened = Opener::new(keys.directory()).open(&packet, std::time::Instant::now());
    assert!(matches!(opened, Err(Refusal::Keys(Unusable { files, .. })) if files.is_empty()));
}

#[test]
fn two_short_files_do_not_make_a_plain_message() {
    let keys = Keys::empty();
    keys.put("default", "send.priv", &[1; 31]);
    keys.put("default", "recv.pub", b"");
    assert!(matches!(
        &unfit(&keys, "task")[..],
        [KeyFileError::Short { .. }, KeyFileError::Short { .. }]
    ));
}

#[test]
fn private_keys_that_others_may_read_are_refused() {
    for mode in [0o440, 0o404, 0o644, 0o600 | 0o010, 0o777] {
        let keys = sender();
        let path = keys.put("default", "send.priv", &PRIVATE);
        set_mode(&path, mode);
        let said = unfit(&keys, "task");
        assert!(matches!(&said[..], [KeyFileError::Exposed { mode: m, .. }] if *m == mode));
        assert!(said[0].to_string().contains("can be used by others"));
    }
    let keys = sender();
    let path = keys.put("default", "recv.pub", &public());
    set_mode(&path, 0o666);
    assert!(matches!(
        &unfit(&keys, "task")[..],
        [KeyFileError::Exchangeable { .. }]
    ));
}

#[test]
fn public_keys_that_protect_nothing_are_refused() {
    let mut one = [0; 32];
    one[0] = 1;
    for weak in [[0; 32], one] {
        let keys = sender();
        keys.put("default", "recv.pub", &weak);
        assert!(matches!(
            &unfit(&keys, "task")[..],
            [KeyFileError::Weak { .. }]
        ));
    }
}

#[test]
fn what_is_there_and_cannot_be_read_is_not_absent() {
    let keys = sender();
    let file = keys.path().join("default/send.priv");
    std::fs::remove_file(&file).expect("removed");
    std::fs::create_dir(&file).expect("made");
    assert!(matches!(
        &unfit(&keys, "task")[..],
        [KeyFileError::NotRegular { .. }]
    ));
    let keys = sender();
    let looped = keys.path().join("task");
    std::os::unix::fs::symlink(&looped, &looped).expect("a link to itself");
    assert_eq!(unfit(&keys, "task").len(), 2);
    // A pipe that nobody writes to must not be waited for.
    let keys = sender();
    let file = keys.path().join("default/recv.pub");
    std::fs::remove_file(&file).expect("removed");
    let made = std::process::Command::new("mkfifo").arg(&file).status();
    assert!(made.expect("mkfifo is there").success());
    assert!(matches!(
        &unfit(&keys, "task")[..],
        [KeyFileError::NotRegular { .. }]
    ));
}

#[test]
fn keys_of_tasks_that_lead_elsewhere_are_not_looked_for() {
    let keys = sender();
    for task in ["/x/../y", "../default", "a..b", ""] {
        let datagram = seal(&keys.directory(), task.as_bytes(), b"").expect("sealed");
        assert_eq!(datagram.len(), task.len() + 1 + 40, "with the default keys");
    }
    let inside = keys.path().join("inside");
    keys.put("", "send.priv", b"short");
    let within = grapevine::gateway::hbbp::KeyDirectory::new(inside);
    assert!(matches!(within.find(b"../", Side::Sender), Ok(None)));
}

#[test]
fn new_keys_fit_together() {
    let keys = Keys::empty();
    std::fs::create_dir(keys.path().join("default")).expect("made");
    generate(&keys.path().join("default")).expect("made");
    let datagram = seal(&keys.directory(), b"task", b"text").expect("sealed");
    let packet = Packet::parse(&datagram).expect("a packet");
    let opened = Opener::new(keys.directory()).open(&packet, std::time::Instant::now());
    assert_eq!(opened.expect("opened").payload, b"text");
}
