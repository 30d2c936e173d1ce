//! ONNX Runtime, through a library that is loaded when it is needed.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use ort::{
    LoadDynamicError,
    environment::Environment,
    ep::{self, ExecutionProvider, ExecutionProviderDispatch},
    logging::LogLevel,
    session::{
        RunOptions, Session, SessionInputValue, builder::AutoDevicePolicy, builder::SessionBuilder,
    },
    value::{DynValue, Tensor, TensorElementType, TensorRef},
};
use zoo_sdk::{Array, Data, Port, Tensors};

use crate::{
    Device, Error, LoadOptions, Loaded, Result, Runtime, RuntimeId, Search, Stopper,
    convert::{bools, half_bits, halves},
    guard::guarded,
    ort_library,
    session::{self, Engine},
};

/// A process has one library and one environment, for ever.
static STARTED: Mutex<Option<Started>> = Mutex::new(None);

#[derive(Clone)]
struct Started {
    path: PathBuf,
    /// Left out where the library was loaded and its environment could not be made: that cannot be undone.
    environment: Option<Environment>,
}

pub(crate) struct Ort {
    path: PathBuf,
    version: String,
    environment: Environment,
}

fn unavailable(reason: String) -> Error {
    Error::Unavailable {
        runtime: RuntimeId::Ort,
        reason,
    }
}

impl Ort {
    pub fn find(search: &Search) -> Result<Self> {
        let path = ort_library::find(search)?;
        let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
        match &*started {
            Some(other) if other.path != path => {
                return Err(unavailable(format!(
                    "this process already uses the library {}, it cannot use {} as well",
                    other.path.display(),
                    path.display()
                )));
            }
            Some(_) => {}
            None => {
                let environment = start(&path, &mut started)?;
                *started = Some(Started {
                    path: path.clone(),
                    environment: Some(environment),
                });
            }
        }
        let environment = started.as_ref().and_then(|s| s.environment.clone());
        let environment = environment.ok_or_else(|| {
            unavailable(format!(
                "{} did not start before, see the first error",
                path.display()
            ))
        })?;
        let version = version(&path);
        Ok(Self {
            path,
            version,
            environment,
        })
    }

    fn device_error(&self, device: Device, reason: String) -> Error {
        Error::Device {
            runtime: RuntimeId::Ort,
            device,
            reason,
        }
    }

    /// The providers for `device`, first choice first, none of which may fail silently.
    fn providers(&self, device: Device) -> Result<Vec<ExecutionProviderDispatch>> {
        let cuda = |index: u32| {
            // TensorFloat-32 rounds inputs to 10 bits: results would not compare with other runtimes.
            let provider = ep::CUDA::default().with_device_id(index as i32);
            self.provider(device, provider.with_tf32(false))
        };
        match device {
            Device::Cpu => Ok(Vec::new()),
            Device::Cuda(index) => Ok(vec![cuda(index)?]),
            Device::TensorRt(index) => {
                let provider = ep::TensorRT::default().with_device_id(index as i32);
                let providers = vec![self.provider(device, provider)?, cuda(index)?];
                if std::env::var_os("NVIDIA_TF32_OVERRIDE").is_none_or(|value| value != "0") {
                    tracing::warn!(
                        "TensorRT may compute in TensorFloat-32; set NVIDIA_TF32_OVERRIDE=0 for full precision"
                    );
                }
                Ok(providers)
            }
            Device::CoreMl => Ok(vec![self.provider(device, ep::CoreML::default())?]),
            Device::DirectMl(index) => {
                let provider = ep::DirectML::default().with_device_id(index as i32);
                Ok(vec![self.provider(device, provider)?])
            }
            Device::WebGpu => Ok(vec![self.provider(device, ep::WebGPU::default())?]),
        }
    }

    fn provider<P>(&self, device: Device, provider: P) -> Result<ExecutionProviderDispatch>
    where
        P: ExecutionProvider + Into<ExecutionProviderDispatch>,
    {
        match P::is_available() {
            Ok(true) => Ok(provider.into().error_on_failure()),
            Ok(false) => {
                let advice = match device {
                    Device::Cuda(_) | Device::TensorRt(_) => "run `zoo runtime install ort --gpu`",
                    _ => "name a library built with it (--ort PATH)",
                };
                let (path, version) = (self.path.display(), &self.version);
                Err(self.device_error(
                    device,
                    format!(
                        "the library {path} (ONNX Runtime {version}) is built without the {}; {advice}",
                        P::NAME
                    ),
                ))
            }
            Err(error) => Err(self.device_error(device, error.to_string())),
        }
    }

    fn builder(&self, options: &LoadOptions) -> ort::Result<SessionBuilder> {
        let mut builder = Session::builder(&self.environment)?
            // Otherwise ort may choose Core ML or an NPU where there is one.
            .with_auto_device(AutoDevicePolicy::PreferCPU)?
            .with_no_environment_execution_providers()?;
        if options.threads > 0 {
            builder = builder.with_intra_threads(options.threads)?;
        }
        if matches!(options.device, Device::DirectMl(_)) {
            // DirectML's own condition.
            builder = builder.with_memory_pattern(false)?;
        }
        Ok(builder)
    }
}

/// Loads the library. `started` is set as soon as that cannot be undone.
fn start(path: &PathBuf, started: &mut Option<Started>) -> Result<Environment> {
    let advice = "Run `zoo runtime install ort`, or name another library with --ort PATH";
    let begun = guarded(|| ort::init_from(path)).map_err(|panic| {
        unavailable(format!(
            "{} does not load: {panic}. {advice}",
            path.display()
        ))
    })?;
    let builder = begun.map_err(|error| {
        let reason = match error {
            LoadDynamicError::BadVersion { version_str, .. } => format!(
                "{} is ONNX Runtime {version_str}; 1.{} or newer is needed",
                path.display(),
                ort::MINOR_VERSION
            ),
            LoadDynamicError::MissingApi { .. } => {
                format!("{} is a library, but not ONNX Runtime", path.display())
            }
            other => other.to_string(),
        };
        unavailable(format!("{reason}. {advice}"))
    })?;
    *started = Some(Started {
        path: path.clone(),
        environment: None,
    });
    let logger = |level: LogLevel, category: &str, _: &str, _: &str, message: &str| match level {
        LogLevel::Error | LogLevel::Fatal | LogLevel::Warning => {
            tracing::debug!(target: "onnxruntime", category, "{message}");
        }
        _ => tracing::trace!(target: "onnxruntime", category, "{message}"),
    };
    let build = || {
        builder
            .with_name("zoo")
            .with_telemetry(false)
            .with_logger(Arc::new(logger))
            .build()
    };
    let environment = guarded(build)
        .and_then(|built| built.map_err(|error| error.to_string()))
        .map_err(|error| unavailable(format!("{} does not start: {error}", path.display())))?;
    environment.set_log_level(LogLevel::Warning);
    Ok(environment)
}

/// `1.32.0`; only the first two numbers where neither the build nor the file's name tells more.
fn version(path: &PathBuf) -> String {
    let built = ort::info()
        .split_once("git-branch=rel-")
        .and_then(|(_, rest)| rest.split(',').next())
        .map(str::to_string);
    let named = || {
        let name = path.file_name()?.to_str()?;
        let numbers = ort_library::library_version(name).filter(|n| n.len() == 3)?;
        Some(
            numbers
                .iter()
                .map(u32::to_string)
                .collect::<Vec<_>>()
                .join("."),
        )
    };
    let probed = || Some(format!("1.{}", ort::util::probe(path)?));
    built.or_else(named).or_else(probed).unwrap_or_default()
}

impl Runtime for Ort {
    fn id(&self) -> RuntimeId {
        RuntimeId::Ort
    }

    fn version(&self) -> String {
        self.version.clone()
    }

    fn path(&self) -> Option<PathBuf> {
        Some(self.path.clone())
    }

    fn load(&self, model: &[u8], options: &LoadOptions) -> Result<Box<dyn Loaded>> {
        let device = options.device;
        let providers = self.providers(device)?;
        session::load(RuntimeId::Ort, model, |_| {
            let text = |error: ort::Error| error.to_string();
            let mut builder = self.builder(options).map_err(text)?;
            if device != Device::Cpu {
                builder = builder
                    .with_execution_providers(providers)
                    .map_err(|error| format!("no session on {device}: {error}"))?;
                return on_device(builder, model, device).and_then(OrtEngine::new);
            }
            let session = builder.commit_from_memory(model).map_err(text)?;
            OrtEngine::new(session)
        })
    }
}

/// A session of which every node runs on the device; where one would not, an error that names it.
fn on_device(builder: SessionBuilder, model: &[u8], device: Device) -> Result<Session, String> {
    let mut strict = builder
        .clone()
        .with_disable_cpu_fallback()
        .map_err(|e| e.to_string())?;
    strict.commit_from_memory(model).map_err(|error| {
        let error = error.to_string();
        match nodes_on_cpu(builder, model) {
            nodes if nodes.is_empty() => format!("no session on {device}: {error}"),
            nodes => format!(
                "on {device}, these nodes would run on the CPU: {} ({error})",
                nodes.join(", ")
            ),
        }
    })
}

/// The nodes that a session without conditions puts on the CPU; it tells its log where they went.
fn nodes_on_cpu(builder: SessionBuilder, model: &[u8]) -> Vec<String> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let log = lines.clone();
    let logger = move |_: LogLevel, _: &str, _: &str, _: &str, message: &str| {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push(message.to_string());
    };
    let verbose = || -> ort::Result<Session> {
        let builder = builder.with_logger(Arc::new(logger))?;
        let mut builder = builder.with_log_level(LogLevel::Verbose)?;
        builder.commit_from_memory(model)
    };
    // Where even this fails, the log may still tell.
    drop(verbose());
    let lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
    placed_on_cpu(&lines)
}

/// Reads `Node(s) placed on [CPUExecutionProvider]. ...` and the `  Op (name)` that follow. Where all nodes are there, the
/// log does not name them.
fn placed_on_cpu(log: &[String]) -> Vec<String> {
    let mut on_cpu = false;
    let mut nodes = Vec::new();
    for line in log.iter().flat_map(|message| message.lines()) {
        let line = line.trim();
        let lower = line.to_ascii_lowercase();
        if lower.starts_with("all nodes placed on") && line.contains("[CPUExecutionProvider]") {
            return vec!["all of them".into()];
        } else if lower.starts_with("node(s) placed on") {
            on_cpu = line.contains("[CPUExecutionProvider]");
        } else if on_cpu && line.ends_with(')') && line.contains(" (") {
            nodes.push(line.to_string());
        } else {
            on_cpu = false;
        }
    }
    nodes
}

struct OrtEngine {
    session: Session,
    options: Arc<RunOptions>,
}

impl OrtEngine {
    fn new(session: Session) -> Result<Self, String> {
        let options = Arc::new(RunOptions::new().map_err(|e| e.to_string())?);
        Ok(Self { session, options })
    }
}

impl Engine for OrtEngine {
    fn run(&mut self, ports: &[Port], inputs: &Tensors) -> Result<Vec<Array>, String> {
        let values = inputs.iter().map(|(name, array)| {
            let value = to_ort(array).map_err(|e| format!("input {name:?}: {e}"))?;
            Ok((name.as_str(), value))
        });
        let values = values.collect::<Result<Vec<_>, String>>()?;
        let outputs = self
            .session
            .run_with_options(values, &self.options)
            .map_err(|e| e.to_string())?;
        let outputs = ports.iter().map(|port| {
            let value = outputs.get(&port.name);
            let value = value.ok_or_else(|| format!("it gave no output {:?}", port.name))?;
            from_ort(value).map_err(|e| format!("output {:?}: {e}", port.name))
        });
        outputs.collect()
    }

    fn stopper(&self) -> Option<Stopper> {
        let options = self.options.clone();
        Some(Arc::new(move || {
            if let Err(error) = options.terminate() {
                tracing::debug!("ort cannot be asked to end: {error}");
            }
        }))
    }
}

/// Borrows where the element types agree.
fn to_ort(array: &Array) -> ort::Result<SessionInputValue<'_>> {
    let shape = array.shape().to_vec();
    Ok(match array.data() {
        Data::F32(v) => TensorRef::from_array_view((shape, v.as_slice()))?.into(),
        Data::F64(v) => TensorRef::from_array_view((shape, v.as_slice()))?.into(),
        Data::I64(v) => TensorRef::from_array_view((shape, v.as_slice()))?.into(),
        Data::I32(v) => TensorRef::from_array_view((shape, v.as_slice()))?.into(),
        Data::U8(v) => TensorRef::from_array_view((shape, v.as_slice()))?.into(),
        Data::F16(v) => Tensor::from_array((shape, halves(v)))?.into(),
        Data::Bool(v) => Tensor::from_array((shape, bools(v)))?.into(),
    })
}

fn from_ort(value: &DynValue) -> Result<Array, String> {
    macro_rules! read {
        ($ty:ty, $convert:expr) => {{
            let (shape, values) = value
                .try_extract_tensor::<$ty>()
                .map_err(|e| e.to_string())?;
            #[allow(clippy::redundant_closure_call)]
            (shape.to_vec(), $convert(values))
        }};
    }
    let dtype = value.dtype().tensor_type().ok_or("is no tensor")?;
    let (shape, data) = match dtype {
        TensorElementType::Float32 => read!(f32, |v: &[f32]| Data::F32(v.to_vec())),
        TensorElementType::Float64 => read!(f64, |v: &[f64]| Data::F64(v.to_vec())),
        TensorElementType::Float16 => read!(half::f16, |v: &[half::f16]| Data::F16(half_bits(v))),
        TensorElementType::Int64 => read!(i64, |v: &[i64]| Data::I64(v.to_vec())),
        TensorElementType::Int32 => read!(i32, |v: &[i32]| Data::I32(v.to_vec())),
        TensorElementType::Uint8 => read!(u8, |v: &[u8]| Data::U8(v.to_vec())),
        TensorElementType::Bool => {
            read!(bool, |v: &[bool]| Data::Bool(
                v.iter().map(|&b| b.into()).collect()
            ))
        }
        other => return Err(format!("is of {other:?}, which is not supported")),
    };
    let shape = shape.iter().map(|&d| usize::try_from(d));
    let shape: Vec<usize> = shape.collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    Array::new(shape, data).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common;

    #[test]
    fn nodes_on_the_cpu_are_refused_and_named() {
        let Ok(ort) = Ort::find(&Search::default()) else {
            assert!(std::env::var_os("ORT_DYLIB_PATH").is_none());
            println!("skipped: no ONNX Runtime library");
            return;
        };
        // A session without any provider stands for one whose provider takes no node.
        let builder = ort.builder(&LoadOptions::default()).unwrap();
        let model = common::bytes(&common::mlp());
        let error = on_device(builder, &model, Device::Cuda(0)).unwrap_err();
        assert!(
            error.starts_with("on cuda:0, these nodes would run on the CPU: "),
            "{error}"
        );
        assert!(error.contains("all of them"), "{error}");
    }

    #[test]
    fn the_log_tells_where_nodes_went() {
        let log = |text: &str| text.lines().map(str::to_string).collect::<Vec<_>>();
        let mixed = "Node placements\n Node(s) placed on [CPUExecutionProvider]. Number of nodes: 2\n  NonZero (mask)\n  \
            Shape (decoder.1)\n Node(s) placed on [CUDAExecutionProvider]. Number of nodes: 1\n  Conv (decoder.0)\nother";
        assert_eq!(
            placed_on_cpu(&log(mixed)),
            ["NonZero (mask)", "Shape (decoder.1)"]
        );
        let all = " All nodes placed on [CPUExecutionProvider]. Number of nodes: 3";
        assert_eq!(placed_on_cpu(&log(all)), ["all of them"]);
        assert!(
            placed_on_cpu(&log(
                "Node(s) placed on [CUDAExecutionProvider].\n  Conv (a)"
            ))
            .is_empty()
        );
    }
}
