//! What to feed a sampler.

use crate::{Array, BATCH, DType, Distribution, Error, Port, Result, Sizes, Stream, Tensors};

/// Whether what a port reads cannot be drawn: it is neither noise nor a label nor a number of steps.
pub fn must_be_given(port: &Port) -> bool {
    let noise = port.distribution.is_some() && port.dtype == DType::F32;
    !noise && port.dtype != DType::I64
}

/// Rows `start..end` of inputs of a graph; of those without a batch, all.
pub fn input_rows(ports: &[Port], inputs: &Tensors, start: usize, end: usize) -> Tensors {
    let has_batch = |name: &String| {
        let port = ports.iter().find(|port| port.name == *name);
        port.and_then(|port| port.shape.first())
            .is_some_and(|dim| dim.fixed().is_none())
    };
    let rows = inputs.iter().map(|(name, array)| {
        let rows = match has_batch(name) {
            true => array.rows(start, end),
            false => array.clone(),
        };
        (name.clone(), rows)
    });
    rows.collect()
}

/// Inputs for samples of a graph that reads only noise, labels and numbers of steps: as many as the batch of `sizes`, which may be a number.
///
/// Each sample's noise follows from `seed`, the port's name and the sample's index, so a larger grid starts with the pictures of a
/// smaller one. Labels are `label`, or all classes in turn, numbers of steps the most.
///
/// # Errors
/// A port that [`must_be_given`], or a label outside its range.
pub fn draw_inputs(
    inputs: &[Port],
    sizes: impl Into<Sizes>,
    seed: u64,
    label: Option<i64>,
) -> Result<Tensors> {
    let sizes = sizes.into();
    let count = sizes.get(BATCH).unwrap_or(1);
    let mut drawn = Tensors::new();
    for port in inputs {
        let stream = Stream::new(seed).named("sample").named(&port.name);
        let shape = port
            .shape_at(&sizes)
            .ok_or_else(|| Error::input(format!("{count} samples are too many")))?;
        let array = match (port.distribution, port.dtype) {
            (Some(distribution), DType::F32) => {
                let total = shape
                    .iter()
                    .try_fold(1usize, |n, &d| n.checked_mul(d))
                    .filter(|&n| n <= isize::MAX as usize / 4);
                let total =
                    total.ok_or_else(|| Error::input(format!("{count} samples are too many")))?;
                let row = total.checked_div(count).unwrap_or(0);
                let mut values = vec![0.0; total];
                for (i, out) in values.chunks_mut(row.max(1)).enumerate() {
                    match distribution {
                        Distribution::Normal => stream.at(i as u64).fill_normal(out),
                        Distribution::Uniform => stream.at(i as u64).fill_uniform(out),
                    }
                }
                Array::f32(shape, values)?
            }
            // A number of steps: the most, which is the best.
            (None, DType::I64) if port.is_count() => {
                Array::i64([], [port.range.map_or(1, |[_, most]| most as i64)])?
            }
            (None, DType::I64) => {
                let classes = port.range.map_or(1, |[_, high]| high as i64 + 1);
                if let Some(label) = label.filter(|label| !(0..classes).contains(label)) {
                    return Err(Error::input(format!(
                        "label {label} is outside 0 to {}",
                        classes - 1
                    )));
                }
                let labels: Vec<i64> = (0..count as i64)
                    .map(|i| label.unwrap_or(i % classes))
                    .collect();
                Array::i64(shape, labels)?
            }
            _ => {
                return Err(Error::input(format!(
                    "input {:?} ({}) is neither noise nor a label nor a number of steps: it must be given",
                    port.name,
                    port.value_type()
                )));
            }
        };
        drawn.insert(port.name.clone(), array);
    }
    Ok(drawn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_larger_draw_starts_with_the_smaller() {
        let ports = [Port::normal("z", &[3]), Port::label("label", 4)];
        let (small, large) = (
            draw_inputs(&ports, 2, 1, None).unwrap(),
            draw_inputs(&ports, 6, 1, None).unwrap(),
        );
        assert_eq!(large["z"].rows(0, 2), small["z"]);
        assert_eq!(large["label"].as_i64().unwrap(), [0, 1, 2, 3, 0, 1]);
        assert_ne!(draw_inputs(&ports, 2, 2, None).unwrap()["z"], small["z"]);
    }

    #[test]
    fn refuses_what_cannot_be_drawn() {
        assert!(draw_inputs(&[Port::image("x", [1, 2, 2])], 1, 0, None).is_err());
        assert!(draw_inputs(&[Port::label("label", 4)], 1, 0, Some(4)).is_err());
        assert!(draw_inputs(&[Port::normal("z", &[3])], usize::MAX, 0, None).is_err());
    }
}
