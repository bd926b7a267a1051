//! Where the program does something else than the original, on purpose: the cases of the data
//! whose table, output or exit code is another one. What it says on standard error and leaves behind
//! differs in more. `docs/protocols/p2ptbl.md` says why.

/// A case and what it comes to here.
pub(crate) struct Difference {
    pub(crate) case: &'static str,
    pub(crate) code: i64,
    pub(crate) output: &'static str,
    /// The table, with placeholders as the data has them.
    pub(crate) table: &'static str,
    /// The first placeholder stands for a version up to 32768 above this one; without it, for what
    /// the data says.
    pub(crate) above: Option<i64>,
}

const fn kept(case: &'static str, table: &'static str) -> Difference {
    Difference {
        case,
        code: 0,
        output: "",
        table,
        above: None,
    }
}

const fn refused(case: &'static str, table: &'static str) -> Difference {
    Difference {
        code: 1,
        ..kept(case, table)
    }
}

const fn found(case: &'static str, output: &'static str, table: &'static str) -> Difference {
    Difference {
        output,
        ..kept(case, table)
    }
}

const fn raised(case: &'static str, above: i64, table: &'static str) -> Difference {
    Difference {
        above: Some(above),
        ..kept(case, table)
    }
}

const NAMES: &str = "g.b\t9322\taJ\ngvb\t7\thEU\ngQQb\t3\tntvS\n";
const SIX_ROWS: &str = "k00sizNy\t957782557294\tv0\tV3ZEr\nk01tH\t125935235482\tv1\tBAa\n\
                        k02o\t265469828187\tv2\t4\nk03a76f\t774240234778\tv3\tH64\n\
                        k04L\t16871237300\tv4\txKwc\nk05XO\t241690553607\tv5\tj\n";

pub(crate) const DIFFERENCES: &[Difference] = &[
    // Backslashes mean nothing.
    kept("merge one backslash vanishes", "y3N\t1\t8gs9\\tja\n"),
    kept("merge two become an escape", "y3N\t1\t8gs9\\\\tja\n"),
    kept("merge four become one", "y3N\t1\t8gs9\\\\\\\\tja\n"),
    kept(
        "merge at line end joins the next row",
        "y3N\t1\t8gs9\\\ny3Nz\t1\tja\n",
    ),
    kept("merge in key", "y3N\\q\t1\t8gs9\n"),
    kept(
        "merge newline escape makes two lines",
        "y3N\t1\t8gs9\\\\nja\n",
    ),
    kept("merge hex escape", "y3N\t1\t\\\\x41\n"),
    kept("merge \\c cuts", "y3N\t1\t8gs9\\\\cja\n~y3N\t2\tja\n"),
    kept("update escape \\t becomes a tab", "Mim\t{V0}\ta\\tb\n"),
    kept("update two backslashes vanish", "Mim\t{V0}\ta\\\\tb\n"),
    kept("update four make a tab", "Mim\t{V0}\ta\\\\\\\\tb\n"),
    kept("update \\c cuts", "Mim\t{V0}\ta\\cb\n"),
    kept(
        "update trailing backslash fails, leaves files",
        "Mim\t{V0}\ta\\\n",
    ),
    kept(
        "update escape \\n makes a second row",
        "Mim\t{V0}\ta\\nj\\t5\\tb\n",
    ),
    // A line end would make a second row.
    refused("update newline makes a second row", ""),
    // What is no number is less than every number.
    kept("merge empty version column", "y3N\t5\t8gs9\n"),
    kept(
        "merge word sorts before digits: poisons the key",
        "y3N\t5\t8gs9\n",
    ),
    kept("merge hex", "y3N\t5\tja\n"),
    kept("merge 2^64 sorts first and poisons", "y3N\t5\t8gs9\n"),
    // Said, instead of done in vain.
    refused(
        "update cannot beat 2^63 - 1 (wraps)",
        "Mim\t9223372036854775807\tx\n",
    ),
    // Versions are decimal.
    raised("update octal old version", 10, "Mim\t{V0}\t30J\n"),
    raised("update 08 is an error", 8, "Mim\t{V0}\t30J\n"),
    // One row a key.
    raised("update duplicate rows fails", 6, "Mim\t{V0}\t30J\n"),
    kept(
        "filter rows printed twice are doubled",
        "k00sizNy\t{V0}\tv0\tV3ZEr\nk01tH\t{V1}\tv1\tBAa\n",
    ),
    // Without a program's answer there is nothing to filter by.
    refused("filter no program empties the table", SIX_ROWS),
    refused("filter missing program empties the table", SIX_ROWS),
    refused("filter failing program empties the table", SIX_ROWS),
    // A key is a text, not a pattern and not an operator.
    found("get dot matches any", "aJ\n", NAMES),
    found("get star", "", NAMES),
    found("get set", "", NAMES),
    found("get escaped dot", "", NAMES),
    found("get lone bracket", "x\n", "[\t1\tx\n"),
    raised(
        "update regex takes another key's version",
        0,
        "a.c\t{V0}\t30J\nabc\t700000\tz\n",
    ),
    raised(
        "update regex with two matches fails",
        9,
        "a.c\t{V0}\t30J\nabc\t7\ty\n",
    ),
    raised(
        "update key = is taken for an operator: usage",
        0,
        "=\t{V0}\t30J\na\t1\tx\n",
    ),
    raised(
        "update key < is taken for an operator: usage",
        0,
        "<\t{V0}\t30J\na\t1\tx\n",
    ),
    // Rows are kept as they are written.
    kept("merge NUL byte", "y3N\t1\t8gs9\0ja\n"),
    kept("merge key with space torn apart", "y3N 8gs9\t1\tja\n"),
    kept("merge leading space of key lost", " y3N\t1\t8gs9\n"),
    kept("update key with space torn", "Mim n\t{V0}\t30J\n"),
    kept("merge leading empty column lost", "y3N\t1\t\t8gs9\tja\n"),
    kept("merge trailing empty columns lost", "y3N\t1\t8gs9\t\t\n"),
    kept("merge spaces around value lost", "y3N\t1\t  8gs9  \n"),
    kept("update spaces trimmed", "Mim\t{V0}\t  a  \n"),
    kept("update blank value", "Mim\t{V0}\t \n"),
    kept("update leading tab lost", "Mim\t{V0}\t\ta\n"),
];
