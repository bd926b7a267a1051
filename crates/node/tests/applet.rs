//! The program called as `bloomd`.

mod harness;

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use harness::{Client, wait_for};

/// A bloomd on free ports with what a C bloomd left in its data directory.
fn start(directory: &Path) -> (Child, Client) {
    start_with(
        directory,
        "initial_capacity = 50000\ndefault_probability = 0.001\n",
    )
}

/// The same with these lines in its file.
fn start_with(directory: &Path, lines: &str) -> (Child, Client) {
    let (mut bloomd, tcp) = prepare(directory, lines);
    let child = bloomd.spawn().expect("it starts");
    wait_for("it to listen", || {
        directory.join("data/listeners.json").exists().then_some(())
    });
    (child, Client::connect(([127, 0, 0, 1], tcp).into()))
}

/// What starts it, and the port where it will listen.
fn prepare(directory: &Path, lines: &str) -> (Command, u16) {
    let bloomd = directory.join("bloomd");
    symlink(env!("CARGO_BIN_EXE_grapevine"), &bloomd).expect("a link");
    let data = directory.join("data");
    let free = |udp: bool| {
        if udp {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
            socket.local_addr().expect("an address").port()
        } else {
            let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
            socket.local_addr().expect("an address").port()
        }
    };
    let (tcp, udp) = (free(false), free(true));
    let file = directory.join("bloomd.conf");
    let text = format!(
        "[bloomd]\ntcp_port = {tcp}\nudp_port = {udp}\ndata_dir = {}\nlog_level = INFO\n\
         {lines}",
        data.display()
    );
    std::fs::write(&file, text).expect("written");
    let mut command = Command::new(bloomd);
    command
        .arg("--file")
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    (command, tcp)
}

fn stop(mut child: Child) {
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it takes signals");
    let status = wait_for("it to end", || {
        child.try_wait().expect("it can be waited for")
    });
    assert!(status.success());
}

fn copy_vectors(to: &Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../store/tests/vectors/bloomd-data");
    for filter in std::fs::read_dir(from).expect("the vectors").flatten() {
        let folder = to.join(filter.file_name());
        std::fs::create_dir_all(&folder).expect("a folder");
        for file in std::fs::read_dir(filter.path())
            .expect("a filter")
            .flatten()
        {
            std::fs::copy(file.path(), folder.join(file.file_name())).expect("copied");
        }
    }
}

#[test]
fn called_as_bloomd_it_serves_what_a_c_bloomd_left() {
    let directory = tempfile::tempdir().expect("a directory");
    copy_vectors(&directory.path().join("data"));
    let (child, mut client) = start(directory.path());
    let list = client.ask("list");
    assert_eq!(list, "START\n");
    let names: Vec<String> = (0..3)
        .map(|_| {
            client
                .line()
                .split(' ')
                .next()
                .unwrap_or_default()
                .to_owned()
        })
        .collect();
    assert_eq!(names, ["grown", "small", "strict"]);
    assert_eq!(client.line(), "END\n");
    assert_eq!(
        client.ask("m small key-0 key-8999 absent-key-515 absent-key-1"),
        "Yes Yes Yes No\n"
    );
    assert_eq!(
        client.ask("c grown https://example.org/item/69999"),
        "Yes\n"
    );
    assert_eq!(client.ask("s small something-new"), "Yes\n");
    assert_eq!(client.ask("create fresh"), "Done\n");
    client.send(b"conf fresh\n");
    let conf: Vec<String> = std::iter::from_fn(|| Some(client.line()))
        .take_while(|line| line != "END\n")
        .collect();
    assert!(
        conf.contains(&"initial_capacity 50000\n".to_owned()),
        "{conf:?}"
    );
    assert!(
        conf.contains(&"default_probability 0.001\n".to_owned()),
        "{conf:?}"
    );
    stop(child);
    let again = tempfile::tempdir().expect("a directory");
    std::fs::rename(directory.path().join("data"), again.path().join("data")).expect("moved");
    let (child, mut client) = start(again.path());
    assert_eq!(
        client.ask("m small key-0 something-new absent-key-1"),
        "Yes Yes No\n"
    );
    stop(child);
}

#[test]
fn a_file_that_starts_a_c_bloomd_starts_this_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let lines = "in_memory = True\ndefault_probability = 0\n";
    let (child, mut client) = start_with(directory.path(), lines);
    client.send(b"conf\n");
    let conf: Vec<String> = std::iter::from_fn(|| Some(client.line()))
        .take_while(|line| line != "END\n")
        .collect();
    for expected in ["in_memory 0\n", "default_probability 0.0001\n"] {
        assert!(conf.contains(&expected.to_owned()), "{conf:?}");
    }
    stop(child);
}

#[test]
fn filters_of_the_python_server_are_not_served_as_empty() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    copy_vectors(&data);
    for filter in ["bloomd.clicks", "bloomd.users"] {
        let folder = data.join(filter);
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("config"), "(dp1\nS'size'\np2\nI0\ns.").expect("written");
        std::fs::write(folder.join("data.000.mmap"), [0; 600]).expect("written");
    }
    let before = entries(&data);
    let (mut bloomd, _) = prepare(directory.path(), "");
    for _ in 0..2 {
        let refused = bloomd.stderr(Stdio::piped()).output().expect("it runs");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{said}");
        for part in [
            "the Python bloomd wrote bloomd.clicks and 1 more",
            "data_dir",
        ] {
            assert!(said.contains(part), "{said}");
        }
        assert_eq!(entries(&data), before, "nothing was changed");
    }
    for filter in ["bloomd.clicks", "bloomd.users"] {
        std::fs::rename(data.join(filter), directory.path().join(filter)).expect("moved away");
    }
    std::fs::remove_file(directory.path().join("bloomd")).expect("the link");
    let (child, mut client) = start(directory.path());
    assert_eq!(client.ask("c small key-0"), "Yes\n");
    stop(child);
}

fn entries(directory: &Path) -> Vec<std::ffi::OsString> {
    let entries = std::fs::read_dir(directory).expect("a directory").flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
    names.sort_unstable();
    names
}

#[test]
fn it_says_how_it_is_called() {
    let run = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_grapevine"))
            .args(["applet", "bloomd"])
            .args(arguments)
            .output()
            .expect("it runs")
    };
    let help = run(&["-h"]);
    assert!(help.status.success());
    assert!(String::from_utf8_lossy(&help.stdout).starts_with("usage: bloomd"));
    let wrong = run(&["-x"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("unknown argument -x"));
    let missing = run(&["-f", "/nonexistent.conf"]);
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/nonexistent.conf"));
}

#[test]
fn a_file_that_cannot_be_used_is_named_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("bloomd.conf");
    std::fs::write(&file, "[bloomd]\nworkers = 0\n").expect("written");
    for file in [file.clone(), directory.path().join("absent.conf")] {
        let ended = Command::new(env!("CARGO_BIN_EXE_grapevine"))
            .args(["applet", "bloomd", "-f"])
            .arg(&file)
            .output()
            .expect("it runs");
        assert_eq!(ended.status.code(), Some(1));
        let said = String::from_utf8_lossy(&ended.stderr);
        let name = file.file_name().expect("a name").to_string_lossy();
        assert_eq!(said.matches(&*name).count(), 1, "{said}");
    }
}
