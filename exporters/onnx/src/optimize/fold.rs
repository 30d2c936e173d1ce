//! Nodes that become part of a convolution or Gemm beside them.

use zoo_graph::{Array, Attribute, Dim, Graph, Node};

use super::{fresh, is_output, producer, set, uses};
use crate::{scope::Scope, shape};

/// Zero pads around an image become pads of the convolution that alone reads it.
pub(super) fn pads(graph: &mut Graph) -> bool {
    let mut changed = false;
    let read = uses(graph);
    for i in 0..graph.nodes.len() {
        let pad = &graph.nodes[i];
        if pad.op != "Pad"
            || read.get(&pad.outputs[0]) != Some(&1)
            || is_output(graph, &pad.outputs[0])
        {
            continue;
        }
        let scope = Scope::new(graph, None);
        let args = scope.args(pad);
        let zero = match (args.has(2), args.constants.get(2)) {
            (false, _) => true,
            (true, Some(Some(value))) => value.to_f64().iter().all(|&v| v == 0.0),
            _ => false,
        };
        let constant = !matches!(pad.attributes.get("mode"), Some(Attribute::Text(mode)) if mode != "constant");
        let Ok(pairs) = shape::pads(&args) else {
            continue;
        };
        let spatial = pairs.len() > 2 && pairs[..2] == [(0, 0), (0, 0)];
        let reader = graph
            .nodes
            .iter()
            .position(|n| n.op == "Conv" && n.inputs[0] == pad.outputs[0]);
        let Some(reader) = reader.filter(|_| zero && constant && spatial) else {
            continue;
        };
        let conv = &graph.nodes[reader];
        let rank = pairs.len() - 2;
        let old = conv.ints("pads").map_or(vec![0; 2 * rank], <[i64]>::to_vec);
        if conv.attributes.contains_key("auto_pad") || old.len() != 2 * rank {
            continue;
        }
        let added = pairs[2..]
            .iter()
            .map(|p| p.0)
            .chain(pairs[2..].iter().map(|p| p.1));
        let sum = old.iter().zip(added).map(|(a, b)| a + b as i64).collect();
        let source = pad.inputs[0].clone();
        let conv = &mut graph.nodes[reader];
        conv.inputs[0] = source;
        conv.attributes.insert("pads".into(), Attribute::Ints(sum));
        changed = true;
    }
    changed
}

/// What alone is added to a Gemm without C, or with one that is all zero, becomes its C.
pub(super) fn addends(graph: &mut Graph, outer: Option<&Scope<'_>>) -> bool {
    let mut changed = false;
    let read = uses(graph);
    for i in 0..graph.nodes.len() {
        let sum = &graph.nodes[i];
        if sum.op != "Add" {
            continue;
        }
        let scope = Scope::new(graph, outer);
        let found = [(0, 1), (1, 0)].into_iter().find_map(|(product, addend)| {
            let (product, addend) = (&sum.inputs[product], &sum.inputs[addend]);
            let gemm = &graph.nodes[producer(graph, product)?];
            let nothing = |c: &String| {
                let constant = scope.constant(c);
                c.is_empty() || constant.is_some_and(|c| c.to_f64().iter().all(|&v| v == 0.0))
            };
            // Neither may be broadcast: a C is never larger than the product.
            let ty = scope.ty(&sum.outputs[0])?;
            let same = scope.ty(product) == Some(ty) && scope.ty(addend) == Some(ty);
            let alone = read.get(product) == Some(&1);
            let free = gemm.op == "Gemm" && gemm.inputs.get(2).is_none_or(nothing);
            (same && alone && free).then(|| (gemm.clone(), addend.clone()))
        });
        let Some((mut gemm, addend)) = found else {
            continue;
        };
        gemm.inputs.truncate(2);
        gemm.inputs.push(addend);
        gemm.attributes.remove("beta");
        gemm.outputs = sum.outputs.clone();
        // In the place of the sum, where both operands are known; the product without it is dead.
        graph.nodes[i] = gemm;
        changed = true;
    }
    changed
}

/// BatchNormalization after a convolution or Gemm becomes part of its weights and bias (Jacob et al., 2018, eq. 14):
/// with `a = scale / sqrt(var + epsilon)`, `w' = a w` and `b' = a (b - mean) + shift`. A Gemm's columns may be reshaped to
/// channels in between, as at the start of a generator.
pub(super) fn normalizations(graph: &mut Graph) -> bool {
    let mut changed = false;
    let mut i = 0;
    while i < graph.nodes.len() {
        match fold_one(graph, i) {
            Some(()) => changed = true,
            None => i += 1,
        }
    }
    changed
}

/// Folds node `i` into the node before it; `None` where it cannot be folded.
fn fold_one(graph: &mut Graph, i: usize) -> Option<()> {
    let norm = graph
        .nodes
        .get(i)
        .filter(|n| n.op == "BatchNormalization" && n.outputs.len() == 1)?;
    if norm.int("training_mode").unwrap_or(0) != 0 {
        return None;
    }
    let x = &norm.inputs[0];
    let read = uses(graph);
    if read.get(x) != Some(&1) {
        return None;
    }
    let before = producer(graph, x)?;
    let (source, columns) = match columns_of_channel(graph, &graph.nodes[before]) {
        Some(columns) if read.get(&graph.nodes[before].inputs[0]) == Some(&1) => {
            (producer(graph, &graph.nodes[before].inputs[0])?, columns)
        }
        _ => (before, 1),
    };
    let linear = &graph.nodes[source];
    let parameter = |k: usize| -> Option<Vec<f32>> {
        let values = graph.initializer(norm.inputs.get(k)?)?.as_f32().ok()?;
        let spread = values.iter().flat_map(|&v| std::iter::repeat_n(v, columns));
        Some(spread.collect())
    };
    let (scale, shift, mean, variance) =
        (parameter(1)?, parameter(2)?, parameter(3)?, parameter(4)?);
    let epsilon = f64::from(norm.float("epsilon").unwrap_or(1e-5));
    let factor: Vec<f64> = scale
        .iter()
        .zip(&variance)
        .map(|(s, v)| f64::from(*s) / (f64::from(*v) + epsilon).sqrt())
        .collect();

    let weights = graph.initializer(linear.inputs.get(1)?)?;
    let scaled = scale_channels(linear, weights, &factor)?;
    let bias_name = linear.inputs.get(2).filter(|name| !name.is_empty());
    let beta = match linear.op.as_str() {
        "Gemm" => f64::from(linear.float("beta").unwrap_or(1.0)),
        _ => 1.0,
    };
    let old: Vec<f64> = match bias_name {
        None => vec![0.0; factor.len()],
        Some(name) => {
            let bias = graph.initializer(name)?;
            let values = bias.as_f32().ok()?;
            // A bias per row of a Gemm is no bias per channel.
            if bias.shape().last().is_some_and(|n| *n != values.len()) {
                return None;
            }
            match values {
                [one] => vec![f64::from(*one); factor.len()],
                _ => values.iter().map(|&b| f64::from(b)).collect(),
            }
        }
    };
    if [old.len(), shift.len(), mean.len()]
        .iter()
        .any(|n| *n != factor.len())
    {
        return None;
    }
    let channels = 0..factor.len();
    let bias: Vec<f32> = channels
        .map(|c| (factor[c] * (beta * old[c] - f64::from(mean[c])) + f64::from(shift[c])) as f32)
        .collect();
    let bias = Array::f32([bias.len()], bias).ok()?;

    // Weights that another node reads as well stay as they are, beside a copy.
    let alone = |name: &str| read.get(name) == Some(&1);
    let weight_name = match &linear.inputs[1] {
        name if alone(name) => name.clone(),
        name => fresh(graph, &format!("{name}/normalized")),
    };
    let bias_name = match bias_name {
        Some(name) if alone(name) => name.clone(),
        Some(name) => fresh(graph, &format!("{name}/normalized")),
        None => {
            let stem = linear.inputs[1]
                .strip_suffix(".weight")
                .unwrap_or(&linear.outputs[0]);
            fresh(graph, &format!("{stem}.bias"))
        }
    };
    let output = norm.outputs[0].clone();
    let old_output = x.clone();
    set(graph, &weight_name, scaled);
    set(graph, &bias_name, bias);
    let linear = &mut graph.nodes[source];
    linear.inputs.truncate(1);
    linear.inputs.extend([weight_name, bias_name]);
    linear.attributes.remove("beta");
    graph.nodes[before].outputs[0] = output;
    graph.types.remove(&old_output);
    graph.nodes.remove(i);
    Some(())
}

/// Where `node` reshapes the columns of a Gemm `[N, C k]` to channels `[N, C, ..]`: k, the columns of one channel.
fn columns_of_channel(graph: &Graph, node: &Node) -> Option<usize> {
    if node.op != "Reshape" {
        return None;
    }
    let gemm = &graph.nodes[producer(graph, &node.inputs[0])?];
    let shape = |value: &str| Some(&graph.types.get(value)?.shape[..]);
    match (shape(&node.inputs[0])?, shape(&node.outputs[0])?) {
        ([from, Dim::Fixed(columns)], [to, Dim::Fixed(channels), ..]) => {
            let whole = from == to && *channels > 0 && columns.is_multiple_of(*channels);
            (gemm.op == "Gemm" && whole).then(|| columns / channels)
        }
        _ => None,
    }
}

/// The weights times a factor for each output channel.
fn scale_channels(linear: &Node, weights: &Array, factor: &[f64]) -> Option<Array> {
    let values = weights.as_f32().ok()?;
    let shape = weights.shape();
    let group = usize::try_from(linear.int("group").unwrap_or(1))
        .ok()
        .filter(|g| *g > 0)?;
    let rest: usize = shape.get(1..)?.iter().product();
    // The channel of the element at a flat index.
    let channel: Box<dyn Fn(usize) -> usize> = match linear.op.as_str() {
        "Conv" => Box::new(move |k| k / rest),
        "Gemm" if linear.int("transB").unwrap_or(0) != 0 => Box::new(move |k| k / rest),
        "Gemm" => Box::new(move |k| k % rest),
        "ConvTranspose" => {
            let (inputs, outputs) = (shape[0] / group, shape[1]);
            let kernel: usize = shape[2..].iter().product();
            Box::new(move |k| (k / rest / inputs) * outputs + k / kernel % outputs)
        }
        _ => return None,
    };
    let scaled = values
        .iter()
        .enumerate()
        .map(|(k, &w)| Some((f64::from(w) * factor.get(channel(k))?) as f32));
    Array::f32(shape, scaled.collect::<Option<Vec<_>>>()?).ok()
}
