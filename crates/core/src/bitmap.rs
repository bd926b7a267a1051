//! A bitmap: rows of 400 bits that are only ever set. Merging is the union, so copies that have
//! seen the same bits, in whatever order and however often, are equal.
//!
//! This is the state of an rmbd node, where a row is what one message carries. Bits are relaxed
//! atomics: readers and writers take no lock, and nothing else hangs on the order of two bits.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bits of one row.
pub const ROW_BITS: usize = 400;
/// Most rows: every bit is named by 16 bits.
pub const ROWS_MAX: u16 = 163;
/// Bits of the largest bitmap.
pub const BITMAP_BITS_MAX: u16 = ROWS_MAX * ROW_BITS as u16;

const WORD_BITS: usize = 64;
/// Bytes of one row, of which none is shared with another.
const ROW_BYTES: usize = ROW_BITS / 8;

/// One row: a truth value for each of its bits.
pub type Row = [bool; ROW_BITS];

/// What a bitmap cannot do. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BitmapError {
    /// A bitmap has at least one row.
    #[error("a bitmap of {rows} rows; it has 1 to {ROWS_MAX}")]
    Rows {
        /// Rows asked for.
        rows: u16,
    },
    /// There is no such row.
    #[error("row {row} of a bitmap of {rows} rows")]
    NoRow {
        /// The row, counted from 0.
        row: u16,
        /// Rows there are.
        rows: u16,
    },
    /// There is no such bit.
    #[error("bit {bit} of a bitmap of {bits} bits")]
    NoBit {
        /// The bit, counted from 0.
        bit: u16,
        /// Bits there are.
        bits: u16,
    },
    /// There are more bytes than its rows have.
    #[error("{bytes} bytes are no bitmap of {rows} rows, which has {} at most", usize::from(*.rows) * ROW_BYTES)]
    TooLong {
        /// Bytes there are.
        bytes: usize,
        /// Rows it is to have.
        rows: u16,
    },
    /// Bitmaps of different sizes have no union.
    #[error("a bitmap of {theirs} rows does not merge into one of {ours}")]
    Unlike {
        /// Rows of this one.
        ours: u16,
        /// Rows of the other.
        theirs: u16,
    },
}

/// `rows` × [`ROW_BITS`] bits. Bit `b` is bit `b mod 400` of row `b / 400`.
pub struct Bitmap {
    rows: u16,
    words: Box<[AtomicU64]>,
}

impl Bitmap {
    /// A bitmap without a bit set.
    ///
    /// # Errors
    /// When `rows` is not 1 to [`ROWS_MAX`].
    pub fn new(rows: u16) -> Result<Self, BitmapError> {
        if !(1..=ROWS_MAX).contains(&rows) {
            return Err(BitmapError::Rows { rows });
        }
        let words = (usize::from(rows) * ROW_BITS).div_ceil(WORD_BITS);
        Ok(Bitmap {
            rows,
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
        })
    }

    /// The bitmap of `rows` rows that [`to_bytes`](Self::to_bytes) gave these bytes for. Bytes
    /// that are missing at the end are zero.
    ///
    /// # Errors
    /// When `rows` is not 1 to [`ROWS_MAX`], or there are more bytes than so many rows have.
    pub fn from_bytes(rows: u16, bytes: &[u8]) -> Result<Self, BitmapError> {
        let bitmap = Bitmap::new(rows)?;
        if bytes.len() > usize::from(rows) * ROW_BYTES {
            let bytes = bytes.len();
            return Err(BitmapError::TooLong { bytes, rows });
        }
        for (word, bytes) in bitmap.words.iter().zip(bytes.chunks(WORD_BITS / 8)) {
            let mut whole = [0; WORD_BITS / 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_le_bytes(whole), Relaxed);
        }
        Ok(bitmap)
    }

    /// Its bits as bytes: bit `b` is bit `b mod 8` of byte `b / 8`. Zeros at the end are left out.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let words = self.words.iter();
        let mut bytes: Vec<u8> = words
            .flat_map(|word| word.load(Relaxed).to_le_bytes())
            .collect();
        let last = bytes.iter().rposition(|byte| *byte != 0);
        bytes.truncate(last.map_or(0, |last| last + 1));
        bytes
    }

    /// Its first `rows` rows, to look at.
    ///
    /// # Errors
    /// When it does not have so many, or `rows` is 0.
    pub fn first_rows(&self, rows: u16) -> Result<FirstRows<'_>, BitmapError> {
        let last = rows.checked_sub(1).ok_or(BitmapError::Rows { rows })?;
        self.first_bit(last)?;
        Ok(FirstRows { bitmap: self, rows })
    }

    /// All of its rows, to look at.
    #[must_use]
    pub fn whole(&self) -> FirstRows<'_> {
        FirstRows {
            bitmap: self,
            rows: self.rows,
        }
    }

    /// The number of rows.
    #[must_use]
    pub fn rows(&self) -> u16 {
        self.rows
    }

    /// The number of bits, set or not.
    #[must_use]
    pub fn bits(&self) -> u16 {
        self.rows * ROW_BITS as u16
    }

    /// Whether a bit is set; one that does not exist is not.
    #[inline]
    #[must_use]
    pub fn contains(&self, bit: u16) -> bool {
        let bit = usize::from(bit);
        // Of the last word only the bits that exist are ever set.
        self.words
            .get(bit / WORD_BITS)
            .is_some_and(|word| word.load(Relaxed) >> (bit % WORD_BITS) & 1 == 1)
    }

    /// Sets a bit and says whether it was not set before. Of two callers at once one is told so.
    ///
    /// # Errors
    /// When there is no such bit.
    pub fn set(&self, bit: u16) -> Result<bool, BitmapError> {
        if bit >= self.bits() {
            return Err(BitmapError::NoBit {
                bit,
                bits: self.bits(),
            });
        }
        let mask = 1 << (usize::from(bit) % WORD_BITS);
        let before = self.words[usize::from(bit) / WORD_BITS].fetch_or(mask, Relaxed);
        Ok(before & mask == 0)
    }

    /// The bits of a row.
    ///
    /// # Errors
    /// When there is no such row.
    pub fn row(&self, row: u16) -> Result<Row, BitmapError> {
        let first = self.first_bit(row)?;
        Ok(std::array::from_fn(|column| {
            self.contains(first + column as u16)
        }))
    }

    /// Sets the bits that are set in `bits`; gives how many were not set before.
    ///
    /// # Errors
    /// When there is no such row.
    pub fn merge_row(&self, row: u16, bits: &Row) -> Result<usize, BitmapError> {
        let first = self.first_bit(row)?;
        let mut new = 0;
        for column in (0..ROW_BITS).filter(|column| bits[*column]) {
            new += usize::from(self.set(first + column as u16)?);
        }
        Ok(new)
    }

    /// Sets the bits that are set in `other`; gives how many were not set before.
    ///
    /// # Errors
    /// When `other` has another number of rows.
    pub fn merge(&self, other: &Bitmap) -> Result<usize, BitmapError> {
        if self.rows != other.rows {
            return Err(BitmapError::Unlike {
                ours: self.rows,
                theirs: other.rows,
            });
        }
        let mut new = 0;
        for (ours, theirs) in self.words.iter().zip(&other.words) {
            let theirs = theirs.load(Relaxed);
            new += (theirs & !ours.fetch_or(theirs, Relaxed)).count_ones() as usize;
        }
        Ok(new)
    }

    /// The bits that are set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u16> {
        self.words.iter().enumerate().flat_map(|(index, word)| {
            let mut rest = word.load(Relaxed);
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
                rest &= rest - 1;
                Some((index * WORD_BITS + bit) as u16)
            })
        })
    }

    /// How many bits are set.
    #[must_use]
    pub fn count(&self) -> usize {
        let words = self.words.iter();
        words
            .map(|word| word.load(Relaxed).count_ones() as usize)
            .sum()
    }

    fn first_bit(&self, row: u16) -> Result<u16, BitmapError> {
        if row >= self.rows {
            return Err(BitmapError::NoRow {
                row,
                rows: self.rows,
            });
        }
        Ok(row * ROW_BITS as u16)
    }
}

/// The first rows of a bitmap, to look at: what a node shows of one that may have more, because
/// others show more of theirs. Keys hash over the bits of these rows.
#[derive(Clone, Copy, Debug)]
pub struct FirstRows<'a> {
    bitmap: &'a Bitmap,
    rows: u16,
}

impl FirstRows<'_> {
    /// The number of rows shown.
    #[must_use]
    pub fn rows(&self) -> u16 {
        self.rows
    }

    /// The number of bits in them, set or not.
    #[must_use]
    pub fn bits(&self) -> u16 {
        self.rows * ROW_BITS as u16
    }

    /// Whether a bit is set; one that is not shown is not.
    #[inline]
    #[must_use]
    pub fn contains(&self, bit: u16) -> bool {
        bit < self.bits() && self.bitmap.contains(bit)
    }

    /// The bits of a row.
    ///
    /// # Errors
    /// When that row is not shown.
    pub fn row(&self, row: u16) -> Result<Row, BitmapError> {
        if row >= self.rows {
            let rows = self.rows;
            return Err(BitmapError::NoRow { row, rows });
        }
        self.bitmap.row(row)
    }

    /// The bits shown that are set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u16> {
        let bits = self.bits();
        self.bitmap.iter().take_while(move |bit| *bit < bits)
    }
}

impl Clone for Bitmap {
    fn clone(&self) -> Self {
        let words = self.words.iter();
        Bitmap {
            rows: self.rows,
            words: words
                .map(|word| AtomicU64::new(word.load(Relaxed)))
                .collect(),
        }
    }
}

impl PartialEq for Bitmap {
    fn eq(&self, other: &Self) -> bool {
        let same =
            |(ours, theirs): (&AtomicU64, &AtomicU64)| ours.load(Relaxed) == theirs.load(Relaxed);
        self.rows == other.rows && self.words.iter().zip(&other.words).all(same)
    }
}

impl Eq for Bitmap {}

impl fmt::Debug for Bitmap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bitmap")
            .field("rows", &self.rows)
            .field("set", &self.count())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn with(rows: u16, bits: &BTreeSet<u16>) -> Bitmap {
        let bitmap = Bitmap::new(rows).expect("rows within the bound");
        for bit in bits {
            bitmap.set(*bit).expect("a bit that exists");
        }
        bitmap
    }

    fn bits(rows: u16) -> impl Strategy<Value = BTreeSet<u16>> {
        prop::collection::btree_set(0..rows * ROW_BITS as u16, 0..200)
    }

    fn union(a: &Bitmap, b: &Bitmap) -> Bitmap {
        let sum = a.clone();
        sum.merge(b).expect("of one size");
        sum
    }

    #[test]
    fn bounds_are_held() {
        assert_eq!(Bitmap::new(0), Err(BitmapError::Rows { rows: 0 }));
        assert_eq!(Bitmap::new(164), Err(BitmapError::Rows { rows: 164 }));
        let bitmap = Bitmap::new(5).expect("five rows");
        let no_bit = BitmapError::NoBit {
            bit: 2000,
            bits: 2000,
        };
        assert_eq!(bitmap.set(2000), Err(no_bit));
        assert!(!bitmap.contains(2000) && !bitmap.contains(u16::MAX));
        let no_row = BitmapError::NoRow { row: 5, rows: 5 };
        assert_eq!(bitmap.row(5), Err(no_row));
        assert_eq!(bitmap.merge_row(5, &[true; ROW_BITS]), Err(no_row));
        let unlike = BitmapError::Unlike { ours: 5, theirs: 6 };
        let other = Bitmap::new(6).expect("six rows");
        assert_eq!(bitmap.merge(&other), Err(unlike));
        assert_ne!(bitmap, other);
        assert_eq!(bitmap.count(), 0);
        let largest = Bitmap::new(ROWS_MAX).expect("the most rows");
        assert_eq!(largest.set(largest.bits() - 1), Ok(true));
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "callers have threads")]
    fn of_many_that_set_a_bit_one_is_first() {
        let bitmap = Bitmap::new(5).expect("five rows");
        let first: usize = std::thread::scope(|scope| {
            let setters: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| (0..2000).filter(|bit| bitmap.set(*bit) == Ok(true)).count())
                })
                .collect();
            setters
                .into_iter()
                .map(|setter| setter.join().expect("it ends"))
                .sum()
        });
        assert_eq!((first, bitmap.count()), (2000, 2000));
    }

    #[test]
    fn its_bytes_are_in_the_order_of_its_bits_and_bounded() {
        let bitmap = with(5, &[0, 9, 1999].into());
        let bytes = bitmap.to_bytes();
        assert_eq!((bytes.len(), &bytes[..3]), (250, &[1, 2, 0][..]));
        assert_eq!(bytes[249], 0x80);
        assert!(Bitmap::new(5).expect("five rows").to_bytes().is_empty());
        let too_long = BitmapError::TooLong {
            bytes: 251,
            rows: 5,
        };
        assert_eq!(Bitmap::from_bytes(5, &[0; 251]), Err(too_long));
        let none = Bitmap::from_bytes(0, &[]);
        assert_eq!(none, Err(BitmapError::Rows { rows: 0 }));
        let full = Bitmap::from_bytes(ROWS_MAX, &[0xFF; 8150]).expect("all bytes there are");
        assert_eq!(full.count(), usize::from(BITMAP_BITS_MAX));
    }

    #[test]
    fn of_a_larger_bitmap_its_first_rows_can_be_shown() {
        let bitmap = with(10, &[0, 1999, 2000, 3999].into());
        let shown = bitmap.first_rows(5).expect("there are ten");
        assert_eq!((shown.rows(), shown.bits()), (5, 2000));
        assert!(shown.contains(1999) && !shown.contains(2000) && bitmap.contains(2000));
        assert_eq!(shown.iter().collect::<Vec<_>>(), [0, 1999]);
        assert_eq!(shown.row(4), bitmap.row(4));
        let no_row = BitmapError::NoRow { row: 5, rows: 5 };
        assert_eq!(shown.row(5), Err(no_row));
        assert_eq!(bitmap.whole().iter().count(), 4);
        let refused = |rows| bitmap.first_rows(rows).err();
        assert_eq!(refused(0), Some(BitmapError::Rows { rows: 0 }));
        let no_row = BitmapError::NoRow { row: 10, rows: 10 };
        assert_eq!(refused(11), Some(no_row));
    }

    proptest! {
        #[test]
        fn it_survives_its_bytes(rows in 1..=ROWS_MAX, seed in bits(ROWS_MAX)) {
            let bits = seed.into_iter().map(|bit| bit % (rows * ROW_BITS as u16)).collect();
            let bitmap = with(rows, &bits);
            let bytes = bitmap.to_bytes();
            prop_assert_eq!(Bitmap::from_bytes(rows, &bytes), Ok(bitmap.clone()));
            let larger = Bitmap::from_bytes(ROWS_MAX, &bytes).expect("there is room");
            prop_assert_eq!(larger.iter().collect::<BTreeSet<_>>(), bits);
        }

        #[test]
        fn it_holds_what_was_set(rows in 1..=ROWS_MAX, seed in bits(ROWS_MAX)) {
            let bits: BTreeSet<u16> =
                seed.into_iter().map(|bit| bit % (rows * ROW_BITS as u16)).collect();
            let bitmap = with(rows, &bits);
            prop_assert_eq!(bitmap.iter().collect::<BTreeSet<_>>(), bits.clone());
            prop_assert_eq!(bitmap.count(), bits.len());
            for row in 0..rows {
                let first = row * ROW_BITS as u16;
                let read = bitmap.row(row).expect("a row");
                for (column, set) in read.iter().enumerate() {
                    prop_assert_eq!(*set, bits.contains(&(first + column as u16)));
                }
            }
            for bit in &bits {
                prop_assert_eq!(bitmap.set(*bit), Ok(false));
            }
        }

        #[test]
        fn merging_is_a_join(a in bits(5), b in bits(5), c in bits(5)) {
            let [a, b, c] = [&a, &b, &c].map(|bits| with(5, bits));
            prop_assert_eq!(union(&a, &b), union(&b, &a));
            prop_assert_eq!(union(&union(&a, &b), &c), union(&a, &union(&b, &c)));
            prop_assert_eq!(union(&a, &a), a.clone());
            let sum = union(&a, &b);
            prop_assert!(a.iter().chain(b.iter()).all(|bit| sum.contains(bit)), "it only grows");
            let both: BTreeSet<u16> = a.iter().chain(b.iter()).collect();
            prop_assert_eq!(sum, with(5, &both));
        }

        #[test]
        fn rows_one_by_one_are_the_whole(a in bits(5), b in bits(5)) {
            let (ours, theirs) = (with(5, &a), with(5, &b));
            let expected = union(&ours, &theirs);
            let new: usize = (0..5)
                .map(|row| ours.merge_row(row, &theirs.row(row).expect("a row")).expect("a row"))
                .sum();
            prop_assert_eq!(new, b.difference(&a).count());
            prop_assert_eq!(ours, expected);
        }
    }
}
