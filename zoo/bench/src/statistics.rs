//! Medians of rounds, and the fastest of runs.

use std::time::Instant;

/// The middle of `values`; of two middles their mean; 0 of none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[half],
        _ => (values[half - 1] + values[half]) / 2.0,
    }
}

/// Seconds of the fastest of the runs that fit into `seconds`; at least two, the first of which does not count.
pub fn fastest<E>(seconds: f64, mut run: impl FnMut() -> Result<(), E>) -> Result<f64, E> {
    run()?;
    let (mut best, start) = (f64::INFINITY, Instant::now());
    while best.is_infinite() || start.elapsed().as_secs_f64() < seconds {
        let once = Instant::now();
        run()?;
        best = best.min(once.elapsed().as_secs_f64());
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0]), 2.5);
        assert_eq!(median(Vec::new()), 0.0);
    }
}
