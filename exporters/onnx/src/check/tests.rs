use prost::Message;
use zoo_graph::{Array, Attribute, Graph, Port};

use super::*;
use crate::{
    encode,
    proto::{
        Dimension, DimensionValue, ModelProto, OperatorSetIdProto, StringStringEntryProto,
        TensorProto, ValueInfoProto,
    },
    testing::{Net, random},
};

fn generator() -> Graph {
    let mut net = Net::new("decode");
    net.input(Port::normal("z", &[4]));
    net.constant("fc.weight", random(&[18, 4], 1));
    net.constant("fc.bias", random(&[18], 2));
    net.constant("shape", Array::i64([4], [0, 2, 3, 3]).unwrap());
    net.constant("up.weight", random(&[2, 1, 4, 4], 3));
    net.node(
        "fc",
        "Gemm",
        &["z", "fc.weight", "fc.bias"],
        &[("transB", Attribute::Int(1))],
    );
    net.node("image", "Reshape", &["fc", "shape"], &[]);
    net.node(
        "up",
        "ConvTranspose",
        &["image", "up.weight"],
        &[
            ("strides", Attribute::Ints(vec![2, 2])),
            ("pads", Attribute::Ints(vec![1; 4])),
        ],
    );
    net.node("x", "Sigmoid", &["up"], &[]);
    let mut graph = net.outputs(&["x"]);
    graph.outputs[0].range = Some([0.0, 1.0]);
    graph
}

fn model() -> ModelProto {
    ModelProto::decode(encode(&generator(), &[("model".into(), "vae".into())]).as_slice()).unwrap()
}

#[test]
fn a_good_file_is_summarised() {
    let summary = check(&encode(&generator(), &[("model".into(), "vae".into())])).unwrap();
    assert_eq!(summary.inputs, [Port::normal("z", &[4])]);
    assert_eq!(summary.outputs, [Port::image("x", [1, 6, 6])]);
    assert_eq!((summary.nodes, summary.opset), (4, 17));
    assert_eq!(summary.parameters, 18 * 4 + 18 + 32);
    let expected = [
        ("model", "vae"),
        ("input.z.distribution", "normal"),
        ("output.x.range", "[0,1]"),
    ];
    assert_eq!(
        summary.metadata,
        expected.map(|(k, v)| (k.to_string(), v.to_string()))
    );
}

#[test]
fn types_that_are_not_stated_are_inferred() {
    let mut model = model();
    model.graph.as_mut().unwrap().value_info.clear();
    check(&model.encode_to_vec()).unwrap();
}

fn dims(info: &mut ValueInfoProto) -> &mut Vec<Dimension> {
    let tensor = info.r#type.as_mut().unwrap().tensor_type.as_mut().unwrap();
    &mut tensor.shape.as_mut().unwrap().dim
}

type Damage = fn(&mut ModelProto);

/// What the error must say, and the damage.
const DAMAGES: &[(&str, Damage)] = &[
    ("holds no graph", |m| m.graph = None),
    ("IR 9", |m| m.ir_version = 9),
    ("opset 18", |m| m.opset_import[0].version = 18),
    ("imports no operator set", |m| m.opset_import.clear()),
    ("other operator sets", |m| {
        m.opset_import.push(OperatorSetIdProto {
            domain: "com.microsoft".into(),
            version: 1,
        })
    }),
    ("functions", |m| m.functions.push(vec![])),
    ("key \"model\" twice", |m| {
        m.metadata_props.push(StringStringEntryProto {
            key: "model".into(),
            value: "gan".into(),
        })
    }),
    ("\"input.z.distribution\" is \"cauchy\"", |m| {
        m.metadata_props[1].value = "cauchy".into()
    }),
    (
        "in node \"fc\" (Gemm): the operator domain \"com.evil\"",
        |m| graph(m).node[0].domain = "com.evil".into(),
    ),
    ("in node \"x\" (Einsum): the operator is unknown", |m| {
        graph(m).node[3].op_type = "Einsum".into()
    }),
    ("in node \"x\" (GroupNormalization)", |m| {
        let node = &mut graph(m).node[3];
        node.op_type = "GroupNormalization".into();
        node.input = vec!["up".into(), "fc.bias".into(), "fc.bias".into()];
    }),
    (
        "in node \"x\" (Sigmoid): the operator has no attribute \"transB\"",
        |m| {
            let attribute = graph(m).node[0].attribute[0].clone();
            graph(m).node[3].attribute.push(attribute);
        },
    ),
    ("attribute \"transB\" is given twice", |m| {
        let attribute = graph(m).node[0].attribute[0].clone();
        graph(m).node[0].attribute.push(attribute);
    }),
    ("attribute \"transB\" is not of the kind Int", |m| {
        graph(m).node[0].attribute[0].r#type = 1
    }),
    ("attribute \"transB\" has the unsupported type 8", |m| {
        graph(m).node[0].attribute[0].r#type = 8
    }),
    (
        "in node \"fc\" (Gemm): it has 1 inputs, the operator takes 2 to 3",
        |m| graph(m).node[0].input.truncate(1),
    ),
    ("in node \"fc\" (Gemm): input 1 is left out", |m| {
        graph(m).node[0].input[1].clear()
    }),
    (
        "in node \"fc\" (Gemm): input \"up\" is produced by nothing before it",
        |m| graph(m).node[0].input[0] = "up".into(),
    ),
    ("in node \"fc\" (Gemm): the inner sizes", |m| {
        graph(m).node[0].attribute.clear()
    }),
    ("another node has its name", |m| {
        graph(m).node[1].name = "fc".into()
    }),
    ("in value \"up\": it is defined twice", |m| {
        graph(m).node[3].output[0] = "up".into()
    }),
    ("in value \"fc.bias\": it is defined twice", |m| {
        let tensor = graph(m).initializer[1].clone();
        graph(m).initializer.push(tensor);
    }),
    ("in value \"x\": no node produces this output", |m| {
        graph(m).node.pop();
    }),
    ("in value \"x\": two outputs have this name", |m| {
        let port = graph(m).output[0].clone();
        graph(m).output.push(port);
    }),
    (
        "in node \"x\" (Sigmoid): \"x\" is stated as f32[N,1,7,6], but it is f32[N,1,6,6]",
        |m| {
            dims(&mut graph(m).output[0])[2].value = Some(DimensionValue::Value(7));
        },
    ),
    ("\"fc\" is stated as f32[N,17], but it is f32[N,18]", |m| {
        let info = graph(m)
            .value_info
            .iter_mut()
            .find(|i| i.name == "fc")
            .unwrap();
        dims(info)[1].value = Some(DimensionValue::Value(17));
    }),
    ("first dimension of a port must be the batch N", |m| {
        dims(&mut graph(m).input[0])[0].value = Some(DimensionValue::Value(1))
    }),
    ("neither size nor symbol", |m| {
        dims(&mut graph(m).input[0])[0].value = None
    }),
    ("its dimension -1 is negative", |m| {
        dims(&mut graph(m).input[0])[1].value = Some(DimensionValue::Value(-1))
    }),
    ("is too large", |m| {
        dims(&mut graph(m).input[0])[1].value = Some(DimensionValue::Value(i64::MAX))
    }),
    ("it is no tensor", |m| graph(m).input[0].r#type = None),
    (
        "in value \"fc.weight\": its dimension -18 is negative",
        |m| tensor(m).dims[0] = -18,
    ),
    ("in value \"fc.weight\": the shape", |m| {
        tensor(m).dims[0] = i64::MAX
    }),
    (
        "in value \"fc.weight\": an array of shape [18, 4] holds 72 elements, not 71",
        |m| tensor(m).raw_data.truncate(71 * 4),
    ),
    (
        "in value \"fc.weight\": its data are in another file",
        |m| {
            tensor(m).external_data.push(StringStringEntryProto {
                key: "location".into(),
                value: "../../secret".into(),
            });
        },
    ),
    ("in value \"fc.weight\": its element type 16", |m| {
        tensor(m).data_type = 16
    }),
    ("its inputs are of f32 and i32", |m| {
        tensor(m).data_type = crate::proto::data_type::INT32
    }),
    ("input 1 decides the shape", |m| {
        graph(m).node[1].input[1] = "fc".into()
    }),
    ("in node \"image\" (Reshape)", |m| {
        let target = graph(m)
            .initializer
            .iter_mut()
            .find(|i| i.name == "shape")
            .unwrap();
        target.raw_data = [7i64, 2, 3, 3]
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
    }),
    ("in node \"up\" (ConvTranspose): the weights", |m| {
        graph(m).initializer[3].dims.swap(0, 2)
    }),
    ("sparse initializers", |m| {
        graph(m).sparse_initializer.push(vec![])
    }),
    ("a type is stated for it, but nothing defines it", |m| {
        let mut info = graph(m).value_info[0].clone();
        info.name = "ghost".into();
        graph(m).value_info.push(info);
    }),
    ("nested deeper than 8", |m| {
        for _ in 0..10 {
            let inner = graph(m).clone();
            let outer = graph(m);
            outer.node.truncate(1);
            let attribute = &mut outer.node[0].attribute[0];
            (attribute.r#type, attribute.g) = (5, Some(inner));
        }
    }),
];

fn graph(model: &mut ModelProto) -> &mut crate::proto::GraphProto {
    model.graph.as_mut().unwrap()
}

fn tensor(model: &mut ModelProto) -> &mut TensorProto {
    &mut graph(model).initializer[0]
}

#[test]
fn damages_are_refused_by_name() {
    for (expected, damage) in DAMAGES {
        let mut damaged = model();
        damage(&mut damaged);
        let message = match check(&damaged.encode_to_vec()) {
            Ok(_) => panic!("a file passed that should say {expected:?}"),
            Err(error) => error.to_string(),
        };
        assert!(
            message.contains(expected),
            "expected {expected:?}, got {message:?}"
        );
    }
}

#[test]
fn no_prefix_of_a_file_passes() {
    let bytes = encode(&generator(), &[]);
    for length in 0..bytes.len() {
        // Whole trailing fields may be missing and leave a file that holds together: those are metadata alone.
        if let Ok(summary) = check(&bytes[..length]) {
            assert!(
                summary.metadata.len() < 2,
                "{length} of {} bytes",
                bytes.len()
            );
            assert_eq!(summary.nodes, 4);
        }
    }
}

#[test]
fn no_changed_byte_panics() {
    let bytes = encode(&generator(), &[]);
    for at in 0..bytes.len() {
        for value in [
            0x00,
            0x7f,
            0xff,
            bytes[at].wrapping_add(1),
            bytes[at] ^ 0x80,
        ] {
            let mut damaged = bytes.clone();
            damaged[at] = value;
            let _ = check(&damaged);
        }
    }
}

#[test]
fn a_fixed_batch_is_foreign() {
    let mut net = Net::new("fixed");
    net.input(Port::new("x", zoo_graph::DType::F32, [2.into(), 3.into()]));
    net.node("y", "Relu", &["x"], &[]);
    let bytes = encode(&net.outputs(&["y"]), &[]);
    assert!(check(&bytes).is_err());
    assert_eq!(check_foreign(&bytes).unwrap().inputs[0].name, "x");
}
