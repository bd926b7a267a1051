//! The decision table of `create`: what each server makes of a line, and what we do.

use super::super::{ClientError, Command, CreateOptions, is_filter_name, parse};
use super::{Outcome, check_table};

const BAD: Outcome = Err(ClientError::BadArguments);
const BAD_NAME: Outcome = Err(ClientError::BadFilterName);
const BAD_CAPACITY: Outcome = Err(ClientError::BadInitialCapacity);
const BAD_PROBABILITY: Outcome = Err(ClientError::BadFalsePositiveProbability);

/// `create x …` with these options.
const fn made(capacity: Option<u64>, probability: Option<f64>, in_memory: Option<bool>) -> Outcome {
    Ok(Command::Create {
        filter: b"x",
        options: CreateOptions {
            capacity,
            probability,
            in_memory,
        },
    })
}

const fn plain() -> Outcome {
    made(None, None, None)
}

const fn capacity(value: u64) -> Outcome {
    made(Some(value), None, None)
}

const fn probability(value: f64) -> Outcome {
    made(None, Some(value), None)
}

const fn in_memory(value: bool) -> Outcome {
    made(None, None, Some(value))
}

#[test]
fn names() {
    check_table(&[
        ("create\n", Err(ClientError::FilterNeeded)),
        ("create\r\n", Err(ClientError::FilterNeeded)),
        ("create \n", BAD_NAME),
        ("create  x\n", BAD_NAME),
        ("create a\tb\n", BAD_NAME),
        ("create a\rb\n", BAD_NAME),
        ("create x\r\r\n", BAD_NAME),
        // The name is judged before the options.
        ("create a\tb junk\n", BAD_NAME),
        ("create x\n", plain()),
        ("create x\r\n", plain()),
    ]);
    for name in [
        "a",
        "über",
        "foo:bar/../baz",
        "\x01",
        "_.-",
        "in_memory",
        "a\0b",
    ] {
        assert!(is_filter_name(name.as_bytes()), "{name:?}");
        let line = format!("create {name}");
        let options = CreateOptions::default();
        assert_eq!(
            parse(line.as_bytes()),
            Ok(Command::Create {
                filter: name.as_bytes(),
                options
            }),
            "{line:?}"
        );
    }
    for (length, accepted) in [
        (0, false),
        (1, true),
        (200, true),
        (201, false),
        (300, false),
    ] {
        let name = vec![b'n'; length];
        assert_eq!(is_filter_name(&name), accepted, "{length} bytes");
        let line = [b"create ", name.as_slice()].concat();
        assert_eq!(parse(&line).is_ok(), accepted, "{length} bytes");
    }
}

#[test]
fn assigned_capacity() {
    check_table(&[
        ("create x capacity=10001\n", capacity(10_001)),
        ("create x capacity=10000\n", BAD),
        ("create x capacity=5\n", BAD),
        ("create x capacity=0\n", BAD),
        ("create x capacity=-5\n", BAD),
        ("create x capacity=-20000\n", BAD),
        ("create x capacity=-18446744073709541615\n", BAD),
        ("create x capacity=1e6\n", BAD),
        ("create x capacity=0x5000\n", BAD),
        ("create x capacity=1,000,000\n", BAD),
        ("create x capacity=20000xyz\n", capacity(20_000)),
        ("create x capacity=0020000\n", capacity(20_000)),
        ("create x capacity=+20000\n", capacity(20_000)),
        ("create x capacity=\t20000\n", capacity(20_000)),
        ("create x capacity=\x0b20000\n", capacity(20_000)),
        (
            "create x capacity=9223372036854775807\n",
            capacity(9_223_372_036_854_775_807),
        ),
        ("create x capacity=9223372036854775808\n", BAD),
        ("create x capacity=99999999999999999999999\n", BAD),
        ("create x capacity=junk\n", BAD),
        ("create x capacity=+\n", BAD),
        ("create x capacity=-\n", BAD),
        ("create x capacity==20000\n", BAD),
        ("create x Capacity=20000\n", BAD),
        ("create x capacityx=20000\n", BAD),
        ("create x \tcapacity=20000\n", BAD),
    ]);
}

#[test]
fn assigned_probability() {
    check_table(&[
        ("create x prob=0.001\n", probability(0.001)),
        ("create x prob=0.0999\n", probability(0.0999)),
        ("create x prob=0.1\n", BAD),
        ("create x prob=0\n", BAD),
        ("create x prob=0e5\n", BAD),
        ("create x prob=-1\n", BAD),
        ("create x prob=-.5\n", BAD),
        ("create x prob=1\n", BAD),
        ("create x prob=1.\n", BAD),
        ("create x prob=.01\n", probability(0.01)),
        ("create x prob=+.05\n", probability(0.05)),
        ("create x prob=1e-7\n", probability(1e-7)),
        ("create x prob=1E-7\n", probability(1e-7)),
        ("create x prob=1e-2x\n", probability(0.01)),
        ("create x prob=0.01abc\n", probability(0.01)),
        ("create x prob=0.01.5\n", probability(0.01)),
        ("create x prob=0.05e-1e5\n", probability(0.005)),
        ("create x prob=\t0.01\n", probability(0.01)),
        ("create x prob=0.05e\n", probability(0.05)),
        ("create x prob=0.05e-\n", probability(0.05)),
        ("create x prob=0,05\n", BAD),
        ("create x prob=1e\n", BAD),
        ("create x prob=1e-400\n", BAD),
        ("create x prob=1e-15\n", probability(1e-15)),
        ("create x prob=9e-16\n", BAD),
        ("create x prob=1e999\n", BAD),
        ("create x prob=.\n", BAD),
        ("create x prob=+\n", BAD),
        ("create x prob=e5\n", BAD),
        ("create x prob=.e5\n", BAD),
        ("create x prob=inf\n", BAD),
        // The C server takes these two: a filter without a meaning, and a hexadecimal number.
        ("create x prob=nan\n", BAD),
        ("create x prob=0x1p-5\n", BAD),
        ("create x prob=0x1p-5 prob=0.01\n", BAD),
        ("create x prob=0x prob=0.01\n", BAD),
    ]);
}

#[test]
fn assigned_in_memory() {
    check_table(&[
        ("create x in_memory=0\n", in_memory(false)),
        ("create x in_memory=1\n", in_memory(true)),
        ("create x in_memory=01\n", in_memory(true)),
        ("create x in_memory=+1\n", in_memory(true)),
        ("create x in_memory=-0\n", in_memory(false)),
        ("create x in_memory=1x\n", in_memory(true)),
        ("create x in_memory=2\n", BAD),
        ("create x in_memory=-1\n", BAD),
        ("create x in_memory=x\n", BAD),
        ("create x in_memory=yes\n", BAD),
        // Wraps to 1 in C.
        ("create x in_memory=4294967297\n", BAD),
    ]);
}

#[test]
fn several_assignments() {
    check_table(&[
        (
            "create x capacity=20000 prob=0.01 in_memory=1\n",
            made(Some(20_000), Some(0.01), Some(true)),
        ),
        (
            "create x   in_memory=0  prob=0.01   capacity=20000  \n",
            made(Some(20_000), Some(0.01), Some(false)),
        ),
        // The last one counts, and only that one is judged.
        ("create x capacity=30000 capacity=20000\n", capacity(20_000)),
        ("create x capacity=5 capacity=20000\n", capacity(20_000)),
        ("create x capacity=20000 capacity=5\n", BAD),
        ("create x prob=1 prob=0.01\n", probability(0.01)),
        ("create x in_memory=2 in_memory=0\n", in_memory(false)),
        // One error line, where the C server sent two.
        ("create b1 capacity=5 junk\n", BAD),
        ("create x junk\n", BAD),
        ("create x foo=1\n", BAD),
        ("create x capacity=20000 junk\n", BAD),
        ("create x capacity=20000\tprob=5\n", capacity(20_000)),
    ]);
}

#[test]
fn a_prefix_of_an_option_changes_nothing() {
    for word in ["capacity=", "prob=", "in_memory="] {
        for length in 0..=word.len() {
            let prefix = &word[..length];
            if prefix == "in_memory" {
                continue;
            }
            let line = format!("create x {prefix}");
            let expected = CreateOptions::default();
            assert_eq!(
                parse(line.as_bytes()),
                Ok(Command::Create {
                    filter: b"x",
                    options: expected
                }),
                "{line:?}"
            );
        }
    }
    check_table(&[
        ("create x \n", plain()),
        ("create x  \n", plain()),
        ("create x c p i\n", plain()),
        ("create x capacity=\t\n", plain()),
        ("create x capacity=20000 capacity=\n", capacity(20_000)),
        ("create x capacity=20000 cap\n", capacity(20_000)),
        ("create x prob=0.01 prob=\n", probability(0.01)),
        ("create x in_memory=1 in_memory=\n", in_memory(true)),
    ]);
}

#[test]
fn python_words() {
    check_table(&[
        (
            "create foobar\n",
            Ok(Command::Create {
                filter: b"foobar",
                options: CreateOptions {
                    capacity: None,
                    probability: None,
                    in_memory: None,
                },
            }),
        ),
        ("create x in_memory\n", in_memory(true)),
        ("create x in_memory\r\n", in_memory(true)),
        ("create x in_memory \n", in_memory(true)),
        ("create x on_disk\n", in_memory(false)),
        ("create x in_memory on_disk\n", in_memory(false)),
        (
            "create x in_memory capacity=20000\n",
            made(Some(20_000), None, Some(true)),
        ),
        (
            "create x capacity=20000 in_memory\n",
            made(Some(20_000), None, Some(true)),
        ),
        ("create x in_memory=0 in_memory\n", in_memory(true)),
        ("create x in_memory in_memory=0\n", in_memory(false)),
        ("create x in_memory=2 in_memory\n", in_memory(true)),
        // `on_disk` is no word of C's form.
        ("create x on_disk capacity=20000\n", BAD),
        ("create x capacity=20000 on_disk\n", BAD),
        ("create x c on_disk\n", BAD),
        ("create x on_dis\n", BAD),
        ("create x IN_MEMORY\n", BAD),
    ]);
}

#[test]
fn python_positions() {
    check_table(&[
        ("create x 100000\n", capacity(100_000)),
        ("create x 1000\n", capacity(1_000)),
        ("create x +1000\n", capacity(1_000)),
        (
            "create x 100000 0.01\n",
            made(Some(100_000), Some(0.01), None),
        ),
        (
            "create x  100000   0.01 \n",
            made(Some(100_000), Some(0.01), None),
        ),
        (
            "create x 100000 1e-4\n",
            made(Some(100_000), Some(1e-4), None),
        ),
        (
            "create x 100000 0.5\n",
            made(Some(100_000), Some(0.5), None),
        ),
        ("create x 100000 .5\n", made(Some(100_000), Some(0.5), None)),
        (
            "create x 100000 0.01 in_memory\n",
            made(Some(100_000), Some(0.01), Some(true)),
        ),
        (
            "create x 100000 in_memory 0.01\n",
            made(Some(100_000), Some(0.01), Some(true)),
        ),
        (
            "create x in_memory 100000 0.01\n",
            made(Some(100_000), Some(0.01), Some(true)),
        ),
        (
            "create x on_disk 100000\n",
            made(Some(100_000), None, Some(false)),
        ),
        ("create x 999\n", BAD_CAPACITY),
        ("create x 0\n", BAD_CAPACITY),
        ("create x -5\n", BAD_CAPACITY),
        ("create x 1e6\n", BAD_CAPACITY),
        ("create x 0.01\n", BAD_CAPACITY),
        ("create x .5\n", BAD_CAPACITY),
        ("create x 20000xyz\n", BAD_CAPACITY),
        ("create x 9223372036854775808\n", BAD_CAPACITY),
        ("create x 5 7\n", BAD_CAPACITY),
        ("create x 100000 0\n", BAD_PROBABILITY),
        ("create x 100000 1\n", BAD_PROBABILITY),
        ("create x 100000 -0.1\n", BAD_PROBABILITY),
        ("create x 100000 junk\n", BAD_PROBABILITY),
        ("create x 100000 nan\n", BAD_PROBABILITY),
        ("create x 100000 inf\n", BAD_PROBABILITY),
        ("create x 100000 0.01x\n", BAD_PROBABILITY),
        ("create x 100000 c\n", BAD_PROBABILITY),
    ]);
}

#[test]
fn mixtures_belong_to_neither_server() {
    check_table(&[
        ("create x 100000 0.01 junk\n", BAD),
        ("create x 100000 0.01 5\n", BAD),
        ("create x 100000 prob=0.01\n", BAD),
        ("create x prob=0.01 100000\n", BAD),
        ("create x capacity=20000 0.01\n", BAD),
        ("create x junk 100000\n", BAD),
        ("create x c 100000\n", BAD),
        ("create x -\n", BAD),
        ("create x .\n", BAD),
    ]);
}
