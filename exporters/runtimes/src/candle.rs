//! candle-onnx: candle's own reader of ONNX files, CPU only.

use std::collections::HashMap;

use candle_core::{DType as CandleType, Device as CandleDevice, Tensor};
use candle_onnx::{eval::get_tensor, onnx, simple_eval};
use prost::Message;
use zoo_sdk::{Array, DType, Data, Port, Tensors};

use crate::{
    Device, Error, LoadOptions, Loaded, Result, Runtime, RuntimeId,
    convert::{half_bits, halves},
    guard::guarded,
    model::Model,
    session::{self, Engine},
};

pub(crate) struct CandleOnnx;

impl Runtime for CandleOnnx {
    fn id(&self) -> RuntimeId {
        RuntimeId::CandleOnnx
    }

    fn version(&self) -> String {
        // candle does not tell; Cargo.lock holds the exact one.
        "0.11".into()
    }

    fn load(&self, model: &[u8], options: &LoadOptions) -> Result<Box<dyn Loaded>> {
        if options.device != Device::Cpu {
            return Err(Error::Device {
                runtime: RuntimeId::CandleOnnx,
                device: options.device,
                reason: "it computes on the CPU only; ort knows other devices".into(),
            });
        }
        session::load(RuntimeId::CandleOnnx, model, |file| {
            CandleEngine::new(model, file, options.threads)
        })
    }
}

struct CandleEngine {
    proto: onnx::ModelProto,
    weights: HashMap<String, Tensor>,
    pool: Option<rayon::ThreadPool>,
}

impl CandleEngine {
    fn new(bytes: &[u8], file: &Model, threads: usize) -> Result<Self, String> {
        if let Some(port) = file.inputs.iter().find(|p| p.dtype == DType::I32) {
            return Err(format!("input {:?}: it has no i32", port.name));
        }
        let mut proto = onnx::ModelProto::decode(bytes).map_err(|e| e.to_string())?;
        let graph = proto.graph.as_mut().ok_or("no graph")?;
        // `simple_eval` decodes every initializer at every call; as inputs they are decoded once.
        let mut weights = HashMap::new();
        for proto in std::mem::take(&mut graph.initializer) {
            let tensor =
                weight(&proto).map_err(|error| format!("initializer {:?}: {error}", proto.name))?;
            weights.insert(proto.name, tensor);
        }
        let pool = match threads {
            0 => None,
            n => Some(
                rayon::ThreadPoolBuilder::new()
                    .num_threads(n)
                    .build()
                    .map_err(|e| format!("cannot start {n} threads: {e}"))?,
            ),
        };
        Ok(Self {
            proto,
            weights,
            pool,
        })
    }

    fn eval(&self, inputs: HashMap<String, Tensor>) -> Result<HashMap<String, Tensor>, String> {
        simple_eval(&self.proto, inputs).map_err(text)
    }
}

/// `get_tensor` loses the shape of i32 tensors.
fn weight(proto: &onnx::TensorProto) -> Result<Tensor, String> {
    let dims: Vec<usize> = proto.dims.iter().map(|&d| d as usize).collect();
    let tensor = get_tensor(proto, &proto.name).and_then(|t| t.reshape(dims));
    tensor.map_err(text)
}

impl Engine for CandleEngine {
    fn run(&mut self, ports: &[Port], inputs: &Tensors) -> Result<Vec<Array>, String> {
        let mut values = self.weights.clone();
        for (name, array) in inputs {
            let tensor = to_candle(array).map_err(|e| format!("input {name:?}: {}", text(e)))?;
            values.insert(name.clone(), tensor);
        }
        let mut outputs = match &self.pool {
            // A pool's own threads are guarded where they run.
            Some(pool) => pool.install(|| guarded(|| self.eval(values)).and_then(|o| o))?,
            None => self.eval(values)?,
        };
        let outputs = ports.iter().map(|port| {
            let tensor = outputs.remove(&port.name);
            let tensor = tensor.ok_or_else(|| format!("it gave no output {:?}", port.name))?;
            from_candle(&tensor, port.dtype).map_err(|e| format!("output {:?}: {e}", port.name))
        });
        outputs.collect()
    }
}

/// candle's text, without the printed-out node that follows an unknown operator.
fn text(error: candle_core::Error) -> String {
    let text = error.to_string();
    match text.split_once(" for op NodeProto {") {
        Some((what, node)) => {
            let name = node
                .split("name: \"")
                .nth(1)
                .and_then(|n| n.split('"').next());
            format!("in node {:?}: {what}", name.unwrap_or_default())
        }
        None => text,
    }
}

fn to_candle(array: &Array) -> candle_core::Result<Tensor> {
    let (shape, device) = (array.shape(), &CandleDevice::Cpu);
    match array.data() {
        Data::F32(v) => Tensor::from_slice(v, shape, device),
        Data::F64(v) => Tensor::from_slice(v, shape, device),
        Data::F16(v) => Tensor::from_vec(halves(v), shape, device),
        Data::I64(v) => Tensor::from_slice(v, shape, device),
        Data::I32(v) => {
            let wide: Vec<i64> = v.iter().map(|&x| x.into()).collect();
            Tensor::from_vec(wide, shape, device)
        }
        // candle's comparisons give bytes as well.
        Data::U8(v) | Data::Bool(v) => Tensor::from_slice(v, shape, device),
    }
}

fn from_candle(tensor: &Tensor, declared: DType) -> Result<Array, String> {
    let flat = tensor.flatten_all().map_err(text)?;
    macro_rules! read {
        ($ty:ty) => {
            flat.to_vec1::<$ty>().map_err(text)?
        };
    }
    let data = match tensor.dtype() {
        CandleType::F32 => Data::F32(read!(f32)),
        CandleType::F64 => Data::F64(read!(f64)),
        CandleType::F16 => Data::F16(half_bits(&read!(half::f16))),
        CandleType::I64 => Data::I64(read!(i64)),
        CandleType::U8 if declared == DType::Bool => Data::Bool(read!(u8)),
        CandleType::U8 => Data::U8(read!(u8)),
        other => return Err(format!("is of {other:?}, which is not supported")),
    };
    Array::new(tensor.dims(), data).map_err(|error| error.to_string())
}
