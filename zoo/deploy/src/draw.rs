//! Drawing images with a sampler, whatever computes it.

use zoo_sdk::{Array, DType, Data, Port, PortRole, Tensors, draw_inputs, input_rows};

use crate::{Error, Result};

/// Images at a time when many are drawn.
const BATCH: usize = 64;

/// Draws `count` images with a sampler that `run` computes, a batch at a time. `given` has what is not drawn:
/// of inputs with a batch a row for each image, or one for all.
pub(crate) fn draw(
    ports: &[Port],
    count: usize,
    seed: u64,
    label: Option<i64>,
    given: &Tensors,
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
        .filter(|port| !given.contains_key(&port.name))
        .cloned()
        .collect();
    let mut inputs =
        draw_inputs(&drawn, count, seed, label).map_err(|e| Error::Usage(e.to_string()))?;
    for port in ports {
        let Some(array) = given.get(&port.name) else {
            continue;
        };
        let one_for_all = count > 1 && port.shape_at(count).as_deref() != Some(array.shape());
        let all = match one_for_all {
            true => array
                .slice(0, 0)
                .and_then(|row| Array::stack(&vec![row; count], 0)),
            false => Some(array.clone()),
        };
        let all = all.ok_or_else(|| Error::Usage(format!("{} holds nothing", port.name)))?;
        inputs.insert(port.name.clone(), all);
    }
    let (mut values, mut shape) = (Vec::new(), Vec::new());
    for start in (0..count).step_by(BATCH) {
        let end = count.min(start + BATCH);
        let outputs = run(&input_rows(ports, &inputs, start, end))?;
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
