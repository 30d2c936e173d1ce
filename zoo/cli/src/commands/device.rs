//! Options that several commands share.

use clap::Args;
use zoo_runs::Which;
use zoo_runtimes::RuntimeId;

/// Where to compute, and with how much of it.
#[derive(Debug, Args)]
pub struct OnDevice {
    /// CPU threads [default: all cores]; results do not depend on it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    threads: Option<u64>,
    /// Where to compute: cpu, cuda:0 or metal
    #[arg(long, value_name = "D", default_value = "cpu")]
    pub device: String,
}

impl OnDevice {
    /// The number of threads, 0 for all cores.
    pub fn threads(&self) -> usize {
        self.threads.map_or(0, |n| n as usize)
    }
}

/// What computes a graph of a run or a bundle, and by which weights.
#[derive(Debug, Args)]
pub struct Computing {
    /// What computes: candle, tract, ort or candle-onnx [default: candle for a run, tract for a bundle]
    #[arg(long, value_name = "R")]
    pub runtime: Option<RuntimeId>,
    /// Which weights of a run: raw, ema (averaged) or best [default: ema where there are some, else raw]
    #[arg(long, value_name = "W")]
    pub weights: Option<Which>,
    #[command(flatten)]
    pub on: OnDevice,
}
