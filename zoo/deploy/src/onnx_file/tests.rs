use zoo_data::npy::{read_npy, write_npy};
use zoo_graph::{Attribute, Dim, Node, ValueType};
use zoo_sdk::Array;

use super::*;

/// y = x + noise, `[N,1,4,4]`, written by `producer`.
fn model() -> Vec<u8> {
    let image = |name: &str| Port::image(name, [1, 4, 4]);
    let mut graph = Graph {
        name: "add".into(),
        inputs: vec![image("x"), image("bias")],
        outputs: vec![image("y")],
        ..Graph::default()
    };
    for name in ["x", "bias", "y"] {
        graph.types.insert(name.into(), image(name).value_type());
    }
    graph.nodes.push(Node {
        name: "sum".into(),
        op: "Add".into(),
        inputs: vec!["x".into(), "bias".into()],
        outputs: vec!["y".into()],
        ..Node::default()
    });
    zoo_onnx::encode(&graph, &[])
}

fn images(n: usize, value: f32) -> Array {
    Array::f32([n, 1, 4, 4], vec![value; n * 16]).unwrap()
}

#[test]
fn a_file_is_inspected_and_run() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("add.onnx"), model()).unwrap();
    let seen = inspect(&at("add.onnx")).unwrap();
    assert_eq!(seen.problem, None);
    assert_eq!(
        (seen.nodes, seen.parameters, seen.opset),
        (1, 0, zoo_onnx::OPSET)
    );
    assert_eq!(seen.operators, [("Add".to_owned(), 1)].into());
    assert!(seen.graph.contains("%y = Add(%x, %bias)"), "{}", seen.graph);

    write_npy(&at("x.npy"), &images(2, 0.25)).unwrap();
    write_npy(&at("bias.npy"), &images(2, 0.5)).unwrap();
    let inputs = ["x", "bias"].map(|name| (name.to_owned(), at(&format!("{name}.npy"))));
    let options = RunOptions {
        inputs: inputs.to_vec(),
        ..RunOptions::new(at("add.onnx"), at("out"))
    };
    let report = run(&options).unwrap();
    let [y] = &report.outputs[..] else {
        panic!("one output")
    };
    assert_eq!(
        (y.name.as_str(), y.min, y.max),
        ("y", Some(0.75), Some(0.75))
    );
    assert_eq!(read_npy(&y.file).unwrap(), images(2, 0.75));
    assert!(y.picture.as_ref().unwrap().is_file());
}

#[test]
fn inputs_that_do_not_fit_are_told_with_the_valid_ones() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("add.onnx"), model()).unwrap();
    write_npy(&at("good.npy"), &images(2, 0.0)).unwrap();
    write_npy(&at("three.npy"), &images(3, 0.0)).unwrap();
    write_npy(&at("flat.npy"), &images(2, 0.0).reshaped([2, 16]).unwrap()).unwrap();
    write_npy(&at("ints.npy"), &Array::i64([2], [0, 1]).unwrap()).unwrap();
    for (given, told) in [
        (&[("x", "good")][..], "input \"bias\" is missing"),
        (
            &[("q", "good"), ("bias", "good")],
            "there is no input \"q\"",
        ),
        (&[("x", "ints"), ("bias", "good")], "must be f32"),
        (&[("x", "good"), ("x", "good")], "given twice"),
        (&[("x", "flat"), ("bias", "good")], "[N,1,4,4]"),
        (&[("x", "good"), ("bias", "three")], "N cannot be both"),
        (&[("x", "absent"), ("bias", "good")], "absent.npy"),
    ] {
        let inputs = given
            .iter()
            .map(|(name, file)| ((*name).to_owned(), at(&format!("{file}.npy"))));
        let options = RunOptions {
            inputs: inputs.collect(),
            ..RunOptions::new(at("add.onnx"), at("out"))
        };
        let error = run(&options).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(told), "{error}");
        assert!(!at("out").exists(), "nothing is written");
    }
}

#[test]
fn files_that_are_no_models() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.onnx");
    for (bytes, told) in [
        (b"not a protobuf".to_vec(), "no ONNX protobuf"),
        (Vec::new(), "in the model"),
        (model()[..40].to_vec(), "bad.onnx"),
    ] {
        fs::write(&path, bytes).unwrap();
        let error = inspect(&path).unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
        assert!(run(&RunOptions::new(&path, folder.path().join("out"))).is_err());
    }
    assert!(
        inspect(folder.path())
            .unwrap_err()
            .to_string()
            .contains("folder")
    );
    assert!(inspect(&folder.path().join("absent")).is_err());
}

#[test]
fn a_file_that_fails_the_check_is_shown_with_its_problem_and_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("add.onnx");
    let mut model = zoo_onnx::decode(&model()).unwrap();
    let wrong = ValueType {
        dtype: DType::F32,
        shape: vec![Dim::batch(), 7usize.into()],
    };
    model.graph.outputs[0].shape = wrong.shape.clone();
    model.graph.types.insert("y".into(), wrong);
    model.graph.nodes[0]
        .attributes
        .insert("axis".into(), Attribute::Int(1));
    fs::write(&path, zoo_onnx::encode(&model.graph, &[])).unwrap();
    let problem = inspect(&path).unwrap().problem.unwrap();
    assert!(problem.contains("sum"), "{problem}");
    let error = run(&RunOptions::new(&path, folder.path().join("out"))).unwrap_err();
    assert!(matches!(error, Error::Onnx { .. }), "{error}");
}
