//! HBBP on a link: the programs as the originals, the node's gateway, interfaces that come and go.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use super::process::Process;
use super::*;

/// The interface on the switch.
pub(super) const LINK: &str = "lab0";
/// One that comes and goes.
const EXTRA: &str = "extra0";
/// Appends what comes to a file that is named after the handler.
const HANDLER: &str = "#!/bin/sh\n{ cat; echo; } >> \"$OUT/from-$(basename \"$0\")\"\n";

pub(super) fn program(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a directory")).expect("made");
    fs::write(path, text).expect("written");
    fs::set_permissions(path, Permissions::from_mode(0o755)).expect("executable");
}

/// A place where the program has the names of the originals.
pub(super) struct Programs<'m> {
    machine: &'m Machine,
    pub(super) directory: PathBuf,
    pub(super) keys: PathBuf,
}

impl<'m> Programs<'m> {
    pub(super) fn new(machine: &'m Machine, directory: &Path) -> Self {
        let directory = directory.join(format!("{}-programs", machine.name));
        fs::create_dir_all(&directory).expect("made");
        for name in ["hbbpc", "hbbpd", "hbbp_keygen"] {
            symlink(env!("CARGO_BIN_EXE_grapevine"), directory.join(name)).expect("a link");
        }
        let keys = directory.join("keys");
        Programs {
            machine,
            directory,
            keys,
        }
    }

    pub(super) fn run(&self, name: &str, arguments: &[&str], from: &Path) -> Output {
        self.machine.namespace.run(|| {
            Command::new(self.directory.join(name))
                .args(arguments)
                .env("HBBP_KEYDIR", &self.keys)
                .current_dir(from)
                .stdin(Stdio::null())
                .output()
                .expect("it runs")
        })
    }

    /// Sends a message, which fails as long as the interface has no address.
    fn send(&self, interface: &str, key: &str, message: &str) {
        let mut said = String::new();
        within(DEADLINE, "a message to be sent", || {
            let output = self.run("hbbpc", &[interface, key, message], &self.directory);
            said = String::from_utf8_lossy(&output.stderr).into_owned();
            output.status.success() && said.is_empty()
        });
    }

    /// An hbbpd in a process namespace of its own, which ends with this value: it would outlive
    /// everything else.
    fn daemon(&self, log: &Path) -> Process {
        let keys = self.keys.display().to_string();
        self.daemon_with_keys(log, &keys)
    }

    /// The same, told of its keys in other words.
    pub(super) fn daemon_with_keys(&self, log: &Path, keys: &str) -> Process {
        let daemon = self.directory.join("hbbpd");
        let line = format!(
            "{} {LINK} && echo listening >&2 && exec sleep 1000",
            daemon.display()
        );
        let mut command = Process::command("unshare");
        command
            .args(["--pid", "--fork", "--kill-child=KILL", "sh", "-c", &line])
            .current_dir(&self.directory)
            .env("HBBP_KEYDIR", keys)
            .env("HBBPD_TIMEOUT", "2")
            .env("OUT", &self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(log).expect("a log"));
        let process = Process::of(&self.machine.namespace, command);
        wait_for_line(log, "listening");
        process
    }

    fn copy_keys(&self, other: &Programs<'_>) {
        let (from, to) = (self.keys.join("default"), other.keys.join("default"));
        fs::create_dir_all(&to).expect("made");
        for file in fs::read_dir(from).expect("readable").flatten() {
            // The modes are copied, too.
            fs::copy(file.path(), to.join(file.file_name())).expect("copied");
        }
    }
}

fn wait_for_line(file: &Path, line: &str) {
    within(DEADLINE, &format!("{line:?} in {}", file.display()), || {
        fs::read_to_string(file).is_ok_and(|text| text.lines().any(|one| one == line))
    });
}

#[test]
fn a_client_and_a_daemon_are_as_the_originals() {
    let lab = Lab::new(["a", "b"]);
    let [a, b] = &lab.machines;
    let (a, b) = (
        Programs::new(a, lab.dir.path()),
        Programs::new(b, lab.dir.path()),
    );
    let log = lab.dir.path().join("hbbpd.log");
    for handler in ["task", "sub/inner", "umask", "-dash"] {
        program(&b.directory.join(handler), HANDLER);
    }
    program(&b.directory.join("hangs"), "#!/bin/sh\nexec sleep 1000\n");
    let _daemon = b.daemon(&log);
    let taken = b.run("hbbpd", &[LINK], &b.directory);
    assert_eq!(taken.status.code(), Some(1));
    let said = String::from_utf8_lossy(&taken.stderr).into_owned();
    assert_eq!(said, "listener: bind: Address already in use\n");

    a.send(LINK, "task", "in the clear");
    let output = |name: &str| b.directory.join(format!("from-{name}"));
    wait_for_line(&output("task"), "in the clear");
    a.send(LINK, "sub/inner", "below");
    wait_for_line(&output("inner"), "below");
    a.send(LINK, "-dash", "no option");
    wait_for_line(&output("-dash"), "no option");
    a.send(LINK, "hangs", "");
    a.send(LINK, "../b-programs/task", "led elsewhere");
    wait_for_line(&log, "handler killed after 2 seconds");
    wait_for_line(&log, "payload tried directory traversal");
    a.send(LINK, "nothing", "");
    wait_for_line(&log, "exec: No such file or directory");

    fs::create_dir_all(a.keys.join("default")).expect("made");
    let made = a.run("hbbp_keygen", &[], &a.keys.join("default"));
    assert!(made.status.success());
    a.copy_keys(&b);
    a.send(LINK, "task", "sealed");
    wait_for_line(&output("task"), "sealed");
    fs::remove_dir_all(&a.keys).expect("removed");
    a.send(LINK, "task", "not sealed");
    wait_for_line(&log, "unable to decrypt payload");
    let text = fs::read_to_string(output("task")).expect("readable");
    assert!(!text.contains("not sealed") && !text.contains("led elsewhere"));
}

fn tap(machine: &Machine, mac: u8) -> SyncDevice {
    let device = machine.namespace.run(|| {
        let builder = DeviceBuilder::new().name(EXTRA).layer(Layer::L2);
        builder.build_sync().expect("a TAP device: /dev/net/tun")
    });
    let address = format!("02:00:00:00:01:{mac:02x}");
    machine
        .namespace
        .ip(&[format!("link set {EXTRA} address {address} up")]);
    device
}

/// Packets that the node's gateway has taken.
fn taken(machine: &Machine) -> u64 {
    machine.metric("grapevine_hbbp_taken_total")
}

#[test]
fn a_node_runs_handlers_and_follows_interfaces() {
    let lab = Lab::new(["a", "b"]);
    let [a, b] = &lab.machines;
    let handlers = lab.dir.path().join("handlers");
    let here = lab.dir.path().display().to_string();
    program(&handlers.join("task"), &HANDLER.replace("$OUT", &here));
    program(&lab.dir.path().join("outside"), HANDLER);
    symlink("../outside", handlers.join("leaves")).expect("a link");
    b.start(
        &b.over_v4(),
        &[],
        &[
            &format!("hbbp.interfaces={LINK},{EXTRA}"),
            &format!("hbbp.handlers={}", handlers.display()),
            &format!("hbbp.key_dir={here}/keys"),
        ],
    );
    assert!(b.log().contains(&format!("there is no {EXTRA} yet")));
    let (from_a, from_b) = (
        Programs::new(a, lab.dir.path()),
        Programs::new(b, lab.dir.path()),
    );
    from_a.send(LINK, "task", "from the other machine");
    wait_for_line(&lab.dir.path().join("from-task"), "from the other machine");
    from_a.send(LINK, "leaves", "outside");
    from_a.send(LINK, "/bin/sh", "absolute");
    within(DEADLINE, "both to be left alone", || {
        b.metric("grapevine_hbbp_unwanted_total") == 1
            && b.metric("grapevine_hbbp_malformed_total") == 1
    });
    assert_eq!(taken(b), 1);

    // What a machine says on a link, its own listeners hear, too.
    for round in 1..=2u8 {
        let device = tap(b, round);
        let times = usize::from(round);
        let line = format!("listening on {EXTRA}");
        within(DEADLINE, &line, || b.log().matches(&line).count() == times);
        let before = taken(b);
        from_b.send(EXTRA, "task", "on an interface that came");
        within(DEADLINE, "it to be taken", || taken(b) == before + 1);
        b.namespace.ip(&[
            format!("link set {EXTRA} down"),
            format!("link set {EXTRA} up"),
        ]);
        from_b.send(EXTRA, "task", "after it was down");
        within(DEADLINE, "it to be taken", || taken(b) == before + 2);
        drop(device);
        let line = format!("{EXTRA} has gone");
        within(DEADLINE, &line, || b.log().matches(&line).count() == times);
    }
    from_a.send(LINK, "task", "to the end");
    wait_for_line(&lab.dir.path().join("from-task"), "to the end");
    assert_eq!(b.metric("grapevine_hbbp_handlers_failed_total"), 0);
    b.stop();
}

#[test]
fn a_port_that_is_taken_keeps_a_node_from_starting() {
    let lab = Lab::new(["a"]);
    let [a] = &lab.machines;
    let programs = Programs::new(a, lab.dir.path());
    let _daemon = programs.daemon(&lab.dir.path().join("hbbpd.log"));
    let setting = format!("hbbp.interfaces={LINK}");
    let said = a.fails_to_start(&a.over_v4(), &[&setting]);
    assert!(
        said.contains("hbbp.interfaces: cannot listen on lab0"),
        "{said}"
    );
}

#[test]
fn what_is_sent_by_one_command_is_printed_by_the_other() {
    let lab = Lab::new(["a", "b"]);
    let [a, b] = &lab.machines;
    let programs = Programs::new(a, lab.dir.path());
    let out = lab.dir.path().join("out");
    let mut command = Process::command(env!("CARGO_BIN_EXE_grapevine"));
    command
        .args(["hbbp", "listen"])
        .args(["--data-dir", &lab.dir.path().display().to_string()])
        .stdin(Stdio::null())
        .stdout(File::create(&out).expect("a file"))
        .stderr(File::create(lab.dir.path().join("errors")).expect("a file"));
    let _listener = Process::of(&b.namespace, command);
    // Nobody says when it listens, so the first is sent until it is heard.
    within(DEADLINE, "the first to be printed", || {
        programs.send(LINK, "first", "");
        fs::read_to_string(&out).is_ok_and(|text| text.contains(&format!("{LINK}\tfirst\t\n")))
    });
    programs.send(LINK, "task", "tab\tbytes\u{e9}");
    wait_for_line(&out, &format!("{LINK}\ttask\ttab\\tbytes\\xc3\\xa9"));
}
