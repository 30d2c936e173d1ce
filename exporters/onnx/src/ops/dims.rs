//! Arithmetic on dimensions that may be symbolic. `None` where a result exists but cannot be written as a [`Dim`].

use std::collections::BTreeMap;

use zoo_graph::Dim;

/// Inside `Ok`, `None` where a result exists but cannot be written; an error where a known size overflows.
pub(crate) type Derived = Result<Option<Dim>, String>;

/// `dim * k`.
pub(crate) fn times(dim: &Dim, k: usize) -> Derived {
    known(dim.times(k), [dim], || {
        format!("the size {dim} x {k} overflows")
    })
}

/// `a + b`.
pub(crate) fn plus(a: &Dim, b: &Dim) -> Derived {
    known(a.plus(b), [a, b], || {
        format!("the size {a} + {b} overflows")
    })
}

fn known<const K: usize>(
    result: Option<Dim>,
    of: [&Dim; K],
    overflow: impl FnOnce() -> String,
) -> Derived {
    match result {
        None if of.iter().all(|dim| dim.fixed().is_some()) => Err(overflow()),
        result => Ok(result),
    }
}

/// The shape two operands broadcast to. A symbol never broadcasts against a size other than 1: that would freeze it.
pub(crate) fn broadcast(a: &[Option<Dim>], b: &[Dim]) -> Result<Vec<Option<Dim>>, String> {
    let rank = a.len().max(b.len());
    let one = Some(Dim::Fixed(1));
    (0..rank)
        .map(|i| {
            let left = (i + a.len()).checked_sub(rank).map_or(&one, |i| &a[i]);
            let right = (i + b.len()).checked_sub(rank).map(|i| &b[i]);
            match (left, right) {
                (left, None | Some(Dim::Fixed(1))) => Ok(left.clone()),
                (Some(Dim::Fixed(1)), Some(right)) => Ok(Some(right.clone())),
                (Some(left), Some(right)) if left == right => Ok(Some(right.clone())),
                (None, Some(_)) => Ok(None),
                // Different symbols may stand for the same.
                (Some(left @ Dim::Symbolic(_)), Some(right @ Dim::Symbolic(_)))
                    if !left.symbols().eq(right.symbols()) =>
                {
                    Ok(None)
                }
                (Some(left), Some(right)) => {
                    Err(format!("the sizes {left} and {right} do not broadcast"))
                }
            }
        })
        .collect()
}

/// A number of elements: a coefficient times powers of dimensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Count {
    coefficient: usize,
    powers: BTreeMap<Dim, usize>,
}

impl Count {
    /// The product of `dims`.
    pub fn of<'a>(dims: impl IntoIterator<Item = &'a Dim>) -> Result<Self, String> {
        let mut count = Self {
            coefficient: 1,
            powers: BTreeMap::new(),
        };
        for dim in dims {
            let (factor, open) = dim.content();
            if let Some(open) = open {
                *count.powers.entry(open).or_default() += 1;
            }
            count.coefficient = count
                .coefficient
                .checked_mul(factor)
                .filter(|&n| n <= isize::MAX as usize)
                .ok_or("the number of elements overflows")?;
        }
        Ok(count)
    }

    /// The dimension that remains when `part` is taken out.
    pub fn over(&self, part: &Self) -> Result<Option<Dim>, String> {
        let indivisible = || {
            Err(format!(
                "{} elements cannot be divided by {}",
                self.coefficient, part.coefficient
            ))
        };
        let Some(coefficient) = self
            .coefficient
            .checked_div(part.coefficient)
            .filter(|q| q * part.coefficient == self.coefficient)
        else {
            return indivisible();
        };
        let mut powers = self.powers.clone();
        for (open, power) in &part.powers {
            let left = powers.get(open).copied().unwrap_or(0);
            if left < *power {
                return Err(format!("the size would depend on 1/({open})"));
            }
            powers.insert(open.clone(), left - power);
        }
        powers.retain(|_, power| *power > 0);
        let mut left = powers.into_iter();
        Ok(match (left.next(), left.next()) {
            (None, _) => Some(Dim::Fixed(coefficient)),
            (Some((open, 1)), None) if coefficient > 0 => open.times(coefficient),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dims(text: &str) -> Vec<Dim> {
        text.split_whitespace()
            .map(|d| d.parse().unwrap())
            .collect()
    }

    #[test]
    fn broadcasting() {
        let cases = [
            ("N 1 28", "3 28", Ok("N 3 28")),
            ("N 3", "", Ok("N 3")),
            ("1", "N", Ok("N")),
            ("N 2", "N 3", Err(())),
            ("N", "5", Err(())),
            ("2*N", "N", Err(())),
        ];
        for (a, b, expected) in cases {
            let a: Vec<_> = dims(a).into_iter().map(Some).collect();
            let got = broadcast(&a, &dims(b))
                .map(|s| s.into_iter().map(Option::unwrap).collect::<Vec<_>>());
            assert_eq!(got.map_err(|_| ()), expected.map(dims), "{a:?} {b}");
        }
        let a = [Some("N".parse().unwrap())];
        assert_eq!(broadcast(&a, &dims("M")).unwrap(), [None]);
    }

    #[test]
    fn quotients() {
        let of = |text: &str| Count::of(&dims(text)).unwrap();
        assert_eq!(
            of("N 1 28 28").over(&of("784")).unwrap(),
            Some(Dim::batch())
        );
        assert_eq!(of("50*N 7").over(&of("N")).unwrap(), Some(Dim::Fixed(350)));
        assert_eq!(
            of("N 3").over(&of("1")).unwrap().unwrap().to_string(),
            "3*N"
        );
        assert_eq!(of("N M").over(&of("1")).unwrap(), None);
        assert!(of("N 3").over(&of("2")).is_err());
        assert!(of("6").over(&of("N")).is_err());
        assert!(of("6").over(&of("0")).is_err());
        assert!(Count::of(&dims("4294967296 4294967296")).is_err());
    }
}
