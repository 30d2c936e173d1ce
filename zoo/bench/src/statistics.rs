//! Medians of rounds, and the fastest of runs.

use std::time::Instant;

use crate::measure::cpu_seconds;

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

/// What a run's time is read from.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// CPU time of the process: for one thread, so that other work on the machine does not count.
    Cpu,
    /// The time that passes.
    Wall,
}

impl Clock {
    /// The right one for so many threads.
    pub fn of(threads: usize) -> Self {
        if threads == 1 { Self::Cpu } else { Self::Wall }
    }

    /// Seconds since `start`, or of CPU.
    fn seconds(self, start: Instant) -> f64 {
        let passed = start.elapsed().as_secs_f64();
        match self {
            Self::Cpu => cpu_seconds().unwrap_or(passed),
            Self::Wall => passed,
        }
    }
}

/// Seconds of the fastest of the runs that fit into `seconds`; at least two, the first of which does not count.
pub fn fastest<E>(
    clock: Clock,
    seconds: f64,
    mut run: impl FnMut() -> Result<(), E>,
) -> Result<f64, E> {
    run()?;
    let (mut best, start) = (f64::INFINITY, Instant::now());
    let end = clock.seconds(start) + seconds;
    while best.is_infinite() || clock.seconds(start) < end {
        let before = clock.seconds(start);
        run()?;
        best = best.min(clock.seconds(start) - before);
    }
    // A clock that has not moved says nothing of the speed but this.
    Ok(best.max(1e-9))
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
