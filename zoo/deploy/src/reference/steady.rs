//! Noise that is not on the edge between two values.
//!
//! A model that draws value by value compares noise with probabilities. Runtimes round these differently, by about 1e-7: where the noise lies that close to an edge
//! they draw neighbouring values, and all that follows differs, though nothing is wrong. What is compared is therefore drawn from noise that may move a
//! little without another outcome.

use zoo_sdk::{Array, Data, Distribution, GraphInfo, Result, Session, Tensors};

/// How far the noise moves: more than the rounding of a network.
const DISTANCE: f32 = 4e-6;
/// A difference in an output that is another value, not rounding: less than a level of 256.
const OTHER: f32 = 1e-3;

/// The noise of a graph that draws value by value, if it is one.
fn noise<'a>(info: &GraphInfo, inputs: &'a Tensors) -> Option<(&'a String, &'a Array)> {
    let mut ports = info.inputs.iter();
    let port = ports.find(|port| port.distribution == Some(Distribution::Uniform))?;
    inputs.get_key_value(&port.name)
}

/// The rows of a batch whose `outputs` become others when their noise moves.
pub fn unsteady(
    session: &dyn Session,
    info: &GraphInfo,
    inputs: &Tensors,
    outputs: &Tensors,
) -> Result<Vec<usize>> {
    let Some((name, drawn)) = noise(info, inputs) else {
        return Ok(Vec::new());
    };
    let (Data::F32(values), Some(&count)) = (drawn.data(), drawn.shape().first()) else {
        return Ok(Vec::new());
    };
    let mut rows = vec![false; count];
    for distance in [DISTANCE, -DISTANCE] {
        let moved = values
            .iter()
            .map(|u| (u + distance).clamp(0.0, 1.0 - f32::EPSILON));
        let moved = Array::f32(drawn.shape().to_vec(), moved.collect::<Vec<_>>())?;
        let mut inputs = inputs.clone();
        inputs.insert(name.clone(), moved);
        for (output, others) in session.run(&info.name, &inputs)? {
            let before = outputs.get(&output).map(Array::data);
            let (Some(Data::F32(before)), Data::F32(after)) = (before, others.data()) else {
                continue;
            };
            let size = after.len().checked_div(count).unwrap_or(0).max(1);
            let pairs = before.chunks(size).zip(after.chunks(size));
            for (row, (before, after)) in rows.iter_mut().zip(pairs) {
                *row |= before.iter().zip(after).any(|(a, b)| (a - b).abs() > OTHER);
            }
        }
    }
    Ok((0..count).filter(|&row| rows[row]).collect())
}

/// Gives `rows` of a graph's noise the values that they have in `other`.
pub fn replace(
    info: &GraphInfo,
    inputs: &mut Tensors,
    other: &Tensors,
    rows: &[usize],
) -> Result<()> {
    let (Some((name, old)), Some((_, new))) = (noise(info, inputs), noise(info, other)) else {
        return Ok(());
    };
    let (Data::F32(values), Data::F32(new)) = (old.data(), new.data()) else {
        return Ok(());
    };
    let count = old.shape().first().copied().unwrap_or(0);
    let size = values.len().checked_div(count).unwrap_or(0);
    let mut values = values.clone();
    for range in rows.iter().map(|row| row * size..(row + 1) * size) {
        values[range.clone()].copy_from_slice(&new[range]);
    }
    let replaced = Array::f32(old.shape().to_vec(), values)?;
    let name = name.clone();
    inputs.insert(name, replaced);
    Ok(())
}

#[cfg(test)]
mod tests {
    use zoo_graph::Graph;
    use zoo_sdk::{Context, Error, EvaluateRequest, Metrics, Port, Split};

    use super::*;

    /// x is the level of 100 in which the noise lies.
    struct Levels;

    impl Session for Levels {
        fn graphs(&self) -> Result<Vec<GraphInfo>> {
            Ok(vec![GraphInfo {
                name: "sample".into(),
                doc: String::new(),
                inputs: vec![Port::uniform("noise", &[1, 1, 40])],
                outputs: vec![Port::batched("x", &[1, 1, 40])],
            }])
        }

        fn run(&self, _: &str, inputs: &Tensors) -> Result<Tensors> {
            let Data::F32(noise) = inputs["noise"].data() else {
                return Err(Error::input("no noise"));
            };
            let levels = noise.iter().map(|u| (u * 100.0).floor() / 100.0);
            let shape = inputs["noise"].shape().to_vec();
            let x = Array::f32(shape, levels.collect::<Vec<_>>())?;
            Ok(Tensors::from([("x".to_owned(), x)]))
        }

        fn evaluate(
            &self,
            _: &EvaluateRequest,
            _: &Split<'_>,
            _: &mut dyn Context,
        ) -> Result<Metrics> {
            Ok(Metrics::new())
        }

        fn export(&self, _: &str) -> Result<Graph> {
            Ok(Graph::default())
        }
    }

    fn tensors(noise: Vec<f32>) -> Tensors {
        let noise = Array::f32([3, 1, 1, 40], noise).unwrap();
        Tensors::from([("noise".to_owned(), noise)])
    }

    #[test]
    fn only_images_with_noise_on_an_edge_are_drawn_anew() {
        let info = &Levels.graphs().unwrap()[0];
        let mut values = vec![0.125; 120];
        values[40 + 7] = 0.25 + 1e-6;
        values[80] = 0.75 - 1e-6;
        let mut inputs = tensors(values.clone());
        let outputs = Levels.run("sample", &inputs).unwrap();
        let rows = unsteady(&Levels, info, &inputs, &outputs).unwrap();
        assert_eq!(rows, [1, 2]);

        replace(info, &mut inputs, &tensors(vec![0.5125; 120]), &rows).unwrap();
        let expected = [vec![0.125; 40], vec![0.5125; 80]].concat();
        assert_eq!(inputs, tensors(expected));
        let outputs = Levels.run("sample", &inputs).unwrap();
        let rows = unsteady(&Levels, info, &inputs, &outputs).unwrap();
        assert!(rows.is_empty(), "{rows:?}");
    }

    #[test]
    fn what_is_compared_is_drawn_from_steady_noise() {
        // Of 7 * 40 values some lie within 4e-6 of one of 100 edges for about one seed of 9.
        let infos = Levels.graphs().unwrap();
        let mut anew = 0;
        for seed in 0..60 {
            let drawn = super::super::expected(&Levels, &infos, &infos[0], [1, 1, 40], 7, seed);
            let drawn = drawn.unwrap();
            let first = zoo_sdk::draw_inputs(&infos[0].inputs, 7, seed, None).unwrap();
            anew += usize::from(first != drawn.inputs);
            let rows = unsteady(&Levels, &infos[0], &drawn.inputs, &drawn.outputs).unwrap();
            assert!(rows.is_empty(), "{rows:?}");
        }
        assert!((1..40).contains(&anew), "{anew}");
    }
}
