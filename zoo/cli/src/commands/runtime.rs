//! `zoo runtime`

use clap::{Args, Subcommand};

use crate::failure::Result;
#[cfg(feature = "ort")]
use crate::failure::{Failure, Outcome};

/// Install what runs ONNX files
#[derive(Debug, Args)]
pub struct Runtime {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Install(Install),
}

const EXAMPLES: &str = "\
Examples:
  zoo runtime install ort
  zoo runtime install ort --gpu
  zoo runtime install ort --wheel onnxruntime-1.32.0-cp313-cp313-manylinux_2_28_x86_64.whl

It is downloaded with pip (the wheel `onnxruntime`, or `onnxruntime-gpu`) into your data folder;
nothing else on the system changes. `zoo doctor` shows what is found. tract is inside this program
and needs no installation.";

/// Download a runtime's library into your data folder
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
struct Install {
    /// ort: ONNX Runtime
    #[arg(value_parser = ["ort"])]
    runtime: String,
    /// The build for NVIDIA GPUs (CUDA and TensorRT); much larger
    #[arg(long)]
    gpu: bool,
    /// Install from a wheel that is already here instead of downloading one
    #[arg(long, value_name = "FILE.whl", conflicts_with = "gpu")]
    wheel: Option<std::path::PathBuf>,
}

/// Runs the command.
pub fn run(args: Runtime) -> Result {
    match args.command {
        Command::Install(args) => install(args),
    }
}

#[cfg(feature = "ort")]
fn install(args: Install) -> Result {
    use zoo_runtimes::install;

    let folder = zoo_files::default_data_dir().ok_or_else(|| {
        Failure::usage("there is no home folder to install into; set HOME or ZOO_DATA_DIR")
    })?;
    tracing::debug!("installing {} into {}", args.runtime, folder.display());
    let bar = crate::logging::bar(None, "{spinner} {msg}");
    bar.enable_steady_tick(std::time::Duration::from_millis(100));
    let mut progress = |step: &str| {
        bar.set_message(step.to_owned());
        tracing::info!("{step}");
    };
    let installed = match &args.wheel {
        Some(wheel) => install::install_ort_from_wheel(wheel, &folder, &mut progress),
        None => install::install_ort(&folder, args.gpu, &mut progress),
    };
    bar.finish_and_clear();
    let installed = installed?;
    crate::output::print(&format!(
        "ONNX Runtime {}\n  library  {}\n  sha256   {}\n",
        installed.version,
        installed.path.display(),
        installed.sha256
    ))?;
    Ok(Outcome::Done)
}

#[cfg(not(feature = "ort"))]
fn install(_: Install) -> Result {
    Err(crate::failure::Failure::usage(
        "this zoo was built without ONNX Runtime; build it with the feature `ort`",
    ))
}
