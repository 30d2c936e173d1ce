//! From a recorded graph to checked files.

use std::collections::BTreeMap;

use zoo_graph::{Array, Content, DType, Graph, Node, Port, RuntimeId};

use crate::{
    Error, Result, Target, check,
    check::is_batched,
    decode, edit, encode, lower,
    ops::{OpKind, cast, is_loop},
    optimize, steps,
};

/// Weights of at least this many elements are worth storing at half precision.
const HALF_FROM: usize = 64;

/// How a file stores its weights. Everything is computed in f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weights {
    /// As they are.
    #[default]
    F32,
    /// At half precision, cast to f32 where the graph begins: half the size, and outputs within f16 tolerance. Small
    /// tensors, and those with values beyond 65504, stay f32.
    F16,
}

/// What to export, and with what said about it.
#[derive(Clone, Debug)]
pub struct Options {
    /// Becomes `metadata_props`, in this order: model, version, seed, ...
    pub metadata: Vec<(String, String)>,
    /// How weights are stored.
    pub weights: Weights,
    /// The runtimes to serve.
    pub targets: Vec<RuntimeId>,
}

impl Default for Options {
    fn default() -> Self {
        let runtimes = Target::ALL.iter().flat_map(|target| target.runtimes());
        Self {
            metadata: Vec::new(),
            weights: Weights::F32,
            targets: runtimes.cloned().collect(),
        }
    }
}

/// One form of a graph, and the runtimes that it serves.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// What stands before `.onnx` in its name: nothing for the first, `candle-onnx` for a form of its own.
    pub suffix: Option<&'static str>,
    /// The runtimes among those asked for.
    pub runtimes: Vec<RuntimeId>,
    /// What it consists of.
    pub content: Content,
}

impl Variant {
    /// Whether a runtime can run it.
    pub fn serves(&self, runtime: &RuntimeId) -> bool {
        self.runtimes.contains(runtime)
    }

    /// The name of its file for a graph: `decode.onnx`, `decode.candle-onnx.onnx`, `sample.steps.json`.
    pub fn file_name(&self, graph: &str) -> String {
        match (&self.content, self.suffix) {
            (Content::Steps { .. }, _) => format!("{graph}.steps.json"),
            (Content::File(_), None) => format!("{graph}.onnx"),
            (Content::File(_), Some(suffix)) => format!("{graph}.{suffix}.onnx"),
        }
    }
}

/// What a form of a graph reads, and what it gives.
pub fn ports(content: &Content) -> Result<(Vec<Port>, Vec<Port>)> {
    match content {
        Content::File(bytes) => {
            let graph = decode(bytes)?.graph;
            Ok((graph.inputs, graph.outputs))
        }
        Content::Steps { steps, .. } => Ok((steps.inputs.clone(), steps.outputs.clone())),
    }
}

/// Optimises a graph, lowers it for each runtime asked for, encodes it, and checks the files. Runtimes whose forms are
/// equal share one.
///
/// Loops become what a runtime has: loops within loops for ort and the web, one flat scan for tract. A graph with loops has one more form, step graphs
/// that a host drives, for every runtime that a program of ours can drive.
///
/// For each runtime the first form that serves it is the one to take. For tract and loops within loops that is the step graphs, which are
/// faster than its flat scan (`zoo bench-sample`); a program without a host for them can still use that.
pub fn export(graph: &Graph, options: &Options) -> Result<Vec<Variant>> {
    for runtime in &options.targets {
        Target::of(runtime).ok_or_else(|| Error::Runtime(runtime.clone()))?;
    }
    let count = |port: &&Port| port.is_count();
    let alone = graph.inputs.iter().filter(|port| !count(port));
    if let Some(port) = alone.chain(&graph.outputs).find(|port| !is_batched(port)) {
        return Err(Error::value(
            &port.name,
            format!(
                "the first dimension of a port must be the batch N, or the port an input of one i64 that counts a loop's steps; it is {}",
                port.value_type()
            ),
        ));
    }
    let simple = optimize(graph)?;
    let loops = simple.nodes.iter().any(is_loop);
    let mut variants: Vec<Variant> = Vec::new();
    for target in Target::ALL {
        let asked = |r: &&RuntimeId| Target::of(r) == Some(target);
        let runtimes: Vec<_> = options.targets.iter().filter(asked).cloned().collect();
        if runtimes.is_empty() {
            continue;
        }
        let form = match lower(&simple, target) {
            // The step graphs serve it.
            Err(Error::Lower { .. }) if loops && target != Target::Ort => continue,
            form => form?,
        };
        let bytes = file(form, options)?;
        let content = Content::File(bytes);
        if let Some(equal) = variants.iter_mut().find(|v| v.content == content) {
            equal.runtimes.extend(runtimes);
            continue;
        }
        variants.push(Variant {
            suffix: (!variants.is_empty()).then(|| target.runtimes()[0].name()),
            runtimes,
            content,
        });
    }
    let served: usize = variants.iter().map(|v| v.runtimes.len()).sum();
    let steps = match loops.then(|| driven(&simple, options)) {
        // No host can drive it, and none needs to.
        Some(Err(Error::Lower { .. })) if served == options.targets.len() => None,
        Some(steps) => steps?,
        None => None,
    };
    if let Some(steps) = steps {
        let flattened = simple.nodes.iter().any(is_nested);
        let before = |v: &Variant| !flattened || v.runtimes.iter().any(|r| *r != RuntimeId::Tract);
        let at = variants.iter().take_while(|v| before(v)).count();
        variants.insert(at, steps);
    }
    for variant in &mut variants {
        variant
            .runtimes
            .sort_by_key(|r| RUNTIMES.iter().position(|known| known == r));
    }
    match variants.is_empty() {
        true => Err(Error::Model("no runtime to export for was named".into())),
        false => Ok(variants),
    }
}

/// Whether a node is a loop around loops.
fn is_nested(node: &Node) -> bool {
    let has_loops = |body: &Graph| body.nodes.iter().any(|n| n.bodies().next().is_some());
    node.bodies().any(has_loops)
}

/// Runtimes in the order in which they are listed.
const RUNTIMES: [RuntimeId; 4] = [
    RuntimeId::Ort,
    RuntimeId::Tract,
    RuntimeId::Web,
    RuntimeId::CandleOnnx,
];

/// The bytes of a lowered graph, checked.
fn file(form: Graph, options: &Options) -> Result<Vec<u8>> {
    let mut form = optimize(&form)?;
    if options.weights == Weights::F16 {
        halve(&mut form)?;
    }
    let bytes = encode(&form, &options.metadata);
    check(&bytes)?;
    Ok(bytes)
}

/// The step graphs of a graph with loops. They are in the form of candle-onnx, which every runtime computes.
fn driven(graph: &Graph, options: &Options) -> Result<Option<Variant>> {
    let native = |r: &&RuntimeId| Target::of(r).is_some() && **r != RuntimeId::Web;
    let runtimes: Vec<_> = options.targets.iter().filter(native).cloned().collect();
    if runtimes.is_empty() {
        return Ok(None);
    }
    let cut = steps::cut(graph)?;
    let mut files = Vec::with_capacity(cut.parts.len());
    for (name, part) in cut.parts {
        let form = lower(&optimize(&part)?, Target::CandleOnnx)?;
        files.push((format!("{name}.onnx"), file(form, options)?));
    }
    let steps = cut.steps;
    Ok(Some(Variant {
        suffix: Some("steps"),
        runtimes,
        content: Content::Steps { steps, files },
    }))
}

/// Stores the weights of a graph at half precision, each followed by a cast.
fn halve(graph: &mut Graph) -> Result<()> {
    let mut casts = Vec::new();
    let mut wide = BTreeMap::new();
    for initializer in &mut graph.initializers {
        let Ok(values) = initializer.value.as_f32() else {
            continue;
        };
        let halves: Vec<half::f16> = values.iter().map(|&v| half::f16::from_f32(v)).collect();
        let mut pairs = halves.iter().zip(values);
        if values.len() < HALF_FROM || !pairs.all(|(h, v)| h.is_finite() || !v.is_finite()) {
            continue;
        }
        let mut ty = edit::type_of(&initializer.value);
        let bits: Vec<u16> = halves.into_iter().map(half::f16::to_bits).collect();
        initializer.value = Array::f16_bits(initializer.value.shape(), bits)?;
        let name = initializer.name.clone();
        let output = format!("{name}/f32");
        graph.types.insert(output.clone(), ty.clone());
        ty.dtype = DType::F16;
        graph.types.insert(name.clone(), ty);
        wide.insert(name.clone(), output.clone());
        casts.push(Node {
            name: output.clone(),
            op: OpKind::Cast.name().into(),
            inputs: vec![name],
            outputs: vec![output],
            attributes: cast::to(DType::F32),
            origin: None,
        });
    }
    edit::rename(&mut graph.nodes, &wide);
    graph.nodes.splice(0..0, casts);
    Ok(())
}

#[cfg(test)]
mod tests {
    use zoo_graph::{Attribute, Port};

    use super::*;
    use crate::{
        decode,
        testing::{Net, assert_same, ops, random},
    };

    fn graph(op: &str) -> Graph {
        let mut net = Net::new("decode");
        net.input(Port::normal("z", &[8, 2, 2]));
        net.constant("up.weight", random(&[8, 8, 3, 3], 1));
        net.constant("up.bias", random(&[8], 2));
        net.node(
            "up",
            op,
            &["z", "up.weight", "up.bias"],
            &[
                ("strides", Attribute::Ints(vec![1, 1])),
                ("pads", Attribute::Ints(vec![1; 4])),
            ],
        );
        net.node("x", "Softplus", &["up"], &[]);
        net.outputs(&["x"])
    }

    /// The first form, which is a file.
    fn bytes(graph: &Graph, options: &Options) -> Vec<u8> {
        export(graph, options).unwrap()[0].content.onnx()[0].to_vec()
    }

    #[test]
    fn runtimes_with_equal_forms_share_a_file() {
        let options = Options {
            metadata: vec![("model".into(), "gan".into())],
            ..Options::default()
        };
        let variants = export(&graph("Conv"), &options).unwrap();
        assert_eq!(variants.len(), 1);
        assert_eq!(variants[0].runtimes, RUNTIMES);
        assert_eq!(
            variants[0].content,
            export(&graph("Conv"), &options).unwrap()[0].content
        );

        let variants = export(&graph("ConvTranspose"), &options).unwrap();
        let named: Vec<_> = variants
            .iter()
            .map(|v| (v.suffix, v.runtimes.clone()))
            .collect();
        assert_eq!(
            named,
            [
                (None, RUNTIMES[..3].to_vec()),
                (Some("candle-onnx"), RUNTIMES[3..].to_vec())
            ]
        );
        for variant in &variants {
            let model = decode(variant.content.onnx()[0]).unwrap();
            assert_eq!(model.metadata[0], ("model".into(), "gan".into()));
            assert_same(&graph("ConvTranspose"), &model.graph, "variant");
        }
    }

    #[test]
    fn targets_narrow_what_is_written() {
        let only = |runtime: &str| Options {
            targets: vec![runtime.into()],
            ..Options::default()
        };
        let variants = export(&graph("ConvTranspose"), &only("candle-onnx")).unwrap();
        assert_eq!((variants.len(), variants[0].suffix), (1, None));
        assert!(
            !ops(&decode(variants[0].content.onnx()[0]).unwrap().graph).contains("ConvTranspose")
        );
        let error = export(&graph("Conv"), &only("tensorflow")).unwrap_err();
        assert!(matches!(error, Error::Runtime(runtime) if runtime.name() == "tensorflow"));
        assert!(
            export(
                &graph("Conv"),
                &Options {
                    targets: vec![],
                    ..Options::default()
                }
            )
            .is_err()
        );
    }

    #[test]
    fn half_precision_halves_the_weights_alone() {
        let full = bytes(&graph("Conv"), &Options::default());
        let options = Options {
            weights: Weights::F16,
            ..Options::default()
        };
        let bytes = bytes(&graph("Conv"), &options);
        let half = decode(&bytes).unwrap().graph;
        let dtype = |name: &str| half.initializer(name).unwrap().dtype();
        assert_eq!(
            (dtype("up.weight"), dtype("up.bias")),
            (DType::F16, DType::F32)
        );
        assert_eq!(ops(&half).split(' ').next(), Some("Cast"));
        assert!(
            full.len() - bytes.len() > 8 * 8 * 9,
            "{} against {}",
            full.len(),
            bytes.len()
        );
        let mut expected = decode(&full).unwrap().graph;
        for initializer in expected
            .initializers
            .iter_mut()
            .filter(|i| i.name == "up.weight")
        {
            let rounded = initializer
                .value
                .as_f32()
                .unwrap()
                .iter()
                .map(|&v| half::f16::from_f32(v).to_f32());
            initializer.value =
                Array::f32(initializer.value.shape(), rounded.collect::<Vec<_>>()).unwrap();
        }
        assert_same(&expected, &half, "half precision");
    }

    #[test]
    fn weights_beyond_half_precision_stay() {
        let mut graph = graph("Conv");
        let mut values = random(&[8, 8, 3, 3], 1).as_f32().unwrap().to_vec();
        values[0] = 1e6;
        graph.initializers[0].value = Array::f32([8, 8, 3, 3], values).unwrap();
        let options = Options {
            weights: Weights::F16,
            ..Options::default()
        };
        let bytes = bytes(&graph, &options);
        assert!(!ops(&decode(&bytes).unwrap().graph).contains("Cast"));
    }
}
