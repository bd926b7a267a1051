//! Nodes whose listeners have several addresses: `[::]` and `localhost`.

mod harness;

use std::fs::Permissions;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use harness::{Client, DEADLINE, Node, http, wait_for};

/// The loopback addresses of this machine.
fn loopback() -> Vec<IpAddr> {
    let six = IpAddr::from(Ipv6Addr::LOCALHOST);
    let six = UdpSocket::bind((six, 0)).ok().map(|_| six);
    std::iter::once(Ipv4Addr::LOCALHOST.into())
        .chain(six)
        .collect()
}

/// The setting with a new secret of a group.
fn group_secret(directory: &Path) -> String {
    let file = directory.join("secret");
    let made = grapevine()
        .args(["group", "secret", "new", "--file"])
        .arg(&file)
        .output();
    let made = made.expect("it runs");
    assert!(made.status.success(), "{made:?}");
    format!("group.secret_file={}", file.display())
}

/// The setting with a token for HTTP.
fn http_token(directory: &Path) -> String {
    let file = directory.join("token");
    std::fs::write(&file, "correct horse").expect("written");
    std::fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("its own");
    format!("http.token_file={}", file.display())
}

fn grapevine() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_grapevine"));
    command.stdin(Stdio::null());
    command
}

/// The node answers bloomd's clients over TCP and UDP, and HTTP's, at every loopback address.
fn serves_at_all(node: &Node) {
    let port = |key| node.address(key).port();
    for ip in loopback() {
        let mut client = Client::connect((ip, port("bloomd.tcp")).into());
        client.ask("create f capacity=20000");
        let name = format!("over-{ip}");
        let any: IpAddr = if ip.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let datagrams = UdpSocket::bind((any, 0)).expect("a port");
        let to = SocketAddr::from((ip, port("bloomd.udp")));
        let line = format!("s f {name}\n");
        let sent = datagrams.send_to(line.as_bytes(), to);
        sent.expect("it is sent");
        wait_for("a key that was sent as a datagram", || {
            (client.ask(&format!("c f {name}")) == "Yes\n").then_some(())
        });
        let (status, _) = http((ip, port("http.listen")).into(), "GET /livez", "");
        assert_eq!(status, 200, "{ip}");
    }
}

/// The group's port answers over TCP and over QUIC at every loopback address.
fn group_answers_at_all(node: &Node) {
    let port = node.address("group.listen").port();
    for ip in loopback() {
        let hello = b"\x13/multistream/1.0.0\n";
        let mut client = Client::connect((ip, port).into());
        client.send(hello);
        assert_eq!(client.line().as_bytes(), hello, "TCP at {ip}");
        // Whoever speaks QUIC names the versions that it knows to one that wants another.
        let socket = UdpSocket::bind((ip, 0)).expect("a port");
        socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        let mut initial = [0; 1200];
        initial[..6].copy_from_slice(&[0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8]);
        socket.send_to(&initial, (ip, port)).expect("it is sent");
        let mut answer = [0; 1500];
        let (_, from) = socket.recv_from(&mut answer).expect("an answer");
        assert_eq!((from.ip(), &answer[1..5]), (ip, &[0; 4][..]), "QUIC");
    }
}

/// Whether this machine has an address of a family that others can call.
fn is_reachable(documentation: &str) -> bool {
    let to: SocketAddr = documentation.parse().expect("an address");
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Nothing is sent by that.
    let socket = UdpSocket::bind((any, 0)).ok();
    let connected = socket.filter(|socket| socket.connect(to).is_ok());
    let ip = connected.and_then(|socket| socket.local_addr().ok());
    ip.is_some_and(|address| !address.ip().is_loopback() && !is_link_local(address.ip()))
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// Members are to call a node at addresses of both families, if this machine has them.
fn advertises_both_families(data_dir: &Path) {
    let said = grapevine()
        .args(["group", "status", "--json", "--data-dir"])
        .arg(data_dir)
        .env("GRAPEVINE_TOKEN_FILE", data_dir.with_file_name("token"))
        .output();
    let said = said.expect("it runs");
    assert!(said.status.success(), "{said:?}");
    let said: serde_json::Value = serde_json::from_slice(&said.stdout).expect("JSON");
    let addresses = said["members"][0]["addresses"].as_array().expect("a list");
    let addresses: Vec<SocketAddr> = addresses
        .iter()
        .map(|address| address.as_str().expect("text").parse().expect("one"))
        .collect();
    let four = is_reachable("203.0.113.1:9");
    let six = is_reachable("[2001:db8::1]:9") || is_reachable("[fd00::1]:9");
    let says = |family: fn(&SocketAddr) -> bool| addresses.iter().any(family);
    let alone = addresses.iter().all(|address| address.ip().is_loopback());
    let (loopback_four, loopback_six) = (alone, alone && loopback().len() == 2);
    assert!(
        says(SocketAddr::is_ipv4) || !(four || loopback_four),
        "{addresses:?}"
    );
    assert!(
        says(SocketAddr::is_ipv6) || !(six || loopback_six),
        "{addresses:?}"
    );
    assert!(!alone || !(four || six), "{addresses:?}");
}

/// A node joins at every loopback address of the group's port.
fn is_joined_at_all(node: &Node, directory: &Path, settings: &[&str]) {
    for (index, ip) in loopback().into_iter().enumerate() {
        let address = SocketAddr::from((ip, node.address("group.listen").port()));
        let join = format!("group.join={address}");
        let mut settings = settings.to_vec();
        settings.push(&join);
        let other = Node::start(&directory.join(index.to_string()), &settings);
        let mut client = other.bloomd();
        wait_for("the group's filter to be there", || {
            (client.ask("c f x") == "No\n").then_some(())
        });
        assert!(other.stop().success());
    }
}

#[test]
fn on_every_address_all_listeners_serve_both_families() {
    let directory = tempfile::tempdir().expect("a directory");
    let secret_file = group_secret(directory.path());
    let token_file = http_token(directory.path());
    let settings = [
        secret_file.as_str(),
        &token_file,
        "bloomd.open=true",
        "bloomd.tcp=[::]:0",
        "bloomd.udp=[::]:0",
        "http.listen=[::]:0",
        "group.listen=[::]:0",
    ];
    let node = Node::start(&directory.path().join("node"), &settings);
    serves_at_all(&node);
    group_answers_at_all(&node);
    advertises_both_families(node.data_dir());
    is_joined_at_all(&node, directory.path(), &[&secret_file]);
    assert!(node.stop().success());
}

#[test]
fn localhost_is_both_loopback_addresses() {
    let directory = tempfile::tempdir().expect("a directory");
    let data_dir = directory.path().join("node");
    let settings = [
        "bloomd.tcp=localhost:0",
        "bloomd.udp=localhost:0",
        "http.listen=localhost:0",
        "group.listen=localhost:0",
    ];
    let node = Node::start(&data_dir, &settings);
    serves_at_all(&node);
    group_answers_at_all(&node);
    is_joined_at_all(&node, directory.path(), &[]);
    // Programs find one address for each listener, and commands find the node by it.
    assert!(node.address("http.listen").ip().is_loopback());
    let listed = grapevine()
        .args(["filter", "list", "--data-dir"])
        .arg(&data_dir)
        .output()
        .expect("it runs");
    assert!(listed.status.success(), "{listed:?}");
    assert!(node.stop().success());
}

#[test]
fn a_configured_port_that_is_taken_at_one_address_is_an_error() {
    for ip in loopback() {
        let (tcp, udp) = wait_for("a port that is free at every address", || {
            let tcp = TcpListener::bind((ip, 0)).ok()?;
            let port = tcp.local_addr().ok()?.port();
            let udp = UdpSocket::bind((ip, port)).ok()?;
            let mut others = loopback().into_iter().filter(|other| *other != ip);
            let free = |other| TcpListener::bind((other, port)).is_ok();
            others.all(free).then_some((tcp, udp))
        });
        let port = tcp.local_addr().expect("an address").port();
        for listener in [
            "bloomd.tcp",
            "bloomd.udp",
            "http.listen",
            "group.listen",
            "rmbd.udp",
        ] {
            let directory = tempfile::tempdir().expect("a directory");
            let setting = format!("{listener}=localhost:{port}");
            let mut node = Node::spawn(directory.path(), &[&setting]);
            assert_eq!(node.wait().code(), Some(1), "{setting}");
            let errors = node.errors();
            let address = SocketAddr::from((ip, port)).to_string();
            assert!(errors.contains(listener), "{errors}");
            assert!(errors.contains(&address), "{errors}");
        }
        drop((tcp, udp));
    }
}
