//! tract: pure Rust, always there, computes on one CPU thread.

use std::sync::Arc;

use tract_onnx::{
    pb::{self, tensor_shape_proto::dimension::Value as DimValue, type_proto::Value as TypeValue},
    prelude::{
        DatumType, Framework, InferenceFact, InferenceModelExt, IntoRunnable, TValue, TVec, Tensor,
        TractResult, TypedRunnableModel,
    },
    tract_core::ops::unimpl::UnimplementedOp,
};
use zoo_sdk::{Array, Data, Dim, Port, Sizes, Tensors, sizes_of};

use crate::{
    Device, Error, LoadOptions, Loaded, Result, Runtime, RuntimeId,
    convert::{bools, half_bits, halves},
    guard::guarded,
    model::Model,
    session::{self, Engine},
};

/// Plans kept for as many sets of input shapes; a plan holds its own packed weights.
const PLANS: usize = 8;

pub(crate) struct Tract;

impl Runtime for Tract {
    fn id(&self) -> RuntimeId {
        RuntimeId::Tract
    }

    fn version(&self) -> String {
        // tract does not tell; Cargo.lock holds the exact one.
        "0.23".into()
    }

    fn load(&self, model: &[u8], options: &LoadOptions) -> Result<Box<dyn Loaded>> {
        if options.device != Device::Cpu {
            return Err(Error::Device {
                runtime: RuntimeId::Tract,
                device: options.device,
                reason: "it computes on the CPU only; ort knows other devices".into(),
            });
        }
        session::load(RuntimeId::Tract, model, TractEngine::new)
    }
}

type Plan = Arc<TypedRunnableModel>;

struct TractEngine {
    proto: pb::ModelProto,
    /// In the model's order.
    inputs: Vec<Port>,
    /// The most recently used last.
    plans: Vec<(Vec<Vec<usize>>, Plan)>,
    /// For models that tract can only prepare with their symbols left open.
    symbolic: Option<Plan>,
}

impl TractEngine {
    fn new(file: &Model) -> Result<Self, String> {
        let model = tract_onnx::onnx()
            .model_for_proto_model(&file.proto)
            .map_err(text)?;
        if let Some(node) = model.nodes.iter().find(|n| n.op_is::<UnimplementedOp>()) {
            let op = file.operator(&node.name).unwrap_or_default();
            return Err(format!("in node {:?}: it has no operator {op}", node.name));
        }
        let inputs: Vec<String> = model
            .inputs
            .iter()
            .map(|outlet| model.nodes[outlet.node].name.clone())
            .collect();
        if !inputs.iter().eq(file.inputs.iter().map(|port| &port.name)) {
            return Err(format!("it takes the inputs to be {inputs:?}"));
        }
        Ok(Self {
            proto: file.proto.clone(),
            inputs: file.inputs.clone(),
            plans: Vec::new(),
            symbolic: None,
        })
    }

    /// A plan for exactly these inputs: with known sizes tract chooses better kernels than with a symbolic batch.
    fn plan(&mut self, arrays: &[&Array]) -> Result<Plan, String> {
        let shapes: Vec<Vec<usize>> = arrays.iter().map(|a| a.shape().to_vec()).collect();
        if let Some(at) = self.plans.iter().position(|(known, _)| *known == shapes) {
            self.plans[at..].rotate_left(1);
        } else if let Some(plan) = &self.symbolic {
            return Ok(plan.clone());
        } else {
            let fixed = guarded(|| self.fixed_plan(arrays)).and_then(|plan| plan.map_err(text));
            match fixed {
                Ok(plan) => {
                    if self.plans.len() == PLANS {
                        self.plans.remove(0);
                    }
                    self.plans.push((shapes, plan));
                }
                Err(error) => {
                    let plan = guarded(|| symbolic_plan(&self.proto));
                    let plan = plan.and_then(|plan| plan.map_err(text));
                    return Ok(self.symbolic.insert(plan.map_err(|_| error)?).clone());
                }
            }
        }
        let (_, plan) = self.plans.last().ok_or("no plan")?;
        Ok(plan.clone())
    }

    fn fixed_plan(&self, arrays: &[&Array]) -> TractResult<Plan> {
        let sizes = sizes_of(&self.inputs, |name| {
            let mut fed = self.inputs.iter().zip(arrays);
            let (_, array) = fed.find(|(port, _)| port.name == name)?;
            Some(array.shape())
        });
        let mut proto = self.proto.clone();
        if let Some(graph) = &mut proto.graph {
            fix(graph, &sizes);
        }
        let mut model = tract_onnx::onnx().model_for_proto_model(&proto)?;
        for (i, array) in arrays.iter().enumerate() {
            let fact = InferenceFact::dt_shape(datum_type(array.data()), array.shape());
            model.set_input_fact(i, fact)?;
        }
        model.into_optimized()?.into_runnable()
    }
}

impl Engine for TractEngine {
    fn run(&mut self, ports: &[Port], inputs: &Tensors) -> Result<Vec<Array>, String> {
        let arrays: Vec<&Array> = self
            .inputs
            .iter()
            .filter_map(|port| inputs.get(&port.name))
            .collect();
        let plan = self.plan(&arrays)?;
        let values = arrays.iter().map(|array| Ok(to_tract(array)?.into()));
        let values: TVec<TValue> = values.collect::<TractResult<_>>().map_err(text)?;
        let outputs = plan.run(values).map_err(text)?;
        let named = outputs.iter().zip(ports);
        named
            .map(|(tensor, port)| {
                from_tract(tensor).map_err(|error| format!("output {:?}: {error}", port.name))
            })
            .collect()
    }
}

fn symbolic_plan(proto: &pb::ModelProto) -> TractResult<Plan> {
    let model = tract_onnx::onnx().model_for_proto_model(proto)?;
    model.into_optimized()?.into_runnable()
}

/// Writes sizes in the place of symbols, in bodies too: tract does not carry them everywhere from the inputs.
fn fix(graph: &mut pb::GraphProto, sizes: &Sizes) {
    let ports = graph.input.iter_mut().chain(&mut graph.output);
    for info in ports.chain(&mut graph.value_info) {
        let Some(TypeValue::TensorType(tensor)) =
            info.r#type.as_mut().and_then(|t| t.value.as_mut())
        else {
            continue;
        };
        for dim in tensor.shape.iter_mut().flat_map(|shape| &mut shape.dim) {
            if let Some(DimValue::DimParam(text)) = &dim.value
                && let Ok(known) = text.parse::<Dim>()
                && let Some(size) = known.at(sizes)
            {
                dim.value = Some(DimValue::DimValue(size as i64));
            }
        }
    }
    for attribute in graph.node.iter_mut().flat_map(|n| &mut n.attribute) {
        if let Some(body) = &mut attribute.g {
            fix(body, sizes);
        }
    }
}

/// An error with its causes: they name the node.
fn text(error: tract_onnx::prelude::TractError) -> String {
    format!("{error:#}")
}

fn datum_type(data: &Data) -> DatumType {
    match data {
        Data::F32(_) => DatumType::F32,
        Data::F64(_) => DatumType::F64,
        Data::F16(_) => DatumType::F16,
        Data::I64(_) => DatumType::I64,
        Data::I32(_) => DatumType::I32,
        Data::U8(_) => DatumType::U8,
        Data::Bool(_) => DatumType::Bool,
    }
}

fn to_tract(array: &Array) -> TractResult<Tensor> {
    let shape = array.shape();
    match array.data() {
        Data::F32(v) => Tensor::from_shape(shape, v),
        Data::F64(v) => Tensor::from_shape(shape, v),
        Data::F16(v) => Tensor::from_shape(shape, &halves(v)),
        Data::I64(v) => Tensor::from_shape(shape, v),
        Data::I32(v) => Tensor::from_shape(shape, v),
        Data::U8(v) => Tensor::from_shape(shape, v),
        Data::Bool(v) => Tensor::from_shape(shape, &bools(v)),
    }
}

fn from_tract(tensor: &Tensor) -> Result<Array, String> {
    macro_rules! read {
        ($tensor:expr, $ty:ty) => {
            $tensor.to_plain_array_view::<$ty>().map_err(text)?.iter()
        };
    }
    let data = match tensor.datum_type() {
        DatumType::F32 => Data::F32(read!(tensor, f32).copied().collect()),
        DatumType::F64 => Data::F64(read!(tensor, f64).copied().collect()),
        DatumType::F16 => Data::F16(half_bits(read!(tensor, half::f16))),
        DatumType::I64 => Data::I64(read!(tensor, i64).copied().collect()),
        DatumType::I32 => Data::I32(read!(tensor, i32).copied().collect()),
        DatumType::U8 => Data::U8(read!(tensor, u8).copied().collect()),
        DatumType::Bool => Data::Bool(read!(tensor, bool).map(|&b| b.into()).collect()),
        // tract's own type for computed sizes.
        DatumType::TDim => {
            let numbers = tensor.cast_to::<i64>().map_err(text)?;
            Data::I64(read!(numbers, i64).copied().collect())
        }
        other => return Err(format!("is of {other:?}, which is not supported")),
    };
    Array::new(tensor.shape(), data).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RuntimeId, bench, common, example_inputs};

    fn engine(model: &tract_onnx::pb::ModelProto) -> (TractEngine, Model) {
        let file = Model::read(&common::bytes(model)).unwrap();
        (TractEngine::new(&file).unwrap(), file)
    }

    #[test]
    fn plans_are_kept_by_size() {
        let (mut engine, _) = engine(&common::mlp());
        let x = |n: usize| Array::f32([n, 2], vec![0.0; 2 * n]).unwrap();
        let three = engine.plan(&[&x(3)]).unwrap();
        engine.plan(&[&x(1)]).unwrap();
        assert!(Arc::ptr_eq(&three, &engine.plan(&[&x(3)]).unwrap()));
        assert_eq!(engine.plans.len(), 2);
        // 3 was used last: 1 goes before it.
        for n in 10..10 + PLANS - 1 {
            engine.plan(&[&x(n)]).unwrap();
        }
        assert_eq!(engine.plans.len(), PLANS);
        assert!(Arc::ptr_eq(&three, &engine.plan(&[&x(3)]).unwrap()));
        assert!(engine.symbolic.is_none());
    }

    /// For people: `cargo test -p zoo-runtimes --lib -- --ignored --nocapture fixed`.
    #[test]
    #[ignore = "measures, checks nothing"]
    fn fixed_against_symbolic_sizes() {
        let files = [
            ("mlp", common::wide_mlp()),
            ("generator", common::generator()),
        ];
        for (name, model, n) in files
            .iter()
            .flat_map(|(s, m)| [1, 16, 64].map(|n| (s, m, n)))
        {
            let [fixed, symbolic] = [false, true].map(|symbolic| {
                let (mut engine, file) = engine(model);
                if symbolic {
                    engine.symbolic = Some(symbolic_plan(&engine.proto).unwrap());
                }
                let inputs = example_inputs(&file.inputs, n, 1).unwrap();
                let bytes = common::bytes(model);
                let mut loaded = session::load(RuntimeId::Tract, &bytes, |_| Ok(engine)).unwrap();
                bench(loaded.as_mut(), &inputs, &Default::default())
                    .unwrap()
                    .ms_median
            });
            println!("{name} n={n}: fixed {fixed:.3} ms, symbolic {symbolic:.3} ms");
        }
    }

    #[test]
    fn versions_are_those_of_the_lock_file() {
        let lock = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock");
        let lock = std::fs::read_to_string(lock).unwrap();
        for (name, version) in [("tract-onnx", "0.23."), ("candle-onnx", "0.11.")] {
            let entry = format!("name = \"{name}\"\nversion = \"{version}");
            assert!(
                lock.contains(&entry),
                "{name} is no longer {version}x: change version()"
            );
        }
    }
}
