//! One network, trained in this process.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::json;
use zoo_sdk::{
    Array, Checkpoint, Context, Control, Dataset, Elements, Event, Split, TrainRequest, View,
};

use crate::{
    Error, Network, Result,
    inputs::{Inputs, data_spec},
};

/// Steps before the clock starts.
const WARM_UP: u64 = 2;
/// Losses that are reported.
const LOSSES: u64 = 5;

/// What a training took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Which network.
    pub network: String,
    /// CPU threads.
    pub threads: usize,
    /// Images a step.
    pub batch: usize,
    /// Height and width of an image.
    pub pixels: usize,
    /// Steps that were measured.
    pub steps: u64,
    /// CPU milliseconds a step, of the program and of the system for it, over all threads.
    pub cpu_ms_per_step: f64,
    /// Milliseconds a step by the clock.
    pub wall_ms_per_step: f64,
    /// Images a second by the clock.
    pub images_per_s: f64,
    /// Largest resident memory of the process until the last measured step, in MiB.
    pub peak_rss_mb: f64,
    /// The same before anything was made: the program, or Python with PyTorch.
    pub start_rss_mb: f64,
    /// Losses of the first five steps; where a step has two phases, their sum.
    pub first_losses: Vec<f64>,
}

/// Trains `network` for two steps, then measures `steps` more.
pub fn measure(network: Network, inputs: Inputs, threads: usize, steps: u64) -> Result<Measured> {
    if steps == 0 || threads == 0 {
        return Err(Error::input("at least one step and one thread"));
    }
    let size = inputs.size;
    let start_rss_mb = usage()?.peak_rss_mb;
    let mut watch = Watch {
        until: WARM_UP + steps,
        ..Watch::default()
    };
    let total = watch.until.max(LOSSES);
    training(network, inputs, threads, total, &mut watch)?;
    let (Some(start), Some(end)) = (watch.start, watch.end) else {
        return Err(Error::Usage(
            watch
                .failed
                .unwrap_or_else(|| "the training ended early".into()),
        ));
    };
    let ms = |seconds: f64| seconds * 1e3 / steps as f64;
    let wall = ms((end.at - start.at).as_secs_f64());
    Ok(Measured {
        network: network.name().into(),
        threads,
        batch: size.batch,
        pixels: size.pixels,
        steps,
        cpu_ms_per_step: ms(end.used.cpu_seconds - start.used.cpu_seconds),
        wall_ms_per_step: wall,
        images_per_s: size.batch as f64 * 1e3 / wall,
        peak_rss_mb: end.used.peak_rss_mb,
        start_rss_mb,
        first_losses: watch.losses,
    })
}

/// Trains `network` for `steps` by the trainer that every plugin uses, with the script's Adam.
pub fn training(
    network: Network,
    inputs: Inputs,
    threads: usize,
    steps: u64,
    context: &mut dyn Context,
) -> Result<()> {
    let spec = data_spec(inputs.size);
    let images = inputs.images()?.to_vec();
    let batch = inputs.size.batch;
    let request = TrainRequest {
        model: json!({ "batch": batch }),
        train: json!({
            "epochs": null, "steps": steps, "batch": batch, "learning_rate": 1e-3,
            "checkpoint_every": steps, "sample_every": steps, "evaluate_every": steps,
        }),
        seed: 0,
        threads,
        device: "cpu".into(),
        resume: None,
        init_from: Some(inputs.tensors),
        init_part: None,
    };
    let data = Dataset {
        spec: &spec,
        train: Split {
            images: View {
                count: batch,
                elements: Elements::F32(&images),
            },
            labels: None,
            targets: None,
        },
        valid: None,
    };
    let trained = network.plugin().train(&request, &data, context);
    trained.map(drop).map_err(|source| Error::Network {
        network: network.name(),
        source,
    })
}

/// Reads the clocks after the right steps.
#[derive(Default)]
struct Watch {
    until: u64,
    start: Option<Moment>,
    end: Option<Moment>,
    losses: Vec<f64>,
    failed: Option<String>,
}

struct Moment {
    at: Instant,
    used: Used,
}

impl Context for Watch {
    fn progress(&mut self, event: &Event) -> Control {
        let Event::Step { step, losses, .. } = event else {
            return Control::Continue;
        };
        if *step <= LOSSES {
            self.losses.push(losses.iter().map(|term| term.value).sum());
        }
        let now = || {
            usage().map(|used| Moment {
                at: Instant::now(),
                used,
            })
        };
        let read = match *step {
            WARM_UP => now().map(|m| self.start = Some(m)),
            step if step == self.until => now().map(|m| self.end = Some(m)),
            _ => Ok(()),
        };
        match read {
            Ok(()) => Control::Continue,
            Err(error) => {
                self.failed = Some(error.to_string());
                Control::Cancelled
            }
        }
    }

    fn checkpoint(&mut self, _: &Checkpoint) -> zoo_sdk::Result<()> {
        Ok(())
    }

    fn images(&mut self, _: u64, _: &str, _: &Array) -> zoo_sdk::Result<()> {
        Ok(())
    }
}

/// What this process has used so far.
#[derive(Clone, Copy, Debug)]
struct Used {
    /// User and system time of all threads.
    cpu_seconds: f64,
    peak_rss_mb: f64,
}

#[cfg(unix)]
fn resources() -> Result<nix::sys::resource::Usage> {
    use nix::sys::resource::{UsageWho, getrusage};

    getrusage(UsageWho::RUSAGE_SELF).map_err(|e| Error::Usage(e.to_string()))
}

#[cfg(unix)]
pub(crate) fn cpu_seconds() -> Result<f64> {
    use nix::sys::time::TimeValLike;

    let usage = resources()?;
    let micros = (usage.user_time() + usage.system_time()).num_microseconds();
    Ok(micros as f64 / 1e6)
}

#[cfg(unix)]
fn usage() -> Result<Used> {
    // In bytes on macOS, else in KiB.
    let unit = if cfg!(target_os = "macos") {
        1024.0
    } else {
        1.0
    };
    let by_system = resources()?.max_rss() as f64 / unit;
    Ok(Used {
        cpu_seconds: cpu_seconds()?,
        peak_rss_mb: high_water_mark().unwrap_or(by_system) / 1024.0,
    })
}

#[cfg(not(unix))]
pub(crate) fn cpu_seconds() -> Result<f64> {
    Err(Error::Usage(
        "only Linux, macOS and other Unix systems are supported".into(),
    ))
}

#[cfg(not(unix))]
fn usage() -> Result<Used> {
    Ok(Used {
        cpu_seconds: cpu_seconds()?,
        peak_rss_mb: 0.0,
    })
}

/// KiB. Linux' getrusage also counts what the parent held before this program was started; this does not.
fn high_water_mark() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Size;

    #[test]
    fn a_measurement_counts_what_was_asked() {
        let size = Size {
            batch: 4,
            pixels: 8,
        };
        let inputs = Inputs::drawn(Network::ConvVae, size, 1).unwrap();
        let found = measure(Network::ConvVae, inputs, 1, 1).unwrap();
        assert_eq!((found.steps, found.first_losses.len()), (1, 5));
        assert!(found.first_losses[4] < found.first_losses[0]);
        assert!(found.cpu_ms_per_step >= 0.0 && found.wall_ms_per_step > 0.0);
        assert!(found.peak_rss_mb >= found.start_rss_mb && found.start_rss_mb > 0.0);
    }

    #[test]
    fn threads_change_no_loss() {
        let size = Size {
            batch: 8,
            pixels: 8,
        };
        for network in Network::ALL {
            let run = |threads| {
                let inputs = Inputs::drawn(network, size, 1).unwrap();
                measure(network, inputs, threads, 1).unwrap().first_losses
            };
            assert_eq!(run(1), run(2), "{network}");
        }
    }
}
