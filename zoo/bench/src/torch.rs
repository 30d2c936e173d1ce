//! The same networks in PyTorch, by the script in this crate.

use std::{path::Path, process::Command};

use serde::Deserialize;

use crate::{Error, Measured, Network, Result, Size};

/// `python/torch_suite.py`: trains one network and prints a line of JSON.
pub const SCRIPT: &str = include_str!("../python/torch_suite.py");

/// One run of the script.
#[derive(Clone, Debug)]
pub(crate) struct TorchCase<'a> {
    pub network: Network,
    pub size: Size,
    pub seed: u64,
    pub threads: usize,
    pub steps: u64,
    pub fused: bool,
    pub weights: Option<&'a Path>,
}

/// What the script prints.
#[derive(Deserialize)]
struct Line {
    steps: u64,
    wall: f64,
    user: f64,
    sys: f64,
    rss_mb: f64,
    start_rss_mb: f64,
    loss: Vec<f64>,
}

/// PyTorch of one interpreter.
pub(crate) struct Torch<'a> {
    pub python: &'a Path,
    /// Where [`SCRIPT`] stands.
    pub script: &'a Path,
}

impl Torch<'_> {
    fn call(&self, arguments: &[String]) -> Result<String> {
        let problem = |message: String| Error::Torch {
            python: self.python.to_path_buf(),
            message,
        };
        let ended = Command::new(self.python)
            .args(arguments)
            .output()
            .map_err(|e| problem(e.to_string()))?;
        if !ended.status.success() {
            let said = String::from_utf8_lossy(&ended.stderr);
            let last = said.lines().rfind(|l| !l.trim().is_empty());
            return Err(problem(
                last.unwrap_or("it ended without a word").trim().into(),
            ));
        }
        Ok(String::from_utf8_lossy(&ended.stdout).into_owned())
    }

    /// PyTorch's version; an error that says how to install it.
    pub fn version(&self) -> Result<String> {
        let code = "import torch, safetensors; print(torch.__version__)";
        let version = self.call(&["-c".into(), code.into()])?;
        Ok(version.trim().into())
    }

    /// Runs the script once.
    pub fn measure(&self, case: &TorchCase<'_>) -> Result<Measured> {
        let mut arguments = vec![
            self.script.display().to_string(),
            case.network.name().into(),
            case.steps.to_string(),
            "2".into(),
            format!("--threads={}", case.threads),
            format!("--seed={}", case.seed),
        ];
        if case.fused {
            arguments.push("--fusedadam".into());
        }
        match case.weights {
            Some(path) => arguments.push(format!("--weights={}", path.display())),
            None => {
                arguments.push(format!("--B={}", case.size.batch));
                arguments.push(format!("--pixels={}", case.size.pixels));
            }
        }
        let text = self.call(&arguments)?;
        let line: Line =
            serde_json::from_str(text.lines().last().unwrap_or_default()).map_err(|e| {
                Error::Torch {
                    python: self.python.to_path_buf(),
                    message: format!("the script did not print what it should: {e}"),
                }
            })?;
        Ok(Measured {
            network: case.network.name().into(),
            threads: case.threads,
            batch: case.size.batch,
            pixels: case.size.pixels,
            steps: line.steps,
            cpu_ms_per_step: (line.user + line.sys) * 1e3,
            wall_ms_per_step: line.wall * 1e3,
            images_per_s: case.size.batch as f64 / line.wall,
            peak_rss_mb: line.rss_mb,
            start_rss_mb: line.start_rss_mb,
            first_losses: line.loss,
        })
    }
}
