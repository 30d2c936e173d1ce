//! Drawing images with a sampler, whatever computes it.

use zoo_sdk::{Array, DType, Data, Port, PortRole, Tensors, draw_inputs};

use crate::{Error, Result};

/// Images at a time when many are drawn.
const BATCH: usize = 64;

/// Draws `count` images with a sampler that `run` computes, a batch at a time. `known` has what is the same for all of them, one row each.
pub(crate) fn draw(
    ports: &[Port],
    count: usize,
    seed: u64,
    label: Option<i64>,
    known: &Tensors,
    run: &mut dyn FnMut(&Tensors) -> Result<Tensors>,
) -> Result<Array> {
    if count == 0 {
        return Err(Error::Usage("no images to draw: give -n 1 or more".into()));
    }
    if label.is_some() && !ports.iter().any(|port| port.dtype == DType::I64) {
        return Err(Error::Usage(
            "--label: this model draws images of no particular class; leave it out".into(),
        ));
    }
    let drawn: Vec<Port> = ports
        .iter()
        .filter(|port| !known.contains_key(&port.name))
        .cloned()
        .collect();
    let inputs =
        draw_inputs(&drawn, count, seed, label).map_err(|e| Error::Usage(e.to_string()))?;
    let (mut values, mut shape) = (Vec::new(), Vec::new());
    for start in (0..count).step_by(BATCH) {
        let end = count.min(start + BATCH);
        let part = inputs
            .iter()
            .map(|(name, array)| (name.clone(), array.rows(start, end)));
        let mut part: Tensors = part.collect();
        for (name, row) in known {
            let rows: Option<Array> = row.slice(0, 0).and_then(|row| {
                let rows = vec![row; end - start];
                Array::stack(&rows, 0)
            });
            let rows = rows.ok_or_else(|| Error::Usage(format!("{name} holds nothing")))?;
            part.insert(name.clone(), rows);
        }
        let outputs = run(&part)?;
        let images = outputs
            .get(PortRole::Image.name())
            .map(|x| (x.shape(), x.data()));
        let Some((image_shape @ [n, ..], Data::F32(part))) = images else {
            return Err(Error::Usage(
                "the graph sample gives no f32 images named x".into(),
            ));
        };
        if *n != end - start {
            return Err(Error::Usage(format!(
                "the graph sample gave {n} images instead of {}",
                end - start
            )));
        }
        shape = image_shape.to_vec();
        values.extend_from_slice(part);
    }
    if let Some(first) = shape.first_mut() {
        *first = count;
    }
    Array::f32(shape, values).map_err(|e| Error::Usage(e.to_string()))
}
