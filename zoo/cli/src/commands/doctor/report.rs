//! What this program finds on this machine.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;
use zoo_data::KNOWN;
use zoo_graph::Node;
use zoo_runs::Registry;
use zoo_runtimes::{Device, LoadOptions, Runtime, Search};
use zoo_sdk::{DataSpec, Graph, OpenRequest, Port, RuntimeId, Tensors};

/// What this program finds on this machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The program's version.
    pub version: String,
    /// `linux x86_64`.
    pub system: String,
    /// CPU threads that it may use.
    pub cores: usize,
    /// Instruction sets that the kernels can use here.
    pub cpu_features: Vec<String>,
    /// Everything that runs ONNX files, and candle, that trains.
    pub runtimes: Vec<RuntimeReport>,
    /// Models that can be trained.
    pub models: Vec<ModelReport>,
    /// Data sets that come with the program and are here.
    pub data: Vec<DataReport>,
    /// Where libraries are installed, where there is a home.
    pub data_dir: Option<PathBuf>,
}

/// A runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RuntimeReport {
    /// Which one.
    pub name: RuntimeId,
    /// Whether it can be used.
    pub found: bool,
    /// Its version.
    pub version: Option<String>,
    /// The library, where it is not part of the program.
    pub path: Option<PathBuf>,
    /// Devices that it computes on here.
    pub devices: Vec<String>,
    /// What is missing and how to get it.
    pub reason: Option<String>,
}

/// A model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelReport {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// A data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DataReport {
    /// Its name.
    pub name: String,
    /// One line for people.
    pub summary: String,
    /// Its licence.
    pub licence: String,
}

/// Looks around. Never fails: what is missing is part of the report.
pub fn doctor(registry: &Registry, search: &Search) -> Report {
    let mut runtimes = vec![candle(registry)];
    for (id, runtime) in zoo_runtimes::found(search) {
        runtimes.push(match runtime {
            Ok(runtime) => RuntimeReport {
                name: id,
                found: true,
                version: Some(runtime.version()),
                path: runtime.path(),
                devices: devices(runtime.as_ref()),
                reason: None,
            },
            Err(error) => missing(id, error.to_string()),
        });
    }
    for id in zoo_runtimes::not_built() {
        let reason = format!("this program was built without it; build with --features {id}");
        runtimes.push(missing(id, reason));
    }
    Report {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        cpu_features: cpu_features(),
        runtimes,
        models: registry
            .descriptions()
            .map(|d| ModelReport {
                name: d.name.clone(),
                version: d.version.clone(),
            })
            .collect(),
        data: KNOWN
            .iter()
            .filter(|k| k.is_here())
            .map(|k| DataReport {
                name: k.name.to_owned(),
                summary: k.summary.to_owned(),
                licence: k.licence.to_owned(),
            })
            .collect(),
        data_dir: data_dir(search),
    }
}

fn missing(name: RuntimeId, reason: String) -> RuntimeReport {
    RuntimeReport {
        name,
        reason: Some(reason),
        ..RuntimeReport::default()
    }
}

fn data_dir(search: &Search) -> Option<PathBuf> {
    let named = search.data_dir.clone();
    named.or_else(zoo_files::default_data_dir)
}

/// Devices on which a small file can be loaded. A runtime refuses what it does not have.
fn devices(runtime: &dyn Runtime) -> Vec<String> {
    let Ok(file) = small_file() else {
        return Vec::new();
    };
    let all = [
        Device::Cpu,
        Device::Cuda(0),
        Device::TensorRt(0),
        Device::CoreMl,
        Device::DirectMl(0),
        Device::WebGpu,
    ];
    let usable = all.into_iter().filter(|&device| {
        let options = LoadOptions { device, threads: 1 };
        runtime.load(&file, &options).is_ok()
    });
    usable.map(|device| device.to_string()).collect()
}

/// y = relu(x)
fn small_file() -> zoo_onnx::Result<Vec<u8>> {
    let ports = |name: &str| vec![Port::batched(name, &[4])];
    let (x, y) = (ports("x"), ports("y"));
    let types = x.iter().chain(&y).map(|p| (p.name.clone(), p.value_type()));
    let graph = Graph {
        name: "probe".into(),
        types: types.collect(),
        nodes: vec![Node {
            name: "y".into(),
            op: "Relu".into(),
            inputs: vec!["x".into()],
            outputs: vec!["y".into()],
            ..Node::default()
        }],
        inputs: x,
        outputs: y,
        ..Graph::default()
    };
    let variants = zoo_onnx::export(&graph, &zoo_onnx::Options::default())?;
    Ok(variants
        .into_iter()
        .next()
        .map_or_else(Vec::new, |v| v.content.onnx().concat()))
}

/// candle is part of the program. A device that it has gets as far as complaining about the weights that are not given
/// here; one that it does not have is refused before that.
fn candle(registry: &Registry) -> RuntimeReport {
    let outcome = |device: &str| {
        let model = registry.descriptions().next()?;
        let plugin = registry.get(&model.name).ok()?;
        let opened = plugin.open(&OpenRequest {
            model: model.defaults.get("model").cloned().unwrap_or_default(),
            data: DataSpec {
                name: "probe".into(),
                image: [1, 28, 28],
                ..DataSpec::default()
            },
            weights: Tensors::new(),
            threads: 1,
            device: device.to_owned(),
        });
        Some(opened.err().map(|error| error.to_string()))
    };
    let cpu = outcome("cpu");
    let others = ["cuda:0", "metal"].into_iter();
    let others = others.filter(|device| cpu.is_some() && outcome(device) == cpu);
    RuntimeReport {
        name: RuntimeId::Candle,
        found: true,
        devices: std::iter::once("cpu")
            .chain(others)
            .map(str::to_owned)
            .collect(),
        ..RuntimeReport::default()
    }
}

/// What the kernels choose among at run time.
fn cpu_features() -> Vec<String> {
    #[cfg(target_arch = "x86_64")]
    let features = [
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("fma", std::arch::is_x86_feature_detected!("fma")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let features: [(&str, bool); 0] = [];
    let there = features.into_iter().filter(|(_, there)| *there);
    there.map(|(name, _)| name.to_owned()).collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let threads = if self.cores == 1 { "thread" } else { "threads" };
        write!(
            f,
            "zoo {} on {}, {} {threads}",
            self.version, self.system, self.cores
        )?;
        if !self.cpu_features.is_empty() {
            write!(f, ", {}", self.cpu_features.join(" "))?;
        }
        writeln!(f, "\n\nruntimes")?;
        for runtime in &self.runtimes {
            let mark = if runtime.found { "found  " } else { "missing" };
            write!(f, "  {mark}  {:11}", runtime.name)?;
            let facts = [
                runtime.version.clone(),
                (!runtime.devices.is_empty()).then(|| format!("on {}", runtime.devices.join(", "))),
                runtime.path.as_ref().map(|path| path.display().to_string()),
                runtime.reason.clone(),
            ];
            let facts: Vec<String> = facts.into_iter().flatten().collect();
            writeln!(f, "  {}", facts.join("; "))?;
        }
        writeln!(f, "\nmodels")?;
        for model in &self.models {
            writeln!(f, "  {} {}", model.name, model.version)?;
        }
        writeln!(f, "\ndata sets that come with the program")?;
        for data in &self.data {
            writeln!(f, "  {}: {} ({})", data.name, data.summary, data.licence)?;
        }
        match &self.data_dir {
            Some(path) => write!(f, "\nlibraries are installed under {}", path.display()),
            None => write!(
                f,
                "\nno home folder: name the ONNX Runtime library with --ort PATH"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_doctor_says_what_is_missing_and_how_to_get_it() {
        let report = {
            let nowhere = Search {
                ort: Some("/nonexistent/libonnxruntime.so".into()),
                ..Search::default()
            };
            doctor(&zoo_builtins::registry().unwrap(), &nowhere)
        };
        let runtime = |id: RuntimeId| report.runtimes.iter().find(|r| r.name == id).unwrap();
        assert!(
            runtime(RuntimeId::Candle).found
                && runtime(RuntimeId::Candle)
                    .devices
                    .contains(&"cpu".to_owned())
        );
        assert_eq!(runtime(RuntimeId::Tract).devices, ["cpu"]);
        assert!(!runtime(RuntimeId::Ort).found);
        assert!(
            runtime(RuntimeId::Ort)
                .reason
                .as_ref()
                .unwrap()
                .contains("zoo runtime install ort")
        );
        let text = report.to_string();
        assert!(
            text.contains("fashion-small") && text.contains("vae 1"),
            "{text}"
        );
        let models = serde_json::to_value(&report).unwrap()["models"].clone();
        let models = models.as_array().unwrap().iter();
        assert!(models.map(|model| &model["name"]).any(|name| name == "vae"));
    }
}
