//! Small fixed weights under `fixtures/golden`: each exported graph gives the stored outputs, on every runtime, at every
//! batch size; snapshots show the exported graphs and what the outputs look like.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // Helpers of tests are tests too.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use zoo_data::Source;
use zoo_pictures::thumbnail;
use zoo_runs::{Which, from_safetensors, open, to_safetensors};
use zoo_runtimes::LoadOptions;
use zoo_runtimes::parity::Tolerance;
use zoo_sdk::{
    Array, DType, DataSpec, GraphInfo, OpenRequest, PortRole, RuntimeId, Session, Tensors,
    draw_inputs,
};
use zoo_tests::{SMALL, Small, registry, root, runtimes};

/// Images in the stored inputs. A graph treats each by itself, so the first rows are those of a smaller batch.
const BATCH: usize = 7;
/// Images drawn in a snapshot.
const SHOWN: usize = 2;

/// `model.json`: what belongs to the weights.
#[derive(Serialize, Deserialize)]
struct Record {
    model: String,
    config: Json,
    data: DataSpec,
    /// How the weights were made.
    settings: Vec<String>,
    steps: u64,
}

fn folder(small: &Small) -> PathBuf {
    root().join("fixtures/golden").join(small.name)
}

fn tensors(path: &Path) -> Tensors {
    let bytes = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    from_safetensors(&bytes).unwrap()
}

/// The model with its stored weights.
fn session(small: &Small) -> Box<dyn Session> {
    let text = fs::read_to_string(folder(small).join("model.json")).unwrap();
    let record: Record = serde_json::from_str(&text).unwrap();
    let request = OpenRequest {
        model: record.config,
        data: record.data,
        weights: tensors(&folder(small).join("model.safetensors")),
        threads: 2,
        device: "cpu".into(),
    };
    registry().get(small.model).unwrap().open(&request).unwrap()
}

/// Inputs and outputs stored for a graph.
fn stored(small: &Small, graph: &str) -> [Tensors; 2] {
    let all = tensors(&folder(small).join(format!("{graph}.safetensors")));
    ["input.", "output."].map(|kind| {
        let of_kind = all.iter().filter_map(|(name, array)| {
            let port = name.strip_prefix(kind)?;
            Some((port.to_owned(), array.clone()))
        });
        of_kind.collect()
    })
}

fn rows(tensors: &Tensors, n: usize) -> Tensors {
    let first = |(name, array): (&String, &Array)| (name.clone(), array.rows(0, n));
    tensors.iter().map(first).collect()
}

#[track_caller]
fn assert_close(expected: &Tensors, got: &Tensors, what: &str) {
    let names = |tensors: &Tensors| tensors.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(expected), names(got), "{what}");
    for (name, expected) in expected {
        let got = &got[name];
        assert_eq!(
            (expected.dtype(), expected.shape()),
            (got.dtype(), got.shape()),
            "{what}: {name}"
        );
        for (i, (e, g)) in expected.to_f64().iter().zip(got.to_f64()).enumerate() {
            let close = Tolerance::F32.within(*e, g);
            assert!(close, "{what}: {name}: element {i} is {g}, expected {e}");
        }
    }
}

/// Images as thumbnails, everything else as rounded numbers.
fn look(info: &GraphInfo, outputs: &Tensors) -> String {
    let mut text = String::new();
    for port in &info.outputs {
        let array = &outputs[&port.name];
        text.push_str(&format!("{} : {}\n", port.name, port.value_type()));
        if let (&[_, c, h, w], DType::F32) = (array.shape(), array.dtype()) {
            for i in 0..SHOWN {
                let image = array.rows(i, i + 1).reshaped([c, h, w]).unwrap();
                text.push_str(&format!("{}\n", thumbnail(&image).unwrap()));
            }
        } else {
            let width = array.len() / array.shape()[0];
            for row in array.to_f64().chunks(width).take(SHOWN) {
                let row: Vec<String> = row.iter().map(|&v| rounded(v)).collect();
                text.push_str(&format!("{}\n", row.join(" ")));
            }
        }
    }
    text
}

fn rounded(value: f64) -> String {
    match value.abs() < 100.0 {
        true => format!("{value:.2}"),
        false => format!("{value:.1}"),
    }
}

#[test]
fn every_graph_gives_the_stored_outputs_on_every_runtime_at_every_batch_size() {
    let runtimes = runtimes();
    for small in &SMALL {
        let session = session(small);
        for info in session.graphs().unwrap() {
            let [inputs, outputs] = stored(small, &info.name);
            let recorded = session.export(&info.name).unwrap();
            let variants = zoo_onnx::export(&recorded, &Default::default()).unwrap();
            let name = format!("{}-{}", small.name, info.name);
            let candle = session.run(&info.name, &inputs).unwrap();
            insta::assert_snapshot!(format!("{name}-outputs"), look(&info, &candle));
            for n in [1, 3, BATCH] {
                let got = session.run(&info.name, &rows(&inputs, n)).unwrap();
                assert_close(
                    &rows(&outputs, n),
                    &got,
                    &format!("{name} on candle at batch {n}"),
                );
            }
            for runtime in &runtimes {
                let what = format!("{name} on {}", runtime.id());
                let serves = variants.iter().find(|v| v.serves(&runtime.id()));
                let variant = serves.unwrap_or_else(|| panic!("{what}: no variant serves it"));
                let load = LoadOptions::default();
                let mut loaded = zoo_runtimes::load(runtime.as_ref(), &variant.content, &load)
                    .unwrap_or_else(|e| panic!("{what}: {e}"));
                for n in [1, 3, BATCH] {
                    let what = format!("{what} at batch {n}");
                    let (inputs, expected) = (rows(&inputs, n), rows(&candle, n));
                    let got = loaded
                        .run(&inputs)
                        .unwrap_or_else(|e| panic!("{what}: {e}"));
                    assert_close(&expected, &got, &format!("{what}, against candle"));
                    assert_close(
                        &rows(&outputs, n),
                        &got,
                        &format!("{what}, against the fixture"),
                    );
                    if n == BATCH {
                        assert_eq!(look(&info, &got), look(&info, &candle), "{what}");
                    }
                }
            }
        }
    }
}

#[test]
fn exported_graphs_read_as_before() {
    for small in &SMALL {
        let session = session(small);
        for info in session.graphs().unwrap() {
            let recorded = session.export(&info.name).unwrap();
            let variants = zoo_onnx::export(&recorded, &Default::default()).unwrap();
            let mut text = String::new();
            for variant in &variants {
                let file = variant.file_name(&info.name);
                let runtimes = RuntimeId::list(&variant.runtimes);
                text.push_str(&format!("{file} for {runtimes}\n"));
                for onnx in variant.content.onnx() {
                    let graph = zoo_onnx::decode(onnx).unwrap().graph;
                    text.push_str(&format!("{graph}\n"));
                }
            }
            insta::assert_snapshot!(format!("{}-{}-graph", small.name, info.name), text);
        }
    }
}

/// Inputs of a graph: noise by its ports, images from the test images.
fn inputs(info: &GraphInfo, images: &Array) -> Tensors {
    let mut inputs = Tensors::new();
    for port in &info.inputs {
        let drawn = match (port.distribution, port.role()) {
            (Some(_), _) => draw_inputs(std::slice::from_ref(port), BATCH, 1, None).unwrap(),
            (None, PortRole::Image | PortRole::Given) => {
                Tensors::from([(port.name.clone(), images.clone())])
            }
            // The upper half is given.
            (None, PortRole::Mask) => {
                let pixels = images.len() / BATCH;
                let upper = (0..images.len()).map(|i| f32::from(u8::from(i % pixels < pixels / 2)));
                let mask = Array::f32(images.shape(), upper.collect::<Vec<_>>()).unwrap();
                Tensors::from([(port.name.clone(), mask)])
            }
            // A latent of an encoder.
            (None, _) => {
                let width = port.shape_at(BATCH).unwrap().iter().product::<usize>() / BATCH;
                let noise = zoo_sdk::Port::normal(&port.name, &[width]);
                draw_inputs(&[noise], BATCH, 1, None).unwrap()
            }
        };
        inputs.extend(drawn);
    }
    inputs
}

/// Rounding must not depend on the last digits, which differ between machines.
fn is_steady(info: &GraphInfo, outputs: &Tensors) -> bool {
    let moved = |by: f32| {
        let each = outputs.iter().map(|(name, array)| {
            let values = array.as_f32().unwrap().iter();
            let values: Vec<f32> = values.map(|v| v + by * (1.0 + v.abs())).collect();
            (name.clone(), Array::f32(array.shape(), values).unwrap())
        });
        look(info, &each.collect())
    };
    moved(1e-5) == moved(0.0) && moved(-1e-5) == moved(0.0)
}

#[test]
#[ignore = "writes what is missing in fixtures/golden: delete a folder there, run this, run the tests with INSTA_UPDATE=always, and look at what changed"]
fn regenerate() {
    let images = zoo_data::load(
        &Source::parse("fashion-small").unwrap(),
        &Default::default(),
    )
    .unwrap()
    .images("test", &(0..BATCH).collect::<Vec<_>>())
    .unwrap();
    for small in SMALL.iter().filter(|small| !folder(small).exists()) {
        let temporary = tempfile::tempdir().unwrap();
        let run = temporary.path().join("run");
        // The first number of steps whose snapshots do not hang on the last digits.
        for steps in 400.. {
            let _ = fs::remove_dir_all(&run);
            small.train(&run, steps);
            let trained = open(&registry(), &run, Which::Raw).unwrap();
            let session = trained.session(&registry(), 2, "cpu").unwrap();
            let graphs = session.graphs().unwrap();
            let cases: Vec<(GraphInfo, Tensors, Tensors)> = graphs
                .into_iter()
                .map(|info| {
                    let inputs = inputs(&info, &images);
                    let outputs = session.run(&info.name, &inputs).unwrap();
                    (info, inputs, outputs)
                })
                .collect();
            let unsteady: Vec<&str> = cases
                .iter()
                .filter(|(info, _, outputs)| !is_steady(info, outputs))
                .map(|(info, ..)| info.name.as_str())
                .collect();
            if !unsteady.is_empty() {
                println!("{} after {steps} steps: unsteady {unsteady:?}", small.name);
                continue;
            }
            let folder = folder(small);
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).unwrap();
            let record = Record {
                model: small.model.into(),
                config: trained.config.clone(),
                data: trained.data.clone(),
                settings: small.set.iter().map(|s| s.to_string()).collect(),
                steps,
            };
            let mut text = serde_json::to_string_pretty(&record).unwrap();
            text.push('\n');
            fs::write(folder.join("model.json"), text).unwrap();
            let weights = to_safetensors(&trained.weights).unwrap();
            fs::write(folder.join("model.safetensors"), weights).unwrap();
            for (info, inputs, outputs) in cases {
                let named = |kind: &str, tensors: Tensors| -> Tensors {
                    let each = tensors.into_iter();
                    each.map(|(name, array)| (format!("{kind}.{name}"), array))
                        .collect()
                };
                let mut all = named("input", inputs);
                all.extend(named("output", outputs));
                let file = folder.join(format!("{}.safetensors", info.name));
                fs::write(file, to_safetensors(&all).unwrap()).unwrap();
            }
            break;
        }
    }
}
