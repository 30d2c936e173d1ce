//! From the sizes that a dimension had to what it is for all.

use zoo_graph::{BATCH, Dim};

use super::runs::Runs;

/// Numbers by which sizes may be divided, at most.
const MOST: i64 = 48;

/// What is known of a dimension.
#[derive(Debug, PartialEq)]
pub(super) enum Fit {
    Dim(Dim),
    /// It is divided by so much, but what is added before is not clear: there are remainders that no run left.
    DividedBy(usize),
}

/// The dimension that has the size `sizes[i]` in run `i`; `None` where there is none.
pub(super) fn fit(sizes: &[usize], runs: &Runs) -> Option<Fit> {
    if sizes.iter().all(|size| *size == sizes[0]) {
        return Some(Fit::Dim(Dim::Fixed(sizes[0])));
    }
    let sizes: Vec<i64> = sizes
        .iter()
        .map(|&s| s.try_into().ok())
        .collect::<Option<_>>()?;
    let at = |run: usize, symbol: &str| {
        runs.sizes[run]
            .get(symbol)
            .and_then(|s| i64::try_from(s).ok())
    };
    // How much it grows by for each symbol, as fractions of one denominator.
    let mut slopes = Vec::new();
    for (i, symbol) in runs.symbols.iter().enumerate() {
        let moved = at(i + 1, symbol)? - at(0, symbol)?;
        slopes.push((symbol, sizes[i + 1] - sizes[0], moved));
    }
    // The least that makes whole numbers of them.
    let whole = |divisor: &i64| {
        let mut slopes = slopes.iter();
        slopes.all(|(_, by, moved)| by * divisor % moved == 0)
    };
    let divisor = (1..=MOST).find(whole)?;
    if slopes.iter().any(|(_, by, _)| *by < 0) {
        return None;
    }
    let factors: Vec<(&String, i64)> = slopes
        .iter()
        .map(|(s, by, moved)| (*s, by * divisor / moved))
        .collect();
    // size = floor((sum + offset) / divisor) bounds the offset in each run.
    let (mut least, mut most) = (i64::MIN, i64::MAX);
    for (run, size) in sizes.iter().enumerate() {
        let mut sum = 0;
        for (symbol, factor) in &factors {
            sum += factor * at(run, symbol)?;
        }
        least = least.max(divisor * size - sum);
        most = most.min(divisor * size - sum + divisor - 1);
    }
    if least > most {
        return None;
    }
    let batch = factors
        .iter()
        .any(|(symbol, factor)| *symbol == BATCH && *factor != 0);
    let alone = factors.iter().filter(|(_, factor)| *factor != 0).count() == 1;
    if batch && (!alone || divisor != 1 || least != 0) {
        return None;
    }
    if least < most {
        let known = runs.sizes.len() > runs.symbols.len() + 2;
        return (!known).then_some(Fit::DividedBy(divisor as usize));
    }
    let mut dim = Dim::Fixed(0);
    for (symbol, factor) in factors {
        dim = dim.plus(&Dim::symbol(symbol).times(factor.try_into().ok()?)?)?;
    }
    Some(Fit::Dim(dim.moved(least)?.over(divisor.try_into().ok()?)?))
}

#[cfg(test)]
mod tests {
    use zoo_graph::Port;

    use super::*;

    /// Whatever a dimension says is found again from the sizes that it gives.
    #[test]
    fn dimensions_are_found_again() {
        let [h, w] = ["4*H", "W"].map(|text| text.parse().unwrap());
        let mut runs = Runs::of(&[Port::images("x", 3, [h, w])]).unwrap();
        for text in [
            "7",
            "N",
            "12*N",
            "H",
            "2*H+3",
            "4*H-1",
            "W+2*H",
            "W/2",
            "(W+1)/2",
            "(3*W-2)/4",
            "(W+5)/16",
        ] {
            let dim: Dim = text.parse().unwrap();
            let sizes = |runs: &Runs| {
                runs.sizes
                    .iter()
                    .map(|s| dim.at(s).unwrap())
                    .collect::<Vec<_>>()
            };
            let mut found = fit(&sizes(&runs), &runs);
            if let Some(Fit::DividedBy(divisor)) = found {
                let known = runs.sizes.clone();
                runs.tell_remainders(divisor);
                found = fit(&sizes(&runs), &runs);
                runs.sizes = known;
            }
            assert_eq!(found, Some(Fit::Dim(dim.clone())), "{text}");
        }
    }

    #[test]
    fn what_is_no_such_dimension_is_none() {
        let runs = Runs::of(&[Port::images("x", 3, ["H", "W"].map(Dim::symbol))]).unwrap();
        let sizes = |size: &dyn Fn(usize, usize, usize) -> usize| {
            let get = |s: &zoo_graph::Sizes, symbol| s.get(symbol).unwrap();
            let each = runs
                .sizes
                .iter()
                .map(|s| size(get(s, "N"), get(s, "H"), get(s, "W")));
            each.collect::<Vec<_>>()
        };
        for bad in [
            &(|_, h, w| h * w) as &dyn Fn(usize, usize, usize) -> usize,
            &|n, h, _| n * h,
            &|n, _, _| n + 1,
            &|n, _, _| n / 2,
            &|n, h, _| n + h,
            &|_, h, _| 100 - h,
            &|_, h, _| h.pow(2),
        ] {
            assert_eq!(fit(&sizes(bad), &runs), None);
        }
    }

    #[test]
    fn inputs_tell_their_symbols() {
        for bad in ["H/2", "H+W"] {
            let port = Port::images("x", 3, [bad.parse().unwrap(), Dim::symbol("W")]);
            let error = Runs::of(&[port]).err().unwrap();
            assert!(error.contains(bad) && error.contains("\"x\""), "{error}");
        }
    }
}
