//! Every case of the data taken from the original. Those about well-formed tables come out as they
//! did; so do the others, but for those that are listed in `differences.rs`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::differences::DIFFERENCES;
use crate::reader::{bytes, vectors};
use crate::workbench::{Workbench, errors};

/// Files that the original leaves behind.
const LEFT_BEHIND: [&str; 3] = ["t~", "t.update", "t.ver"];

/// What a case comes to.
#[derive(Debug, PartialEq)]
struct Result {
    code: Option<i64>,
    output: Vec<u8>,
    files: BTreeMap<String, Vec<u8>>,
}

fn cases() -> Vec<Value> {
    let text = include_str!("../../../core/tests/vectors/p2ptbl.json");
    let cases = vectors(text, "cases");
    assert_eq!(cases.len(), 208);
    cases
}

/// Runs a case. Also gives the kind of what is said on standard error, in the words of the data.
fn run(case: &Value) -> (Result, &'static str) {
    let bench = Workbench::new();
    for (name, text) in case["files"].as_object().expect("files") {
        bench.write(name, bytes(text));
    }
    let arguments = case["argv"].as_array().expect("arguments");
    let arguments: Vec<&str> = arguments.iter().filter_map(Value::as_str).collect();
    let ended = bench.run(&arguments);
    let said = errors(&ended);
    let kind = match said.as_str() {
        "" => "none",
        text if text.starts_with("Usage:") => "usage",
        text if text.contains(" is no P2P table\nUsage:") => "not-a-table",
        _ => "other",
    };
    let result = Result {
        code: ended.status.code().map(i64::from),
        output: ended.stdout,
        files: bench.files(),
    };
    (result, kind)
}

fn expected(case: &Value) -> Result {
    let expected = &case["expect"];
    let files = expected["files"].as_object().expect("files");
    let files = files
        .iter()
        .filter(|(name, _)| !LEFT_BEHIND.contains(&name.as_str()));
    Result {
        code: expected["rc"].as_i64(),
        output: bytes(&expected["stdout"]),
        files: files
            .map(|(name, text)| (name.clone(), bytes(text)))
            .collect(),
    }
}

/// From the placeholder of a random version to the least and the largest it stands for.
type Ranges = BTreeMap<String, [i64; 2]>;

fn ranges(case: &Value) -> Ranges {
    let ranges = case["vars"].as_object().into_iter().flatten();
    let bounds = |range: &Value| [0, 1].map(|index| range[index].as_i64().expect("a number"));
    ranges
        .map(|(name, range)| (name.clone(), bounds(range)))
        .collect()
}

/// Puts the placeholder of a random version where a file has a version in its range.
fn without_random_versions(ranges: &Ranges, wanted: &Result, result: &mut Result) {
    let in_range = |column: &str, wanted: &str| {
        let version = column.trim_end().parse::<i64>();
        let range = ranges.get(wanted.trim_end());
        range.is_some_and(|[least, most]| {
            version.is_ok_and(|version| (*least..=*most).contains(&version))
        })
    };
    for (name, file) in &mut result.files {
        let Some(pattern) = wanted.files.get(name).filter(|_| !ranges.is_empty()) else {
            continue;
        };
        let text = String::from_utf8_lossy(file);
        let pattern = String::from_utf8_lossy(pattern);
        let wanted = pattern
            .split_inclusive(['\t', '\n'])
            .chain(std::iter::repeat(""));
        let columns = text.split_inclusive(['\t', '\n']).zip(wanted);
        let replaced = columns.map(|(column, wanted)| {
            if in_range(column, wanted) {
                wanted
            } else {
                column
            }
        });
        *file = replaced.collect::<String>().into_bytes();
    }
}

#[test]
fn well_formed_tables_are_treated_as_by_the_original() {
    let mut compared = 0;
    for case in cases().iter().filter(|case| case["quirk"].is_null()) {
        let (mut result, kind) = run(case);
        let wanted = expected(case);
        without_random_versions(&ranges(case), &wanted, &mut result);
        assert_eq!(result, wanted, "{}", case["name"]);
        assert_eq!(
            Some(kind),
            case["expect"]["stderr"].as_str(),
            "{}",
            case["name"]
        );
        compared += 1;
    }
    assert_eq!(compared, 144);
}

#[test]
fn other_tables_too_but_where_that_would_be_wrong() {
    let mut met = BTreeSet::new();
    for case in cases().iter().filter(|case| !case["quirk"].is_null()) {
        let name = case["name"].as_str().expect("a name");
        let (mut result, _) = run(case);
        let (mut wanted, mut ranges) = (expected(case), ranges(case));
        if let Some(here) = DIFFERENCES
            .iter()
            .find(|difference| difference.case == name)
        {
            let original = (expected(case), ranges.clone());
            wanted.code = Some(here.code);
            wanted.output = here.output.into();
            wanted.files.insert("t".to_owned(), here.table.into());
            if let Some(above) = here.above {
                ranges.insert("{V0}".to_owned(), [above + 1, above + 32768]);
            }
            let here = (wanted, ranges);
            assert_ne!(here, original, "{name} is no difference");
            (wanted, ranges) = here;
            met.insert(name.to_owned());
        }
        without_random_versions(&ranges, &wanted, &mut result);
        assert_eq!(result, wanted, "{name}");
    }
    assert_eq!(met.len(), DIFFERENCES.len());
}
