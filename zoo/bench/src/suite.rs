//! The suite: each network in a process of its own, in turns with PyTorch.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use serde::Serialize;
use zoo_kernels::MatmulShape;

use crate::{
    Error, Measured, Network, Result, Size,
    inputs::Inputs,
    statistics::{Clock, fastest, median},
    torch::{SCRIPT, Torch, TorchCase},
};

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which networks.
    pub networks: Vec<Network>,
    /// CPU threads, one measurement each.
    pub threads: Vec<usize>,
    /// Sizes of drawn inputs; a weights file brings its own.
    pub sizes: Vec<Size>,
    /// Steps to measure, or as many as take some seconds.
    pub steps: Option<u64>,
    /// Processes for each measurement, of which the median counts.
    pub rounds: usize,
    /// Of drawn inputs.
    pub seed: u64,
    /// A safetensors file for one network, or a folder with one for each.
    pub weights: Option<PathBuf>,
    /// A Python that has PyTorch.
    pub torch: Option<PathBuf>,
}

/// One measurement, for the process that carries it out.
#[derive(Clone, Debug)]
pub struct Case {
    /// Which network.
    pub network: Network,
    /// Of drawn inputs.
    pub size: Size,
    /// CPU threads.
    pub threads: usize,
    /// Steps to measure.
    pub steps: u64,
    /// Of drawn inputs.
    pub seed: u64,
    /// Where the inputs stand, if they are not drawn.
    pub weights: Option<PathBuf>,
}

impl Case {
    /// Measures it in this process.
    pub fn measure(&self) -> Result<Measured> {
        let inputs = match &self.weights {
            Some(path) => Inputs::read(self.network, path)?,
            None => Inputs::drawn(self.network, self.size, self.seed)?,
        };
        crate::measure(self.network, inputs, self.threads, self.steps)
    }
}

/// How many times faster than PyTorch: above 1 is faster.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ratio {
    /// By CPU time.
    pub cpu: f64,
    /// By the clock.
    pub wall: f64,
}

/// PyTorch beside one result.
#[derive(Clone, Debug, Serialize)]
pub struct Beside {
    /// With `torch.optim.Adam`.
    pub plain: Measured,
    /// With `torch.optim.Adam(fused=True)`.
    pub fused: Measured,
    /// Against `plain`.
    pub ratio_plain: Ratio,
    /// Against `fused`.
    pub ratio_fused: Ratio,
    /// Largest relative difference of the first five losses.
    pub loss_difference: f64,
}

/// Medians of one network with so many threads.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What it took.
    #[serde(flatten)]
    pub measured: Measured,
    /// CPU milliseconds that the products and convolutions of a step would take as one large matrix product.
    pub limit_ms_per_step: f64,
    /// The limit over the CPU time taken.
    pub share_of_gemm_peak: f64,
    /// PyTorch, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub torch: Option<Beside>,
}

/// All measurements.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// In the order asked for.
    pub results: Vec<Row>,
    /// GFLOP/s of a large matrix product on one core.
    pub gemm_gflops: f64,
    /// Processes for each measurement.
    pub rounds: usize,
    /// PyTorch's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub torch_version: Option<String>,
}

/// Measures everything. `child` makes the command that carries out a [`Case`] in a process of its own and prints its [`Measured`] as JSON;
/// `note` hears what is done.
pub fn run(
    options: &Options,
    child: &dyn Fn(&Case) -> Command,
    note: &mut dyn FnMut(&str),
) -> Result<Report> {
    check(options)?;
    let script = match options.torch {
        Some(_) => Some(write_script()?),
        None => None,
    };
    let torch = match (&options.torch, &script) {
        (Some(python), Some(script)) => Some(Torch {
            python,
            script: script.path(),
        }),
        _ => None,
    };
    let torch_version = torch.as_ref().map(Torch::version).transpose()?;
    let gemm_gflops = gemm_peak()?;
    note(&format!(
        "a large matrix product: {gemm_gflops:.0} GFLOP/s on one core"
    ));
    let mut results = Vec::new();
    for &network in &options.networks {
        for &size in &options.sizes {
            for &threads in &options.threads {
                let case = Case {
                    network,
                    size,
                    threads,
                    steps: options.steps.unwrap_or_else(|| some_seconds(network, size)),
                    seed: options.seed,
                    weights: options
                        .weights
                        .as_deref()
                        .map(|path| Inputs::file(network, path)),
                };
                let row = one(&case, options.rounds, torch.as_ref(), child, gemm_gflops)?;
                note(&format!(
                    "{network}, {threads} thread(s): {:.2} ms of CPU a step",
                    row.measured.cpu_ms_per_step
                ));
                results.push(row);
            }
        }
    }
    Ok(Report {
        results,
        gemm_gflops,
        rounds: options.rounds,
        torch_version,
    })
}

fn check(options: &Options) -> Result<()> {
    if options.rounds == 0 || options.steps == Some(0) || options.threads.contains(&0) {
        return Err(Error::input("rounds, steps and threads must be at least 1"));
    }
    let Some(path) = &options.weights else {
        return Ok(());
    };
    if options.networks.len() > 1 && !path.is_dir() {
        return Err(Error::input(format!(
            "{} holds the weights of one network: name it with --network, or give a folder with a file for each",
            path.display()
        )));
    }
    if options.sizes != [Size::default()] {
        return Err(Error::input(
            "a weights file brings its own images: leave out --batch and --pixels",
        ));
    }
    Ok(())
}

/// As many steps as take some seconds.
fn some_seconds(network: Network, size: Size) -> u64 {
    let usual = network.flops(Size::default()) / network.flops(size);
    ((network.steps() as f64 * usual) as u64).clamp(1, 1000)
}

fn one(
    case: &Case,
    rounds: usize,
    torch: Option<&Torch<'_>>,
    child: &dyn Fn(&Case) -> Command,
    gemm_gflops: f64,
) -> Result<Row> {
    let by_torch = |fused| {
        torch.map(|torch| {
            torch.measure(&TorchCase {
                network: case.network,
                size: case.size,
                seed: case.seed,
                threads: case.threads,
                steps: case.steps,
                fused,
                weights: case.weights.as_deref(),
            })
        })
    };
    let (mut ours, mut plain, mut fused) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        // The other way round in every other round, so that a machine that slows down favours nobody.
        let forwards = round % 2 == 0;
        if forwards {
            ours.push(in_child(case, child(case))?);
        }
        plain.extend(by_torch(false).transpose()?);
        fused.extend(by_torch(true).transpose()?);
        if !forwards {
            ours.push(in_child(case, child(case))?);
        }
    }
    let measured = medians(&ours)?;
    let size = Size {
        batch: measured.batch,
        pixels: measured.pixels,
    };
    let limit_ms_per_step = case.network.flops(size) / gemm_gflops / 1e6;
    let torch = match torch {
        Some(_) => Some(beside(&measured, medians(&plain)?, medians(&fused)?)),
        None => None,
    };
    Ok(Row {
        share_of_gemm_peak: limit_ms_per_step / measured.cpu_ms_per_step,
        limit_ms_per_step,
        measured,
        torch,
    })
}

fn in_child(case: &Case, mut command: Command) -> Result<Measured> {
    let problem = |message: String| Error::Child {
        what: format!("{} with {} thread(s)", case.network, case.threads),
        message,
    };
    let ended = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| problem(e.to_string()))?;
    if !ended.status.success() {
        let said = String::from_utf8_lossy(&ended.stderr);
        let said = said.trim().trim_start_matches("error: ");
        return Err(match ended.status.code() {
            // It got what this process was given.
            Some(2) => Error::input(said),
            _ => problem(format!("{}: {said}", ended.status)),
        });
    }
    serde_json::from_slice(&ended.stdout).map_err(|e| problem(e.to_string()))
}

/// The median of each figure; what does not vary is the first's.
fn medians(rounds: &[Measured]) -> Result<Measured> {
    let Some(first) = rounds.first() else {
        return Err(Error::input("at least one round"));
    };
    let of = |figure: fn(&Measured) -> f64| median(rounds.iter().map(figure).collect());
    Ok(Measured {
        cpu_ms_per_step: of(|m| m.cpu_ms_per_step),
        wall_ms_per_step: of(|m| m.wall_ms_per_step),
        images_per_s: of(|m| m.images_per_s),
        peak_rss_mb: of(|m| m.peak_rss_mb),
        start_rss_mb: of(|m| m.start_rss_mb),
        ..first.clone()
    })
}

fn beside(ours: &Measured, plain: Measured, fused: Measured) -> Beside {
    let ratio = |torch: &Measured| Ratio {
        cpu: torch.cpu_ms_per_step / ours.cpu_ms_per_step,
        wall: torch.wall_ms_per_step / ours.wall_ms_per_step,
    };
    let losses = ours.first_losses.iter().zip(&plain.first_losses);
    Beside {
        ratio_plain: ratio(&plain),
        ratio_fused: ratio(&fused),
        loss_difference: losses.map(|(a, b)| ((a - b) / b).abs()).fold(0.0, f64::max),
        plain,
        fused,
    }
}

fn write_script() -> Result<tempfile::NamedTempFile> {
    let problem = |e: std::io::Error| Error::input(format!("cannot write PyTorch's script: {e}"));
    let file = tempfile::Builder::new()
        .prefix("torch_suite-")
        .suffix(".py")
        .tempfile()
        .map_err(problem)?;
    std::fs::write(file.path(), SCRIPT).map_err(problem)?;
    Ok(file)
}

/// GFLOP/s of a product of 1024 x 1024 matrices on one core, the fastest of some.
pub fn gemm_peak() -> Result<f64> {
    let problem = |message: String| Error::Kernel {
        kernel: "matmul".into(),
        message,
    };
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .map_err(|e| problem(e.to_string()))?;
    let side = 1024;
    let shape = MatmulShape {
        batch: 1,
        m: side,
        n: side,
        k: side,
        a_transposed: false,
        b_transposed: false,
    };
    let (a, b, mut c) = (
        vec![0.5; side * side],
        vec![0.25; side * side],
        vec![0.0; side * side],
    );
    let seconds = pool.install(|| {
        fastest(Clock::Cpu, 1.5, || {
            zoo_kernels::matmul(&a, &b, &shape, false, &mut c).map_err(|e| problem(e.to_string()))
        })
    })?;
    Ok(2.0 * (side as f64).powi(3) / seconds / 1e9)
}

impl Report {
    /// A table for people; its first row is the head.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let sizes = self
            .results
            .iter()
            .map(|r| (r.measured.batch, r.measured.pixels));
        let several = sizes.clone().any(|s| Some(s) != sizes.clone().next());
        let torch = self.results.iter().any(|r| r.torch.is_some());
        let mut head = vec!["network", "threads"];
        if several {
            head.extend(["batch", "pixels"]);
        }
        head.extend(["CPU ms", "wall ms", "images/s", "MiB", "of gemm peak"]);
        if several {
            head.push("ns/pixel");
        }
        if torch {
            head.extend(["torch CPU", "fused", "wall", "fused", "MiB"]);
            head.extend(["faster CPU", "fused", "wall", "fused"]);
        }
        let mut rows = vec![head.into_iter().map(str::to_owned).collect()];
        for row in &self.results {
            let m = &row.measured;
            let mut cells = vec![m.network.clone(), m.threads.to_string()];
            if several {
                cells.extend([m.batch.to_string(), m.pixels.to_string()]);
            }
            cells.extend([
                ms(m.cpu_ms_per_step),
                ms(m.wall_ms_per_step),
                format!("{:.0}", m.images_per_s),
                format!("{:.0}", m.peak_rss_mb),
                format!("{:.0} %", row.share_of_gemm_peak * 100.0),
            ]);
            if several {
                let pixels = (m.batch * m.pixels * m.pixels) as f64;
                cells.push(format!("{:.0}", m.cpu_ms_per_step * 1e6 / pixels));
            }
            if let Some(t) = &row.torch {
                cells.extend([
                    ms(t.plain.cpu_ms_per_step),
                    ms(t.fused.cpu_ms_per_step),
                    ms(t.plain.wall_ms_per_step),
                    ms(t.fused.wall_ms_per_step),
                    // Without what importing PyTorch takes.
                    format!("{:.0}", t.fused.peak_rss_mb - t.fused.start_rss_mb),
                ]);
                for ratio in [
                    t.ratio_plain.cpu,
                    t.ratio_fused.cpu,
                    t.ratio_plain.wall,
                    t.ratio_fused.wall,
                ] {
                    cells.push(format!("{ratio:.2}"));
                }
            }
            rows.push(cells);
        }
        rows
    }
}

fn ms(value: f64) -> String {
    format!("{value:.*}", if value < 100.0 { 2 } else { 0 })
}
