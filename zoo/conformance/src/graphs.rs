//! Graphs: computed, refused, exported, and equal on every runtime.

use std::sync::Arc;
use std::time::Instant;

use zoo_runtimes::{LoadOptions, Runtime, example_inputs, parity::Tolerance};
use zoo_sdk::{Array, GraphInfo, Session, Tensors, input_rows, sizes_of};

use crate::{Options, Outcome, Report, ensure, refused, training::Subject};

pub(crate) fn check(subject: &Subject<'_>, options: &Options, report: &mut Report) {
    let session = match subject.session() {
        Ok(session) => session,
        Err(error) => return report.add("opens its own checkpoint", Err(error)),
    };
    let graphs = match session.graphs() {
        Ok(graphs) => graphs,
        Err(error) => return report.add("lists its graphs", Err(error.to_string())),
    };
    let listed: Vec<String> = subject.plugin.describe().graphs.into_keys().collect();
    let mut given: Vec<String> = graphs.iter().map(|g| g.name.clone()).collect();
    given.sort();
    report.add(
        "has the graphs that it describes",
        ensure(given == listed, || {
            format!("it describes {listed:?} and has {given:?}")
        }),
    );
    for graph in &graphs {
        let name = &graph.name;
        report.add(
            format!("{name}: computes what its ports say"),
            computes(&*session, graph),
        );
        report.add(
            format!("{name}: treats each image by itself"),
            independent(&*session, graph),
        );
        report.add(
            format!("{name}: refuses bad tensors"),
            bad_tensors(&*session, graph),
        );
        let files = match exported(&*session, graph) {
            Ok(files) => Arc::new(files),
            Err(error) => {
                report.add(format!("{name}: exports"), Err(error));
                continue;
            }
        };
        for (runtime, found) in zoo_runtimes::found(&options.search) {
            // A runtime that is not installed is no fault of the plugin.
            if let Ok(runtime_found) = found {
                report.add(
                    format!("{name}: computes the same on {runtime}"),
                    parity(&*session, graph, &files, runtime_found.into(), options),
                );
            }
        }
    }
}

fn inputs(graph: &GraphInfo, n: usize) -> Outcome<Tensors> {
    example_inputs(&graph.inputs, n, 11).map_err(|e| e.to_string())
}

fn run(session: &dyn Session, graph: &GraphInfo, inputs: &Tensors) -> Outcome<Tensors> {
    session.run(&graph.name, inputs).map_err(|e| e.to_string())
}

fn computes(session: &dyn Session, graph: &GraphInfo) -> Outcome {
    for n in [1, 3] {
        let inputs = inputs(graph, n)?;
        let sizes = sizes_of(&graph.inputs, |name| inputs.get(name).map(Array::shape));
        let outputs = run(session, graph, &inputs)?;
        ensure(outputs.len() == graph.outputs.len(), || {
            format!(
                "{} outputs for {} ports",
                outputs.len(),
                graph.outputs.len()
            )
        })?;
        for port in &graph.outputs {
            let array = outputs
                .get(&port.name)
                .ok_or_else(|| format!("no output {:?}", port.name))?;
            let fits = array.dtype() == port.dtype
                && port.shape_at(&sizes).as_deref() == Some(array.shape());
            ensure(fits, || {
                format!(
                    "output {:?} is {array:?}, the port says {}",
                    port.name,
                    port.value_type()
                )
            })?;
            let [low, high] = port.range.unwrap_or([f64::NEG_INFINITY, f64::INFINITY]);
            let wrong = array
                .to_f64()
                .into_iter()
                .find(|x| !x.is_finite() || *x < low || *x > high);
            ensure(wrong.is_none(), || {
                format!(
                    "output {:?} holds {wrong:?}, outside {low} to {high}",
                    port.name
                )
            })?;
        }
    }
    Ok(())
}

fn independent(session: &dyn Session, graph: &GraphInfo) -> Outcome {
    let three = inputs(graph, 3)?;
    let last = input_rows(&graph.inputs, &three, 2, 3);
    let (three, last) = (run(session, graph, &three)?, run(session, graph, &last)?);
    for (name, array) in &last {
        close(name, array, &three[name].rows(2, 3))?;
    }
    Ok(())
}

fn bad_tensors(session: &dyn Session, graph: &GraphInfo) -> Outcome {
    let good = inputs(graph, 2)?;
    let Some((name, array)) = good.iter().next() else {
        return Ok(());
    };
    let attempt = |change: &dyn Fn(&mut Tensors)| {
        let mut changed = good.clone();
        change(&mut changed);
        session.run(&graph.name, &changed)
    };
    let bytes = Array::u8(array.shape(), vec![0; array.len()]).map_err(|e| e.to_string())?;
    let flat = array
        .clone()
        .reshaped([array.len()])
        .map_err(|e| e.to_string())?;
    refused(
        attempt(&|t| drop(t.remove(name))),
        "a missing input",
        &[name],
    )?;
    refused(
        attempt(&|t| drop(t.insert("no_such_port".into(), array.clone()))),
        "an input that is not a port",
        &["no_such_port"],
    )?;
    refused(
        attempt(&|t| drop(t.insert(name.clone(), bytes.clone()))),
        "an input of another type",
        &[name],
    )?;
    refused(
        attempt(&|t| drop(t.insert(name.clone(), array.rows(0, 0)))),
        "an empty batch",
        &[name],
    )?;
    if array.shape().len() > 1 {
        refused(
            attempt(&|t| drop(t.insert(name.clone(), flat.clone()))),
            "an input of another shape",
            &[name],
        )?;
    }
    refused(
        session.run("no_such_graph", &good),
        "a graph that is not there",
        &["no_such_graph"],
    )
}

fn exported(session: &dyn Session, graph: &GraphInfo) -> Outcome<Vec<zoo_onnx::Variant>> {
    let recorded = session.export(&graph.name).map_err(|e| e.to_string())?;
    recorded.validate().map_err(|e| e.to_string())?;
    ensure(
        recorded.inputs == graph.inputs && recorded.outputs == graph.outputs,
        || "the recorded ports are not the described ones".into(),
    )?;
    zoo_onnx::export(&recorded, &zoo_onnx::Options::default()).map_err(|e| e.to_string())
}

fn parity(
    session: &dyn Session,
    graph: &GraphInfo,
    files: &Arc<Vec<zoo_onnx::Variant>>,
    runtime: Arc<dyn Runtime>,
    options: &Options,
) -> Outcome {
    let served: Vec<_> = (0..files.len())
        .filter(|&i| files[i].serves(&runtime.id()))
        .collect();
    ensure(!served.is_empty(), || "no exported file serves it".into())?;
    let start = Instant::now();
    let mut cases = Vec::new();
    for n in [1, 3, 7] {
        let inputs = inputs(graph, n)?;
        let expected = run(session, graph, &inputs)?;
        cases.push((n, inputs, expected));
    }
    let limit = zoo_runtimes::patience(options.timeout, start.elapsed());
    for at in served {
        let of = files[at].file_name(&graph.name);
        let failed = |error: zoo_runtimes::Error| {
            let error = error.explained(|| session.export(&graph.name).ok());
            format!("{of}: {error}")
        };
        let (own, all) = (runtime.clone(), files.clone());
        let mut loaded = zoo_runtimes::load_within(&runtime.id(), limit, move || {
            zoo_runtimes::load(own.as_ref(), &all[at].content, &LoadOptions::default())
        })
        .map_err(failed)?;
        for (n, inputs, expected) in &cases {
            let got = loaded.run(inputs).map_err(failed)?;
            for (name, array) in expected {
                let found = got
                    .get(name)
                    .ok_or_else(|| format!("{of}: no output {name:?}"))?;
                close(&format!("{of}: {name} at batch {n}"), found, array)?;
            }
        }
    }
    Ok(())
}

/// Within the tolerance that every export is held to.
fn close(name: &str, got: &Array, expected: &Array) -> Outcome {
    ensure(got.shape() == expected.shape(), || {
        format!(
            "{name} has shape {:?}, not {:?}",
            got.shape(),
            expected.shape()
        )
    })?;
    let pairs = got.to_f64().into_iter().zip(expected.to_f64()).enumerate();
    for (i, (got, expected)) in pairs {
        ensure(Tolerance::F32.within(expected, got), || {
            format!("{name} differs at element {i}: {got} for {expected}")
        })?;
    }
    Ok(())
}
