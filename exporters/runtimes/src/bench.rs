//! Timing, and inputs to time with.

use std::time::{Duration, Instant};

use zoo_sdk::{Array, DType, Data, Distribution, Port, Sizes, Stream, Tensors, trial_sizes};

use crate::{Error, Loaded, Result};

/// How long to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BenchOptions {
    /// Runs that are not counted: a runtime may prepare itself in the first.
    pub warm_up: usize,
    /// Fewest runs; at least one is made.
    pub min_runs: usize,
    /// Most runs.
    pub max_runs: usize,
    /// No further run starts after this time, once `min_runs` are made.
    pub time: Duration,
}

impl Default for BenchOptions {
    fn default() -> Self {
        Self {
            warm_up: 2,
            min_runs: 5,
            max_runs: 1000,
            time: Duration::from_secs(2),
        }
    }
}

/// Wall-clock times of one run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BenchFigures {
    /// Median, in milliseconds.
    pub ms_median: f64,
    /// Least, in milliseconds.
    pub ms_min: f64,
    /// Runs counted.
    pub runs: usize,
}

/// Times `loaded` on `inputs`.
///
/// # Errors
/// Those of [`Loaded::run`].
pub fn bench(
    loaded: &mut dyn Loaded,
    inputs: &Tensors,
    options: &BenchOptions,
) -> Result<BenchFigures> {
    for _ in 0..options.warm_up {
        loaded.run(inputs)?;
    }
    let begin = Instant::now();
    let mut times = Vec::new();
    while times.len() < options.min_runs.max(1)
        || (times.len() < options.max_runs && begin.elapsed() < options.time)
    {
        let start = Instant::now();
        loaded.run(inputs)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_unstable_by(f64::total_cmp);
    let (low, high) = (times[(times.len() - 1) / 2], times[times.len() / 2]);
    Ok(BenchFigures {
        ms_median: (low + high) / 2.0,
        ms_min: times[0],
        runs: times.len(),
    })
}

/// Elements of an input that [`example_inputs`] makes at most; what does not fit in memory would end the process.
const LARGEST: usize = 1 << 31;

/// Inputs for `ports` at these sizes, such as a batch of so many (other symbols are small where nothing is said): floats by the port's distribution, uniform in its range where it has none, and
/// standard normal where it has neither; integers uniform in the range, which is 0 to 1 where none is given.
/// The same seed gives the same numbers.
///
/// # Errors
/// For an input of more than 2^31 elements.
pub fn example_inputs(ports: &[Port], sizes: impl Into<Sizes>, seed: u64) -> Result<Tensors> {
    let sizes: Sizes = sizes.into();
    let batch = sizes.get(zoo_sdk::BATCH).unwrap_or(1);
    let sizes = sizes.or(&trial_sizes(ports, batch));
    let stream = Stream::new(seed).named("example inputs");
    let inputs = ports.iter().map(|port| {
        let too_large = || Error::InputShape {
            name: port.name.clone(),
            expected: crate::ports::describe(port),
            got: Vec::new(),
            hint: format!(": it is too large with {sizes}"),
        };
        let shape = port.shape_at(&sizes).ok_or_else(too_large)?;
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let count = count.filter(|&c| c <= LARGEST).ok_or_else(too_large)?;
        let array = Array::new(shape, draw(port, count, stream.named(&port.name)));
        Ok((port.name.clone(), array.map_err(|_| too_large())?))
    });
    inputs.collect()
}

fn draw(port: &Port, count: usize, stream: Stream) -> Data {
    let [low, high] = port.range.unwrap_or([0.0, 1.0]);
    let integers = || {
        let span = (high - low).max(0.0) as u64 + 1;
        stream
            .integers(count, span)
            .into_iter()
            .map(move |i| i + low as i64)
    };
    let floats = || match (port.distribution, port.range) {
        (Some(Distribution::Normal), _) | (None, None) => stream.normal(count),
        (Some(Distribution::Uniform), None) => stream.uniform(count),
        (_, Some(_)) => {
            let mut values = stream.uniform(count);
            values
                .iter_mut()
                .for_each(|v| *v = (low + f64::from(*v) * (high - low)) as f32);
            values
        }
    };
    match port.dtype {
        DType::F32 => Data::F32(floats()),
        DType::F64 => Data::F64(floats().into_iter().map(f64::from).collect()),
        DType::F16 => {
            let halves = floats()
                .into_iter()
                .map(|v| half::f16::from_f32(v).to_bits());
            Data::F16(halves.collect())
        }
        DType::I64 => Data::I64(integers().collect()),
        DType::I32 => Data::I32(integers().map(|i| i as i32).collect()),
        DType::U8 => Data::U8(integers().map(|i| i as u8).collect()),
        DType::Bool => Data::Bool(integers().map(|i| (i != 0).into()).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_follow_their_ports() {
        let ports = [
            Port::normal("z", &[50]),
            Port::image("x", [1, 4, 4]),
            Port::label("label", 10),
            Port::new("mask", DType::Bool, [zoo_sdk::Dim::batch()]),
        ];
        let inputs = example_inputs(&ports, 40, 7).unwrap();
        assert_eq!(inputs, example_inputs(&ports, 40, 7).unwrap());
        assert_ne!(inputs, example_inputs(&ports, 40, 8).unwrap());
        assert_eq!(inputs["x"].shape(), [40, 1, 4, 4]);
        assert!(inputs["x"].to_f64().iter().all(|v| (0.0..=1.0).contains(v)));
        assert!(inputs["z"].to_f64().iter().any(|v| *v < -1.0));
        let labels = inputs["label"].as_i64().unwrap();
        assert!(labels.iter().all(|l| (0..10).contains(l)) && labels.contains(&9));
        assert!(inputs["mask"].as_bool().unwrap().contains(&1));
        assert!(example_inputs(&ports, usize::MAX, 7).is_err());
        assert!(example_inputs(&ports, 1 << 50, 7).is_err());
    }
}
