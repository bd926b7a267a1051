//! Telling histories of one origin apart that have the same numbers.
//!
//! The operations of an origin are numbered, and a data directory that is set back to an older
//! copy, or that runs twice, gives a number to two of them. So each run of a directory draws a
//! random mark and writes it as an operation before its first other one. A mark stands for
//! everything before it: whoever has it at that number has the same operations up to there, and
//! those after it, up to the next mark, are all of that run. Of two copies with `a` and `b`
//! operations of an origin, `a` not more than `b`, one has a part of the other's history exactly
//! if their last marks up to `a` are the same.

use serde::{Deserialize, Serialize};

/// Most marks kept of one origin, the newest. With a copy that is behind by more runs than that
/// nothing can be compared.
pub const MARKS_MAX: usize = 256;

/// The marks in the operations of one origin that a copy has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Number of the operation and the mark, ascending.
    marks: Vec<(u64, u64)>,
    /// There were others before the first.
    cut: bool,
}

impl History {
    /// From marks as [`marks`](Self::marks) gives them and whether there were others before them;
    /// none if they do not ascend, are none, or too many.
    pub fn from_marks(marks: Vec<(u64, u64)>, cut: bool) -> Option<Self> {
        let ascend = marks.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let sound = marks
            .iter()
            .all(|(sequence, mark)| *sequence > 0 && *mark != 0);
        (ascend && sound && marks.len() <= MARKS_MAX).then_some(History { marks, cut })
    }

    /// Of a copy that knows no mark, although there are some.
    pub fn unknown() -> Self {
        History {
            marks: Vec::new(),
            cut: true,
        }
    }

    /// The marks with the numbers of their operations.
    pub fn marks(&self) -> &[(u64, u64)] {
        &self.marks
    }

    /// Whether there were others before the first.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// The next mark: that of operation `sequence`.
    pub fn mark(&mut self, sequence: u64, mark: u64) {
        if mark == 0 || self.marks.last().is_some_and(|last| last.0 >= sequence) {
            return;
        }
        self.marks.push((sequence, mark));
        self.keep_newest();
    }

    /// The last mark among the first `count` operations; 0 if that is not known, or there is none.
    pub fn at(&self, count: u64) -> u64 {
        let before = self
            .marks
            .partition_point(|(sequence, _)| *sequence <= count);
        match before.checked_sub(1) {
            Some(last) => self.marks[last].1,
            None => 0,
        }
    }

    /// Forgets what was marked after the first `count` operations.
    pub fn cut_back(&mut self, count: u64) {
        self.marks.retain(|(sequence, _)| *sequence <= count);
    }

    /// A copy with the first `have` operations takes over another's state with `version` of them.
    pub fn adopt(&mut self, have: u64, other: &History, version: u64) {
        if version <= have {
            return;
        }
        self.cut_back(have);
        if other.cut && other.marks.first().is_none_or(|first| first.0 > have) {
            // What lies between is not known, so what came before it is of no use.
            self.marks.clear();
            self.cut = true;
        }
        let news = other.marks.iter();
        self.marks
            .extend(news.filter(|(sequence, _)| (have + 1..=version).contains(sequence)));
        self.keep_newest();
    }

    fn keep_newest(&mut self) {
        if let Some(more) = self.marks.len().checked_sub(MARKS_MAX)
            && more > 0
        {
            self.marks.drain(..more);
            self.cut = true;
        }
    }

    /// Whether two copies, of which one has the first `have` operations and the other `they_have`,
    /// have different ones among those: how many the two have in common. That may be less than
    /// there are where marks are not known any more.
    pub fn part(&self, have: u64, other: &History, they_have: u64) -> Option<u64> {
        let both = have.min(they_have);
        let (ours, theirs) = (self.at(both), other.at(both));
        if ours == 0 || theirs == 0 || ours == theirs {
            return None;
        }
        let reach = |history: &History| match history.marks.first() {
            Some((sequence, _)) if history.cut => *sequence,
            _ => 0,
        };
        let reach = reach(self).max(reach(other));
        let known = |history: &History| -> Vec<(u64, u64)> {
            let marks = history.marks.iter().copied();
            marks
                .filter(|(sequence, _)| (reach..=both).contains(sequence))
                .collect()
        };
        let (ours, theirs) = (known(self), known(other));
        let same = ours.iter().zip(&theirs).take_while(|(a, b)| a == b).count();
        if same == 0 && reach > 0 {
            return Some(0);
        }
        let next = [ours.get(same), theirs.get(same)].into_iter().flatten();
        next.map(|(sequence, _)| sequence - 1).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A directory: its operations, each another number, and what it knows of their marks.
    #[derive(Clone, Debug, Default)]
    struct Directory {
        operations: Vec<u64>,
        history: History,
        marked: bool,
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// A directory makes operations.
        Write(usize, u8),
        /// It is started again.
        Restart(usize),
        /// It becomes what another was before its last operations, and is started.
        SetBack(usize, usize, u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        let at = 0..3usize;
        prop_oneof![
            (at.clone(), 1..6u8).prop_map(|(at, count)| Step::Write(at, count)),
            at.clone().prop_map(Step::Restart),
            (at.clone(), at, 0..8u8).prop_map(|(at, of, by)| Step::SetBack(at, of, by)),
        ]
    }

    impl Directory {
        fn write(&mut self, drawn: &mut u64, count: u8) {
            for _ in 0..count {
                *drawn += 1;
                self.operations.push(*drawn);
                if !std::mem::replace(&mut self.marked, true) {
                    let sequence = self.operations.len() as u64;
                    self.history.mark(sequence, *drawn);
                }
            }
        }

        fn count(&self) -> u64 {
            self.operations.len() as u64
        }
    }

    fn run(steps: Vec<Step>) -> Vec<Directory> {
        let mut drawn = 0;
        let mut directories = vec![Directory::default(); 3];
        for step in steps {
            match step {
                Step::Write(at, count) => directories[at].write(&mut drawn, count),
                Step::Restart(at) => directories[at].marked = false,
                Step::SetBack(at, of, by) => {
                    let mut copy = directories[of].clone();
                    let left = copy.operations.len().saturating_sub(usize::from(by));
                    copy.operations.truncate(left);
                    copy.history.cut_back(left as u64);
                    copy.marked = false;
                    directories[at] = copy;
                }
            }
        }
        directories
    }

    proptest! {
        #[test]
        fn histories_part_where_their_operations_do(steps in prop::collection::vec(step(), 0..40)) {
            for a in run(steps.clone()) {
                for b in run(steps.clone()) {
                    let pairs = a.operations.iter().zip(&b.operations);
                    let common = pairs.take_while(|(a, b)| a == b).count() as u64;
                    let expected = (common < a.count().min(b.count())).then_some(common);
                    let found = a.history.part(a.count(), &b.history, b.count());
                    prop_assert_eq!(found, expected, "{:?} {:?}", a, b);
                }
            }
        }

        /// One copy takes over the other's state, or only knows the newest marks.
        #[test]
        fn what_was_taken_over_or_forgotten_makes_no_fork(
            steps in prop::collection::vec(step(), 0..40),
            (left, kept) in (0..30usize, 1..4usize),
        ) {
            for a in run(steps) {
                let have = left.min(a.operations.len()) as u64;
                let mut behind = a.history.clone();
                behind.cut_back(have);
                let mut newest = a.history.clone();
                newest.cut = newest.marks.len() > kept;
                newest.marks.drain(..newest.marks.len().saturating_sub(kept));
                prop_assert_eq!(a.history.part(a.count(), &behind, have), None);
                prop_assert_eq!(newest.part(a.count(), &behind, have), None);
                behind.adopt(have, &newest, a.count());
                prop_assert_eq!(behind.at(a.count()), a.history.at(a.count()));
                prop_assert_eq!(behind.part(a.count(), &a.history, a.count()), None);
            }
        }

        /// With marks forgotten a fork is found as long as the numbers at which they are compared
        /// are known, and not too much is taken for common.
        #[test]
        fn no_more_is_taken_for_common_than_is(
            steps in prop::collection::vec(step(), 0..40),
            kept in 1..4usize,
        ) {
            let directories = run(steps);
            for a in &directories {
                for b in &directories {
                    let pairs = a.operations.iter().zip(&b.operations);
                    let common = pairs.take_while(|(a, b)| a == b).count() as u64;
                    let mut newest = a.history.clone();
                    newest.cut = newest.marks.len() > kept;
                    newest.marks.drain(..newest.marks.len().saturating_sub(kept));
                    let both = a.count().min(b.count());
                    match newest.part(a.count(), &b.history, b.count()) {
                        Some(found) => prop_assert!(found <= common && common < both),
                        None => prop_assert!(common == both || newest.at(both) == 0),
                    }
                }
            }
        }
    }

    #[test]
    fn the_newest_marks_are_kept() {
        let mut history = History::default();
        for number in 1..=MARKS_MAX as u64 + 5 {
            history.mark(number * 10, number);
        }
        assert_eq!(history.marks().len(), MARKS_MAX);
        assert!(history.is_cut());
        assert_eq!((history.at(59), history.at(60), history.at(69)), (0, 6, 6));
    }
}
