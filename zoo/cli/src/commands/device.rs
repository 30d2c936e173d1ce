//! Options that several commands share.

use clap::Args;

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
