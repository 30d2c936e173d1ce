//! Nodes that become part of a convolution or Gemm beside them.

use zoo_graph::{Array, Attribute, Dim, Node};

use super::network::Network;
use crate::ops::{self, OpKind, Values, pad};

/// Zero pads around an image become pads of the convolution that alone reads it.
pub(super) fn pads(network: &mut Network<'_>) -> bool {
    let mut changed = false;
    for at in network.places() {
        changed |= fold_pads(network, at).is_some();
    }
    changed
}

/// Folds the pads at a place into the node that reads them; `None` where they cannot be folded.
fn fold_pads(network: &mut Network<'_>, at: usize) -> Option<()> {
    let node = network.node(at).filter(|n| ops::is(n, OpKind::Pad))?;
    let padded = &node.outputs[0];
    if network.reads(padded) != 1 {
        return None;
    }
    let added = pad::of_convolution(&network.args(node))?;
    let reader = network.readers(padded).next()?;
    let conv = network.node(reader)?;
    if !ops::is(conv, OpKind::Conv)
        || conv.inputs[0] != *padded
        || conv.attributes.contains_key("auto_pad")
    {
        return None;
    }
    let old = conv
        .ints("pads")
        .map_or(vec![0; added.len()], <[i64]>::to_vec);
    if old.len() != added.len() {
        return None;
    }
    let sum = old.iter().zip(added).map(|(a, b)| a + b).collect();
    let source = node.inputs[0].clone();
    network.edit(reader, |conv| {
        conv.inputs[0] = source;
        conv.attributes.insert("pads".into(), Attribute::Ints(sum));
    });
    Some(())
}

/// What alone is added to a Gemm without C, or with one that is all zero, becomes its C.
pub(super) fn addends(network: &mut Network<'_>) -> bool {
    let mut changed = false;
    for at in network.places() {
        let Some(gemm) = with_addend(network, at) else {
            continue;
        };
        // In the place of the sum, where both operands are known; the product without it is dead.
        network.edit(at, |sum| *sum = gemm);
        changed = true;
    }
    changed
}

/// The Gemm that computes the sum at a place.
fn with_addend(network: &Network<'_>, at: usize) -> Option<Node> {
    let sum = network.node(at).filter(|n| ops::is(n, OpKind::Add))?;
    let [left, right] = &sum.inputs[..] else {
        return None;
    };
    let as_c = |product: &String, addend: &String| {
        let gemm = network.made_by(product)?;
        let nothing = |c: &String| {
            let constant = network.constant(c);
            c.is_empty() || constant.is_some_and(|c| c.to_f64().iter().all(|&v| v == 0.0))
        };
        // Neither may be broadcast: a C is never larger than the product.
        let ty = network.ty(&sum.outputs[0])?;
        let same = network.ty(product) == Some(ty) && network.ty(addend) == Some(ty);
        let alone = network.reads(product) == 1;
        let free = ops::is(gemm, OpKind::Gemm) && gemm.inputs.get(2).is_none_or(nothing);
        (same && alone && free).then(|| (gemm.clone(), addend.clone()))
    };
    let (mut gemm, addend) = as_c(left, right).or_else(|| as_c(right, left))?;
    gemm.inputs.truncate(2);
    gemm.inputs.push(addend);
    gemm.attributes.remove("beta");
    gemm.outputs.clone_from(&sum.outputs);
    Some(gemm)
}

/// BatchNormalization after a convolution or Gemm becomes part of its weights and bias (Jacob et al., 2018, eq. 14):
/// with `a = scale / sqrt(var + epsilon)`, `w' = a w` and `b' = a (b - mean) + shift`. A Gemm's columns may be reshaped to
/// channels in between, as at the start of a generator.
pub(super) fn normalizations(network: &mut Network<'_>) -> bool {
    let mut changed = false;
    for at in network.places() {
        changed |= fold_normalization(network, at).is_some();
    }
    changed
}

/// Folds the normalisation at a place into the node before it; `None` where it cannot be folded.
fn fold_normalization(network: &mut Network<'_>, at: usize) -> Option<()> {
    let norm = network
        .node(at)
        .filter(|n| ops::is(n, OpKind::BatchNormalization) && n.outputs.len() == 1)?;
    if norm.int("training_mode").unwrap_or(0) != 0 {
        return None;
    }
    let x = &norm.inputs[0];
    if network.reads(x) != 1 {
        return None;
    }
    let before = network.maker(x)?;
    let reshape = network.node(before)?;
    let (source, columns) = match columns_of_channel(network, reshape) {
        Some(columns) if network.reads(&reshape.inputs[0]) == 1 => {
            (network.maker(&reshape.inputs[0])?, columns)
        }
        _ => (before, 1),
    };
    let linear = network.node(source)?;
    let parameter = |k: usize| -> Option<Vec<f32>> {
        let values = network.own_constant(norm.inputs.get(k)?)?.as_f32().ok()?;
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

    let weights = network.own_constant(linear.inputs.get(1)?)?;
    let scaled = scale_channels(linear, weights, &factor)?;
    let bias_name = linear.inputs.get(2).filter(|name| !name.is_empty());
    let beta = match ops::kind(linear)? {
        OpKind::Gemm => f64::from(linear.float("beta").unwrap_or(1.0)),
        _ => 1.0,
    };
    let old: Vec<f64> = match bias_name {
        None => vec![0.0; factor.len()],
        Some(name) => {
            let bias = network.own_constant(name)?;
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
    let alone = |name: &str| network.reads(name) == 1;
    let weight_name = match &linear.inputs[1] {
        name if alone(name) => name.clone(),
        name => network.fresh(&format!("{name}/normalized")),
    };
    let bias_name = match bias_name {
        Some(name) if alone(name) => name.clone(),
        Some(name) => network.fresh(&format!("{name}/normalized")),
        None => {
            let stem = linear.inputs[1]
                .strip_suffix(".weight")
                .unwrap_or(&linear.outputs[0]);
            network.fresh(&format!("{stem}.bias"))
        }
    };
    let output = norm.outputs[0].clone();
    let old_output = x.clone();
    network.set(&weight_name, scaled);
    network.set(&bias_name, bias);
    network.take(at);
    network.edit(source, |linear| {
        linear.inputs.truncate(1);
        linear.inputs.extend([weight_name, bias_name]);
        linear.attributes.remove("beta");
    });
    network.edit(before, |node| node.outputs[0] = output);
    network.forget(&old_output);
    Some(())
}

/// Where `node` reshapes the columns of a Gemm `[N, C k]` to channels `[N, C, ..]`: k, the columns of one channel.
fn columns_of_channel(network: &Network<'_>, node: &Node) -> Option<usize> {
    if !ops::is(node, OpKind::Reshape) {
        return None;
    }
    let gemm = network.made_by(&node.inputs[0])?;
    let shape = |value: &str| Some(&network.own_type(value)?.shape[..]);
    match (shape(&node.inputs[0])?, shape(&node.outputs[0])?) {
        ([from, Dim::Fixed(columns)], [to, Dim::Fixed(channels), ..]) => {
            let whole = from == to && *channels > 0 && columns.is_multiple_of(*channels);
            (ops::is(gemm, OpKind::Gemm) && whole).then(|| columns / channels)
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
    let channel: Box<dyn Fn(usize) -> usize> = match ops::kind(linear)? {
        OpKind::Conv => Box::new(move |k| k / rest),
        OpKind::Gemm if linear.int("transB").unwrap_or(0) != 0 => Box::new(move |k| k / rest),
        OpKind::Gemm => Box::new(move |k| k % rest),
        OpKind::ConvTranspose => {
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
