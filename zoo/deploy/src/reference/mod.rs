//! What a runtime is compared with: inputs to try a graph on, what the model itself makes of them, and how far values may
//! lie from that.

mod steady;

use zoo_runtimes::example_inputs;
use zoo_runtimes::parity::{Expected, Tolerance};
use zoo_sdk::{
    DType, GraphInfo, GraphKind, Port, PortRole, Session, Sizes, Tensors, draw_inputs, trial_sizes,
};

use crate::Result;
use crate::engine::graph_of;

/// The tolerance for ONNX files: wider where weights are stored at half precision.
pub(crate) fn tolerance(files: &[&[u8]]) -> Result<Tolerance> {
    for file in files {
        let graph = zoo_onnx::decode(file)?.graph;
        let mut weights = graph.initializers.iter();
        if weights.any(|i| i.value.dtype() == DType::F16) {
            return Ok(Tolerance::of(DType::F16));
        }
    }
    Ok(Tolerance::F32)
}

/// How often noise on an edge is drawn anew.
const TRIES: u64 = 8;

/// What candle computes on inputs that are good to try a graph on.
pub(crate) fn expected(
    session: &dyn Session,
    graphs: &[GraphInfo],
    info: &GraphInfo,
    image: [usize; 3],
    batch: usize,
    seed: u64,
) -> zoo_sdk::Result<Expected> {
    let sizes = trial_sizes(&info.inputs, batch);
    let draw = |seed| probe(session, graphs, info, image, &sizes, seed);
    let mut inputs = draw(seed)?;
    let mut outputs = session.run(&info.name, &inputs)?;
    for attempt in 1..=TRIES {
        let rows = steady::unsteady(session, info, &inputs, &outputs)?;
        if rows.is_empty() {
            break;
        }
        let other = draw(seed.wrapping_add(attempt << 32))?;
        steady::replace(info, &mut inputs, &other, &rows)?;
        outputs = session.run(&info.name, &inputs)?;
    }
    Ok(Expected {
        sizes,
        inputs,
        outputs,
    })
}

/// Inputs of these sizes to try a graph on: noise and labels by their ports, images drawn by the model itself (never those of
/// a data set), anything else at random in its range.
fn probe(
    session: &dyn Session,
    graphs: &[GraphInfo],
    info: &GraphInfo,
    image: [usize; 3],
    sizes: &Sizes,
    seed: u64,
) -> zoo_sdk::Result<Tensors> {
    let mut inputs = Tensors::new();
    for port in &info.inputs {
        let one = std::slice::from_ref(port);
        let drawn = if port.distribution.is_some() || port.dtype == DType::I64 {
            draw_inputs(one, sizes, seed, None)?
        } else if is_image(port, image)
            && let Some(sample) = graph_of(graphs, GraphKind::Sample)
            && sample.name != info.name
        {
            let noise = draw_inputs(&sample.inputs, sizes, seed, None)?;
            let mut images = session.run(&sample.name, &noise)?;
            let images = images
                .remove(PortRole::Image.name())
                .ok_or_else(|| zoo_sdk::Error::Internal("the graph sample gave no x".into()))?;
            Tensors::from([(port.name.clone(), images)])
        } else {
            example_inputs(one, sizes, seed).map_err(|e| zoo_sdk::Error::input(e.to_string()))?
        };
        inputs.extend(drawn);
    }
    Ok(inputs)
}

/// Whether a port takes what the model draws: images, in the bounds that images have.
fn is_image(port: &Port, image: [usize; 3]) -> bool {
    let like = Port::image("", image);
    port.role() != PortRole::Mask
        && port.value_type() == like.value_type()
        && (port.range.is_none() || port.range == like.range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_go_where_they_are_within_bounds() {
        let image = [1, 2, 3];
        let takes = |port: Port| is_image(&port, image);
        assert!(takes(Port::image("x", image)) && takes(Port::batched("x_t", &image)));
        for other in [
            Port::image("mask", image),
            Port::image("x", [1, 2, 2]),
            Port::bounded("noisy", &image, [2.0, 3.0]),
        ] {
            assert!(!takes(other.clone()), "{other:?}");
        }
    }
}
