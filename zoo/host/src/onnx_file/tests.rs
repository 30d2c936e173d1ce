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
fn arrays_survive_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    for array in [
        Array::f32([2, 3], [0.0, -1.5, f32::MAX, 1e-30, 4.0, 5.0]).unwrap(),
        Array::i64([3], [1, -2, i64::MAX]).unwrap(),
        Array::bool([2], [0, 1]).unwrap(),
        Array::from_le_bytes(DType::F16, [2], &[0, 0x3c, 0, 0xc0]).unwrap(),
        Array::from_le_bytes(DType::F64, [1, 1], &2.5f64.to_le_bytes()).unwrap(),
        Array::from_le_bytes(DType::I32, [1], &(-7i32).to_le_bytes()).unwrap(),
        Array::f32(Vec::<usize>::new(), [3.0]).unwrap(),
    ] {
        write_npy(&path, &array).unwrap();
        assert_eq!(read_npy(&path).unwrap(), array);
    }
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "no temporary files");
}

/// A file with this header and these elements.
fn npy(header: &str, elements: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(elements);
    bytes
}

#[test]
fn other_byte_orders_and_layouts_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    let header = "{'descr': '>i4', 'fortran_order': True, 'shape': (2, 3), }";
    let elements: Vec<u8> = (0..6i32).flat_map(i32::to_be_bytes).collect();
    fs::write(&path, npy(header, &elements)).unwrap();
    // numpy: arange(6).reshape(2, 3, order="F")
    let array = read_npy(&path).unwrap();
    assert_eq!(array.shape(), [2, 3]);
    assert_eq!(array.to_f64(), [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]);
}

#[test]
fn damaged_arrays_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    let header = |descr: &str, shape: &str| {
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}")
    };
    for (bytes, told) in [
        (vec![], "is no NumPy array"),
        (b"\x93NUMPY".to_vec(), "ends within its header"),
        (
            b"\x93NUMPY\x01\x00\xff\x00{".to_vec(),
            "ends within its header",
        ),
        (b"\x93NUMPY\x09\x00\x00\x00".to_vec(), "version 9"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(), "4294967295"),
        (npy("nonsense", &[]), "no dictionary"),
        (npy(&header("<f4", "(2,)"), &[0; 7]), "7 bytes follow"),
        (
            npy(&header("<f4", "(18446744073709551615, 3)"), &[]),
            "promises",
        ),
        (npy(&header("|O", "(1,)"), &[0; 8]), "pickle"),
        (npy(&header("<c8", "(1,)"), &[0; 8]), ".astype()"),
    ] {
        fs::write(&path, bytes).unwrap();
        let error = read_npy(&path).unwrap_err().to_string();
        assert!(error.contains(told) && error.contains("a.npy"), "{error}");
    }
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
