//! Dimensions that callers choose, and what follows from them.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::Error;

/// The symbol of the batch dimension.
pub const BATCH: &str = "N";

/// One dimension of a shape.
///
/// Written and serialised as a number (`28`), or as an expression of symbols: `N`, `50*N`, `2*H+1`, `H+W`, `(H-1)/2`, where a
/// division leaves out what remains.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dim {
    /// Known when the graph is made.
    Fixed(usize),
    /// It follows from symbols whose values the caller chooses.
    Symbolic(Expression),
}

/// A sum of multiples of symbols and a number, divided by a number: `floor((a*s + b*t + ... + offset) / divisor)`.
///
/// There is one form for each function of the symbols, so equal dimensions are equal expressions.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Expression {
    /// At least one; every factor is at least 1.
    terms: BTreeMap<String, i64>,
    offset: i64,
    /// At least 1, and without a factor that all terms have.
    divisor: i64,
}

impl Dim {
    /// The batch dimension N.
    pub fn batch() -> Self {
        Self::symbol(BATCH)
    }

    /// The dimension that is called so.
    pub fn symbol(name: impl Into<String>) -> Self {
        Self::multiple(1, name)
    }

    /// So many times the dimension that is called so: `2*H`.
    pub fn multiple(factor: u32, name: impl Into<String>) -> Self {
        match factor {
            0 => Self::Fixed(0),
            factor => Self::Symbolic(Expression {
                terms: BTreeMap::from([(name.into(), factor.into())]),
                offset: 0,
                divisor: 1,
            }),
        }
    }

    /// The size where it is known without any symbol.
    pub fn fixed(&self) -> Option<usize> {
        match self {
            Self::Fixed(size) => Some(*size),
            Self::Symbolic(_) => None,
        }
    }

    /// The size when symbols stand for `sizes`; `None` where one is missing, on overflow, and below 0.
    pub fn at(&self, sizes: &Sizes) -> Option<usize> {
        match self {
            Self::Fixed(size) => Some(*size),
            Self::Symbolic(expression) => expression.at(sizes),
        }
    }

    /// The symbols it follows from.
    pub fn symbols(&self) -> impl Iterator<Item = &str> {
        let terms = match self {
            Self::Fixed(_) => None,
            Self::Symbolic(expression) => Some(expression.terms.keys().map(String::as_str)),
        };
        terms.into_iter().flatten()
    }

    /// By how much it grows for each one of a symbol; `None` for a division.
    pub fn grows_by(&self, symbol: &str) -> Option<usize> {
        match self {
            Self::Fixed(_) => Some(0),
            Self::Symbolic(e) if e.divisor > 1 => None,
            Self::Symbolic(e) => e.terms.get(symbol).map_or(Some(0), |&f| f.try_into().ok()),
        }
    }

    /// Whether it is the batch, or a multiple of it.
    pub fn is_batch(&self) -> bool {
        self.symbols().eq([BATCH])
    }

    /// `self * k`; `None` on overflow, and for a division, which has no such multiple.
    pub fn times(&self, k: usize) -> Option<Self> {
        match self {
            Self::Fixed(size) => size.checked_mul(k).map(Self::Fixed),
            Self::Symbolic(_) if k == 0 => Some(Self::Fixed(0)),
            Self::Symbolic(_) if k == 1 => Some(self.clone()),
            Self::Symbolic(e) if e.divisor > 1 => None,
            Self::Symbolic(e) => {
                let k = i64::try_from(k).ok()?;
                let terms = e.terms.iter();
                let terms = terms.map(|(s, c)| Some((s.clone(), c.checked_mul(k)?)));
                Self::expression(terms.collect::<Option<_>>()?, e.offset.checked_mul(k)?, 1)
            }
        }
    }

    /// `self + other`; `None` on overflow, and for the sum of a division and another symbol.
    pub fn plus(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Fixed(a), Self::Fixed(b)) => a.checked_add(*b).map(Self::Fixed),
            (Self::Fixed(size), open) | (open, Self::Fixed(size)) => {
                open.moved(i64::try_from(*size).ok()?)
            }
            (Self::Symbolic(a), Self::Symbolic(b)) if a.divisor == 1 && b.divisor == 1 => {
                let mut terms = a.terms.clone();
                for (symbol, factor) in &b.terms {
                    let sum = terms.entry(symbol.clone()).or_default();
                    *sum = sum.checked_add(*factor)?;
                }
                Self::expression(terms, a.offset.checked_add(b.offset)?, 1)
            }
            _ => None,
        }
    }

    /// `self + by`; `None` on overflow, and where a size would be below 0.
    pub fn moved(&self, by: i64) -> Option<Self> {
        match self {
            Self::Fixed(size) => {
                let moved = i64::try_from(*size).ok()?.checked_add(by)?;
                usize::try_from(moved).ok().map(Self::Fixed)
            }
            Self::Symbolic(e) => {
                let offset = e.offset.checked_add(by.checked_mul(e.divisor)?)?;
                Self::expression(e.terms.clone(), offset, e.divisor)
            }
        }
    }

    /// `self / k` without what remains; `None` on overflow and for 0.
    pub fn over(&self, k: usize) -> Option<Self> {
        match self {
            Self::Fixed(size) => size.checked_div(k).map(Self::Fixed),
            Self::Symbolic(e) => {
                let divisor = e.divisor.checked_mul(i64::try_from(k).ok()?)?;
                Self::expression(e.terms.clone(), e.offset, divisor)
            }
        }
    }

    /// What its only symbol stands for where the dimension has this size: for `2*H+1` and 9, `H` and 4.
    /// `None` where there is no such whole number of at least 1, for several symbols and for divisions.
    pub fn solved(&self, size: usize) -> Option<(&str, usize)> {
        let Self::Symbolic(e) = self else { return None };
        let (Some((symbol, factor)), 1, 1) = (e.terms.first_key_value(), e.terms.len(), e.divisor)
        else {
            return None;
        };
        let rest = i64::try_from(size).ok()?.checked_sub(e.offset)?;
        let value = usize::try_from(rest.checked_div(*factor)?).ok()?;
        (rest % factor == 0 && value > 0).then_some((symbol, value))
    }

    /// The number of elements of which it is a multiple for every value of its symbols, and the rest: 6 and `H+1` for `6*H+6`.
    pub fn content(&self) -> (usize, Option<Self>) {
        let e = match self {
            Self::Fixed(size) => return (*size, None),
            Self::Symbolic(e) if e.divisor > 1 => return (1, Some(self.clone())),
            Self::Symbolic(e) => e,
        };
        let content = e.terms.values().fold(e.offset, |a, &b| gcd(a, b));
        let terms = e.terms.iter().map(|(s, c)| (s.clone(), c / content));
        let rest = Expression {
            terms: terms.collect(),
            offset: e.offset / content,
            divisor: 1,
        };
        (content as usize, Some(Self::Symbolic(rest)))
    }

    /// `floor((terms + offset) / divisor)` in its one form; `None` for a divisor of 0.
    fn expression(mut terms: BTreeMap<String, i64>, offset: i64, divisor: i64) -> Option<Self> {
        terms.retain(|_, factor| *factor != 0);
        if divisor < 1 {
            return None;
        }
        if terms.is_empty() {
            let size = offset.div_euclid(divisor);
            return usize::try_from(size).ok().map(Self::Fixed);
        }
        // What divides all terms and the divisor can be divided by first: floor((g*a + b)/(g*d)) = floor((a + floor(b/g))/d).
        let common = terms.values().fold(divisor, |a, &b| gcd(a, b));
        terms.values_mut().for_each(|factor| *factor /= common);
        Some(Self::Symbolic(Expression {
            terms,
            offset: offset.div_euclid(common),
            divisor: divisor / common,
        }))
    }
}

impl Expression {
    fn at(&self, sizes: &Sizes) -> Option<usize> {
        let mut sum = self.offset;
        for (symbol, factor) in &self.terms {
            let size = i64::try_from(sizes.get(symbol)?).ok()?;
            sum = sum.checked_add(factor.checked_mul(size)?)?;
        }
        usize::try_from(sum.div_euclid(self.divisor)).ok()
    }
}

/// The greatest common divisor, at least 1 where one of them is not 0.
fn gcd(a: i64, b: i64) -> i64 {
    match b {
        0 => a.abs(),
        _ => gcd(b, a % b),
    }
}

/// What symbols stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sizes(BTreeMap<String, usize>);

impl Sizes {
    /// The batch N is so large, and nothing else is known.
    pub fn batch(n: usize) -> Self {
        Self::default().with(BATCH, n)
    }

    /// And this symbol stands for `size`.
    pub fn with(mut self, symbol: impl Into<String>, size: usize) -> Self {
        self.0.insert(symbol.into(), size);
        self
    }

    /// What a symbol stands for.
    pub fn get(&self, symbol: &str) -> Option<usize> {
        self.0.get(symbol).copied()
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, usize)> {
        self.0.iter().map(|(symbol, size)| (symbol.as_str(), *size))
    }

    /// The same with what `usual` says of symbols that are not known here.
    pub fn or(mut self, usual: &Self) -> Self {
        for (symbol, size) in &usual.0 {
            self.0.entry(symbol.clone()).or_insert(*size);
        }
        self
    }

    /// Without the batch.
    pub fn free(mut self) -> Self {
        self.0.remove(BATCH);
        self
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<usize> for Sizes {
    fn from(n: usize) -> Self {
        Self::batch(n)
    }
}

impl From<&Sizes> for Sizes {
    fn from(sizes: &Sizes) -> Self {
        sizes.clone()
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (symbol, size)) in self.iter().enumerate() {
            write!(f, "{}{symbol}={size}", if i > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

impl From<usize> for Dim {
    fn from(size: usize) -> Self {
        Self::Fixed(size)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let e = match self {
            Self::Fixed(size) => return write!(f, "{size}"),
            Self::Symbolic(e) => e,
        };
        // Parentheses where more than one symbol without a factor is divided.
        let bracketed = e.divisor > 1
            && (e.offset != 0 || e.terms.len() > 1 || e.terms.values().any(|c| *c != 1));
        if bracketed {
            f.write_str("(")?;
        }
        for (i, (symbol, factor)) in e.terms.iter().enumerate() {
            match (i, *factor) {
                (0, 1) => f.write_str(symbol)?,
                (0, factor) => write!(f, "{factor}*{symbol}")?,
                (_, 1) => write!(f, "+{symbol}")?,
                (_, factor) => write!(f, "+{factor}*{symbol}")?,
            }
        }
        if e.offset != 0 {
            write!(f, "{:+}", e.offset)?;
        }
        if bracketed {
            f.write_str(")")?;
        }
        match e.divisor {
            1 => Ok(()),
            divisor => write!(f, "/{divisor}"),
        }
    }
}

impl FromStr for Dim {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).ok_or_else(|| Error::Dim(text.into()))
    }
}

/// A number; or terms joined by signs, perhaps in parentheses and divided by a number.
fn parse(text: &str) -> Option<Dim> {
    if let Ok(size) = text.parse() {
        return Some(Dim::Fixed(size));
    }
    let (sum, divisor) = match text.rsplit_once('/') {
        Some((sum, divisor)) => (sum, divisor.parse().ok()?),
        None => (text, 1),
    };
    let inner = sum.strip_prefix('(').and_then(|s| s.strip_suffix(')'));
    let sum = match (inner, divisor) {
        (None, 1) => sum,
        // Without parentheses the division is that of the last term: of the only one, that is.
        (None, _) => (!sum.contains(['+', '-'])).then_some(sum)?,
        (Some(inner), _) => inner,
    };
    let (mut terms, mut offset) = (BTreeMap::<String, i64>::new(), 0i64);
    let mut rest = sum;
    while !rest.is_empty() {
        let (sign, signed) = match rest.as_bytes()[0] {
            b'-' => (-1, &rest[1..]),
            b'+' if rest.len() < sum.len() => (1, &rest[1..]),
            _ if rest.len() == sum.len() => (1, rest),
            _ => return None,
        };
        let end = signed.find(['+', '-']).unwrap_or(signed.len());
        let (term, after) = signed.split_at(end);
        rest = after;
        let (factor, symbol) = match (term.split_once('*'), number(term)) {
            (Some((factor, symbol)), _) => (number(factor)?, symbol),
            (None, Some(number)) => {
                offset = offset.checked_add(sign * number)?;
                continue;
            }
            (None, None) => (1, term),
        };
        // Nothing shrinks as a symbol grows.
        if sign < 0 || factor == 0 || !is_symbol(symbol) {
            return None;
        }
        let sum = terms.entry(symbol.into()).or_default();
        *sum = sum.checked_add(factor)?;
    }
    if terms.is_empty() {
        return None;
    }
    Dim::expression(terms, offset, divisor)
}

fn number(text: &str) -> Option<i64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

fn is_symbol(text: &str) -> bool {
    let mut chars = text.chars();
    let starts = chars.next().is_some_and(|c| c.is_alphabetic() || c == '_');
    starts && chars.all(|c| c.is_alphanumeric() || c == '_')
}

impl Serialize for Dim {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Fixed(size) => serializer.serialize_u64(*size as u64),
            Self::Symbolic(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Dim {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(usize),
            Text(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Number(size) => Ok(Self::Fixed(size)),
            Form::Text(text) => text.parse().map_err(de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dim(text: &str) -> Dim {
        text.parse().unwrap()
    }

    #[test]
    fn text_and_back() {
        for text in [
            "28",
            "N",
            "50*N",
            "H+1",
            "H-1",
            "2*H+3",
            "H/2",
            "(H+1)/2",
            "(3*H-1)/2",
            "H+2*W-4",
        ] {
            assert_eq!(dim(text).to_string(), text);
        }
        for (text, normal) in [
            ("(2*H+4)/2", "H+2"),
            ("(2*H+3)/2", "H+1"),
            ("H+H", "2*H"),
            ("W+H", "H+W"),
            ("(4*H)/8", "H/2"),
        ] {
            assert_eq!(dim(text).to_string(), normal);
        }
        for bad in [
            "",
            "-1",
            "0*N",
            "N*50",
            "2*",
            "1.5",
            "N+",
            "+N",
            "H/0",
            "H+1/2",
            "(N",
            "N W",
            "2*+N",
            "H-W",
            "9999999999999999999*N",
        ] {
            assert_eq!(bad.parse::<Dim>(), Err(Error::Dim(bad.into())), "{bad}");
        }
    }

    #[test]
    fn sizes_follow() {
        assert_eq!(dim("50*N").at(&3.into()), Some(150));
        assert_eq!(dim("50*N").at(&usize::MAX.into()), None);
        assert_eq!(dim("H").at(&3.into()), None);
        let sizes = Sizes::batch(2).with("H", 9).with("W", 4);
        let at = |text: &str| dim(text).at(&sizes);
        assert_eq!(at("(H+1)/2"), Some(5));
        assert_eq!(at("H/2"), Some(4));
        assert_eq!(at("H-9"), Some(0));
        assert_eq!(at("H-10"), None);
        assert_eq!(at("N+H+2*W"), Some(19));
    }

    /// Every answer of the arithmetic is that of the numbers.
    #[test]
    fn arithmetic() {
        let dims = ["5", "H", "2*H", "H+3", "(H+1)/2", "3*W+H", "(2*H+5)/3"].map(dim);
        let at = |dim: &Dim, h: usize| dim.at(&Sizes::default().with("H", h).with("W", h + 2));
        for h in 4..30 {
            for a in &dims {
                let size = at(a, h).unwrap();
                for k in [1, 2, 3, 4, 6] {
                    assert_eq!(at(&a.over(k).unwrap(), h), Some(size / k), "{a} / {k}");
                    if let Some(times) = a.times(k) {
                        assert_eq!(at(&times, h), Some(size * k), "{a} * {k}");
                    }
                }
                assert_eq!(at(&a.moved(-1).unwrap(), h), Some(size - 1), "{a} - 1");
                for b in &dims {
                    if let Some(sum) = a.plus(b) {
                        assert_eq!(at(&sum, h), Some(size + at(b, h).unwrap()), "{a} + {b}");
                    }
                }
                let (content, rest) = a.content();
                let rest = rest.map_or(1, |rest| at(&rest, h).unwrap());
                assert_eq!(content * rest, size, "{a}");
            }
        }
        assert_eq!(dim("(H+1)/2").times(2), None);
        assert_eq!(dim("(H+1)/2").plus(&dim("W")), None);
        assert_eq!(dim("4*H").over(2), Some(dim("2*H")));
    }

    #[test]
    fn a_size_tells_its_symbol() {
        assert_eq!(dim("2*H+1").solved(9), Some(("H", 4)));
        assert_eq!(dim("2*H+1").solved(8), None);
        assert_eq!(dim("2*H+1").solved(1), None);
        assert_eq!(dim("H/2").solved(8), None);
        assert_eq!(dim("H+W").solved(8), None);
        assert_eq!(dim("8").solved(8), None);
    }
}
