//! Machines on one switch.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use tempfile::TempDir;

use super::machine::Machine;
use super::switch::{Line, Passing, Switch};

/// Lines of each log that are shown when a test fails.
const SHOWN_LINES: usize = 60;

/// Machines, the switch between them, and a group's secret. All of it ends with this value.
pub(crate) struct Lab<const N: usize> {
    pub(crate) machines: [Machine; N],
    pub(crate) switch: Switch,
    pub(crate) dir: TempDir,
}

impl<const N: usize> Lab<N> {
    /// Machines with these names and no running nodes, on good lines.
    pub(crate) fn new(names: [&'static str; N]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let secret = dir.path().join("secret");
        new_secret(&secret);
        let numbered = names.iter().enumerate();
        let (machines, devices): (Vec<_>, Vec<_>) = numbered
            .map(|(number, name)| Machine::new(name, number, dir.path(), &secret))
            .unzip();
        let Ok(machines) = <[Machine; N]>::try_from(machines) else {
            unreachable!("there is one for each name")
        };
        Lab {
            machines,
            switch: Switch::start(devices),
            dir,
        }
    }

    /// Changes all lines.
    pub(crate) fn everywhere(&self, change: impl Fn(&mut Line)) {
        for from in 0..N {
            for to in 0..N {
                self.switch.change(from, to, &change);
            }
        }
    }

    /// What passes from one machine to another.
    pub(crate) fn pass(&self, from: &Machine, to: &Machine, passing: Passing) {
        self.switch
            .change(from.number, to.number, |line| line.passing = passing);
    }

    /// Cuts a machine off, in both directions, or takes that back.
    pub(crate) fn isolate(&self, machine: &Machine, passing: Passing) {
        for other in &self.machines {
            self.pass(machine, other, passing);
            self.pass(other, machine, passing);
        }
    }

    /// Lets only those hear each other that are on one side.
    pub(crate) fn split(&self, one_side: &[&Machine]) {
        let on_it = |machine: &Machine| one_side.iter().any(|one| one.number == machine.number);
        for from in &self.machines {
            for to in &self.machines {
                let cut = on_it(from) != on_it(to);
                let passing = if cut {
                    Passing::Nothing
                } else {
                    Passing::Everything
                };
                self.pass(from, to, passing);
            }
        }
    }

    /// Good lines everywhere.
    pub(crate) fn heal(&self) {
        self.everywhere(|line| *line = Line::GOOD);
    }
}

/// Writes a fresh secret of a group.
pub(crate) fn new_secret(file: &std::path::Path) {
    let made = Command::new(env!("CARGO_BIN_EXE_grapevine"))
        .args(["group", "secret", "new", "--file"])
        .arg(file)
        .output()
        .expect("it runs");
    assert!(made.status.success(), "{made:?}");
    let mode = std::fs::metadata(file)
        .expect("a file")
        .permissions()
        .mode();
    assert_eq!(mode & 0o77, 0, "only its owner may read it");
}

impl<const N: usize> Drop for Lab<N> {
    fn drop(&mut self) {
        println!("the switch, in frames: {:?}", self.switch.counts());
        if std::thread::panicking() {
            for machine in &self.machines {
                let log = machine.log();
                let lines: Vec<&str> = log.lines().collect();
                let last = lines.len().saturating_sub(SHOWN_LINES);
                println!("--- {}\n{}", machine.name, lines[last..].join("\n"));
            }
        }
    }
}
