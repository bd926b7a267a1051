//! The program's configuration commands, run as a user runs them.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

type Done = Result<(), Box<dyn std::error::Error>>;

/// The program with an empty environment and `home` as its home directory.
fn grapevine(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_grapevine"));
    command.env_clear().env("HOME", home).current_dir(home);
    command
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn show_says_where_each_value_came_from() -> Done {
    let home = tempfile::tempdir()?;
    let file = home.path().join("here.toml");
    fs::write(&file, "[limits]\nline = \"2MiB\"\n")?;
    let shown = grapevine(home.path())
        .env("GRAPEVINE_BLOOMD__UDP", "off")
        .args([
            "--set",
            "filters.growth=2",
            "config",
            "show",
            "--origin",
            "--config",
        ])
        .arg(&file)
        .args(["--set", "filters.capacity=7", "--data-dir", "d"])
        .output()?;
    assert_eq!(shown.status.code(), Some(0), "{}", err(&shown));
    let text = out(&shown);
    for line in [
        format!("line = \"2MiB\"  # {}:2", file.display()),
        "udp = \"off\"  # environment GRAPEVINE_BLOOMD__UDP".to_owned(),
        "growth = 2  # --set".to_owned(),
        "capacity = 7  # --set".to_owned(),
        format!(
            "data_dir = \"{}\"  # --data-dir",
            home.path().canonicalize()?.join("d").display()
        ),
        "tcp = \"127.0.0.1:8673\"  # default".to_owned(),
    ] {
        assert!(
            text.lines().any(|shown| shown == line),
            "{line} is not in:\n{text}"
        );
    }
    let json = grapevine(home.path())
        .args(["config", "show", "--json"])
        .output()?;
    let json: serde_json::Value = serde_json::from_slice(&json.stdout)?;
    assert_eq!(json["http"]["listen"], "127.0.0.1:8675");
    let data_dir = home.path().join(".local/share/grapevine");
    assert_eq!(json["node"]["data_dir"].as_str(), data_dir.to_str());
    Ok(())
}

#[test]
fn show_never_prints_a_secret() -> Done {
    let home = tempfile::tempdir()?;
    fs::write(home.path().join("token"), "hunter2\n")?;
    for form in [&["--origin"][..], &["--json", "--origin"]] {
        let shown = grapevine(home.path())
            .args(["config", "show", "--set", "http.token_file=token"])
            .args(form)
            .output()?;
        assert!(out(&shown).contains("token_file"), "{}", err(&shown));
        assert!(!out(&shown).contains("hunter2") && !err(&shown).contains("hunter2"));
    }
    Ok(())
}

#[test]
fn wrong_configuration_is_refused_with_every_mistake() -> Done {
    let home = tempfile::tempdir()?;
    let shown = grapevine(home.path())
        .args([
            "config",
            "show",
            "--set",
            "limits.lime=1",
            "--set",
            "http.listen=0.0.0.0:80",
        ])
        .output()?;
    // What was typed is wrong usage.
    assert_eq!((shown.status.code(), out(&shown).as_str()), (Some(2), ""));
    assert_eq!(
        err(&shown),
        "grapevine: --set: unknown key `limits.lime`; the nearest is `limits.line`\n\
         grapevine: --set: `http.listen` = \"0.0.0.0:80\" can be reached from other machines: \
         set http.token_file, or listen on 127.0.0.1\n"
    );
    let ambient = grapevine(home.path())
        .env("GRAPEVINE_LIMITS__LIME", "1")
        .args(["config", "show"])
        .output()?;
    assert_eq!(ambient.status.code(), Some(1));
    Ok(())
}

/// Commands of each kind: a node, one that talks to a node, one that works on files.
const COMMANDS: [&[&str]; 4] = [
    &["serve"],
    &["filter", "list"],
    &["verify"],
    &["group", "members"],
];

#[test]
fn a_misspelt_variable_is_refused_by_every_command() -> Done {
    let home = tempfile::tempdir()?;
    for command in COMMANDS {
        for (wrong, nearest) in [
            ("GRAPEVINE_BLOOMD_TCP", "GRAPEVINE_BLOOMD__TCP"),
            ("GRAPEVINE_LOG", "GRAPEVINE_NODE__LOG"),
            ("GRAPEVINE_NODE__NOME", "GRAPEVINE_NODE__NAME"),
        ] {
            let refused = grapevine(home.path())
                .env(wrong, "127.0.0.1:1")
                .env("GRAPEVINE_NODE", "127.0.0.1:1")
                .args(command)
                .output()?;
            assert_eq!(refused.status.code(), Some(1), "{command:?} {wrong}");
            let said = err(&refused);
            assert!(
                said.contains(wrong) && said.contains(&format!("nearest is `{nearest}`")),
                "{command:?}: {said}"
            );
        }
    }
    Ok(())
}

#[test]
fn what_was_typed_is_checked_by_every_command() -> Done {
    let home = tempfile::tempdir()?;
    for command in COMMANDS {
        let run = |options: &[&str]| grapevine(home.path()).args(options).args(command).output();
        let misspelt = run(&["--set", "bloomd.tpc=off"])?;
        assert_eq!(misspelt.status.code(), Some(2), "{command:?}");
        assert!(
            err(&misspelt).contains("nearest is `bloomd.tcp`"),
            "{}",
            err(&misspelt)
        );
        let absent = run(&["--config", "absent.toml"])?;
        assert_eq!(absent.status.code(), Some(1), "{command:?}");
        assert!(
            err(&absent).contains("absent.toml: cannot be read"),
            "{}",
            err(&absent)
        );
    }
    assert!(!home.path().join(".local").exists(), "nothing was made");
    Ok(())
}

#[test]
fn check_judges_a_file_alone() -> Done {
    let home = tempfile::tempdir()?;
    let check = |text: &str| {
        fs::write(home.path().join("f.toml"), text)?;
        grapevine(home.path())
            .env("GRAPEVINE_NODE__NONSENSE", "1")
            .args(["config", "check", "f.toml"])
            .output()
    };
    let good = check("[node]\nname = \"a\"\n")?;
    assert_eq!(
        (good.status.code(), out(&good).as_str()),
        (Some(0), "f.toml: ok\n")
    );
    let bad = check("[node]\nnome = \"a\"\n[bloomd]\ntcp = \"10.0.0.1:8673\"\n")?;
    assert_eq!(bad.status.code(), Some(1));
    assert_eq!(
        out(&bad),
        "f.toml:2: unknown key `node.nome`; the nearest is `node.name`\n\
         f.toml:4: `bloomd.tcp` = \"10.0.0.1:8673\" can be reached from other machines: set \
         bloomd.open = true (its protocol knows no authentication), or listen on 127.0.0.1\n"
    );
    Ok(())
}

#[test]
fn check_reads_standard_input() -> Done {
    let home = tempfile::tempdir()?;
    let mut child = grapevine(home.path())
        .args(["config", "check", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = child
        .stdin
        .take()
        .ok_or_else(|| io::Error::other("no stdin"))?;
    input.write_all(b"[limits]\nline = 1\n")?;
    drop(input);
    let checked = child.wait_with_output()?;
    assert_eq!(checked.status.code(), Some(1));
    assert!(
        out(&checked).starts_with("-:2: `limits.line` cannot be 1: "),
        "{}",
        out(&checked)
    );
    Ok(())
}

#[test]
fn exit_codes_tell_usage_from_help() -> Done {
    let home = tempfile::tempdir()?;
    let run = |args: &[&str]| grapevine(home.path()).args(args).output();
    let help = run(&["--help"])?;
    assert_eq!((help.status.code(), err(&help).as_str()), (Some(0), ""));
    assert!(out(&help).contains("--data-dir"));
    assert_eq!(run(&["--version"])?.status.code(), Some(0));
    for wrong in [
        &[][..],
        &["confg"],
        &["config"],
        &["config", "check"],
        &["config", "show", "x"],
    ] {
        let refused = run(wrong)?;
        assert_eq!(
            (refused.status.code(), out(&refused).as_str()),
            (Some(2), ""),
            "{wrong:?}"
        );
    }
    Ok(())
}

#[test]
fn a_reader_that_goes_away_is_no_failure() -> Done {
    let home = tempfile::tempdir()?;
    for args in [
        &["config", "show"][..],
        &["generate", "complete-bash"],
        &["--help"],
    ] {
        let (reader, writer) = io::pipe()?;
        drop(reader);
        let ended = grapevine(home.path())
            .args(args)
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()?;
        assert_eq!(
            (ended.status.code(), err(&ended).as_str()),
            (Some(0), ""),
            "{args:?}"
        );
    }
    Ok(())
}
