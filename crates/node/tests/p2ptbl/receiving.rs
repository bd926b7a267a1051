//! `p2ptbl-recv`, called as a HBBP listener calls it: through a link with the table's name.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use grapevine::gzip::pack;
use grapevine_core::plain_table::merge;

use crate::reader::{bytes, vectors};
use crate::workbench::{Workbench, errors, feed};

fn receive(bench: &Workbench, name: &str, payload: &[u8]) -> Output {
    let links = bench.tables().parent().expect("a folder").join("p2ptbl");
    std::fs::create_dir_all(&links).expect("a folder");
    let link = links.join(name);
    if !link.is_symlink() {
        // As people write it, and as a listener's folder has it.
        symlink("../bin/p2ptbl-recv", &link).expect("a link");
    }
    feed(&link, bench.tables().as_os_str(), payload)
}

#[test]
fn packets_are_received_as_by_the_original() {
    let text = include_str!("../../../core/tests/vectors/p2ptbl_gossip.json");
    let cases = vectors(text, "recv");
    assert_eq!(cases.len(), 32);
    for case in cases {
        let bench = Workbench::new();
        let name = case["table_name"].as_str().expect("a name");
        if case["before"].is_string() {
            bench.write(name, bytes(&case["before"]));
        }
        let ended = receive(&bench, name, &bytes(&case["payload"]));
        let expected = &case["expect"];
        let code = ended.status.code().map(i64::from);
        assert_eq!(
            code,
            expected["rc"].as_i64(),
            "{}: {}",
            case["name"],
            errors(&ended)
        );
        // Nothing is left beside the table, whatever the original leaves.
        let wanted = [(name.to_owned(), bytes(&expected["table"]))].into();
        assert_eq!(bench.files(), wanted, "{}", case["name"]);
        assert!(ended.stdout.is_empty());
    }
}

#[test]
fn the_name_it_is_called_by_is_the_tables() {
    let bench = Workbench::new();
    let packet = pack(b"k\t5\tv\n").expect("in memory");
    // Also when another program has that name.
    for name in [
        "bloomd",
        "p2ptbl",
        "p2ptbl-recv",
        "a b",
        "...",
        "a..b",
        ".hidden",
    ] {
        let ended = receive(&bench, name, &packet);
        assert!(ended.status.success(), "{name}: {}", errors(&ended));
        assert_eq!(bench.read(name), b"k\t5\tv\n", "{name}");
    }
    // Through several links, and under a name that is no file's.
    let (links, far) = (
        bench.tables().join("links"),
        bench.tables().join("links/far"),
    );
    std::fs::create_dir(links).expect("a folder");
    symlink("../../p2ptbl/bloomd", &far).expect("a link");
    let ended = feed(&far, bench.tables().as_os_str(), &packet);
    assert!(ended.status.success(), "{}", errors(&ended));
    assert_eq!(bench.read("far"), b"k\t5\tv\n");
    let mut otherwise = Command::new(bench.program("p2ptbl-recv"));
    otherwise
        .arg0("otherwise")
        .env("P2PTBL_DIR", bench.tables())
        .stdin(Stdio::null());
    let ended = otherwise.output().expect("it runs");
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        errors(&ended).contains("no whole gzip text"),
        "{}",
        errors(&ended)
    );
    assert_eq!(bench.read("otherwise"), b"");
}

#[test]
fn no_name_leads_out_of_the_directory() {
    let bench = Workbench::new();
    let packet = pack(b"k\t5\tv\n").expect("in memory");
    let before = bench.files();
    for name in ["", ".", "..", "../out", "/tmp", "a/b", "a/"] {
        let packet_file = bench.tables().parent().expect("a folder").join("packet");
        std::fs::write(&packet_file, &packet).expect("written");
        let ended = Command::new(env!("CARGO_BIN_EXE_grapevine"))
            .args(["applet", "p2ptbl-recv", name])
            .env("P2PTBL_DIR", bench.tables())
            .stdin(std::fs::File::open(packet_file).expect("readable"))
            .output()
            .expect("it runs");
        assert_eq!(ended.status.code(), Some(1), "{name:?}");
        assert!(
            errors(&ended).contains("is no name for a table"),
            "{}",
            errors(&ended)
        );
        assert_eq!(bench.files(), before);
    }
    let out = bench.tables().parent().expect("a folder").join("out");
    assert!(!out.exists());
}

#[test]
fn a_packet_that_unpacks_to_too_much_changes_nothing() {
    let bench = Workbench::new();
    bench.write("t", "a\t5\tx\n");
    let bomb: Vec<u8> = b"k\t5\t"
        .iter()
        .copied()
        .chain(std::iter::repeat_n(b'0', 1 << 20))
        .collect();
    let packet = pack(&bomb).expect("in memory");
    assert!(packet.len() <= 1232, "it fits a datagram: {}", packet.len());
    let ended = receive(&bench, "t", &packet);
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        errors(&ended).contains("unpacks to more than 1048576 bytes"),
        "{}",
        errors(&ended)
    );
    let ended = receive(&bench, "t", &vec![0x1f; (1 << 20) + 1]);
    assert!(
        errors(&ended).contains("more than 1048576 bytes"),
        "{}",
        errors(&ended)
    );
    assert_eq!(
        bench.files(),
        [("t".to_owned(), b"a\t5\tx\n".to_vec())].into()
    );
}

#[test]
fn a_new_table_is_nobody_elses_to_write() {
    let bench = Workbench::new();
    let tables = bench.tables().join("new/tables");
    let packet = pack(b"k\t5\tv\n").expect("in memory");
    let shell = Command::new("sh")
        .args(["-c", "umask 0; exec \"$0\" <\"$1\""])
        .arg(bench.program("p2ptbl-recv"))
        .arg(bench.write("packet", packet))
        .env("P2PTBL_DIR", &tables)
        .status();
    assert!(shell.expect("it runs").success());
    let mode = |path: &Path| path.metadata().expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&tables.join("p2ptbl-recv")), 0o644);
    assert_eq!(mode(&tables), 0o755);
}

#[test]
fn packets_that_arrive_at_once_all_arrive() {
    let bench = Workbench::new();
    let rows: Vec<Vec<u8>> = (0..20)
        .map(|n| format!("key-{n:02}\t{n}\tv\n").into_bytes())
        .collect();
    std::thread::scope(|scope| {
        for row in &rows {
            let bench = &bench;
            scope.spawn(move || {
                let packet = pack(row).expect("in memory");
                let program = bench.program("p2ptbl-recv");
                let ended = feed(&program, bench.tables().as_os_str(), &packet);
                assert!(ended.status.success(), "{}", errors(&ended));
            });
        }
    });
    let all = rows.concat();
    assert_eq!(Ok(bench.read("p2ptbl-recv")), merge(&[&all]));
    assert_eq!(bench.files().len(), 1);
}
