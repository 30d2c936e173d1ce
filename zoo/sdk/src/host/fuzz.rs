//! What reads the bytes of strangers: functions that come back, whatever they are given. The programs of `fuzz/` search for
//! inputs that break them; a test here tries those in `fuzz/inputs` again.

use super::{inspect, isolate, remote};
use crate::{
    Array, Description, Event, GraphInfo, Silent, Tensors, TrainReport,
    abi::{Answer, Caller, TensorRef, op, read_error},
    wire::{Opened, decode_graph, read},
};

/// Reads bytes, and says nothing of them.
pub type Target = fn(&[u8]);

/// By name; `fuzz/inputs` has a folder for each.
pub const TARGETS: [(&str, Target); 5] = [
    ("metadata", metadata),
    ("library", library),
    ("frames", frames),
    ("answers", answers),
    ("call_backs", call_backs),
];

/// The metadata block.
pub fn metadata(bytes: &[u8]) {
    // As it stands, and filled up, since blocks of another size are refused at once.
    let _ = inspect::read_block(bytes);
    let mut block = bytes.to_vec();
    block.resize(1024, 0);
    if let Ok(metadata) = inspect::read_block(&block) {
        assert!(!metadata.package.is_empty() && metadata.requires.is_empty());
    }
}

/// A file that may be a library.
pub fn library(bytes: &[u8]) {
    let _ = inspect::metadata(bytes);
}

/// What a process writes to its pipe.
pub fn frames(bytes: &[u8]) {
    isolate::read_frames(bytes);
}

/// The JSON of a library's answers.
pub fn answers(bytes: &[u8]) {
    let Ok(json) = str::from_utf8(bytes) else {
        return;
    };
    if let Ok(error) = read_error(json) {
        assert!(!error.to_string().contains('\u{1b}'));
    }
    for description in read::<Vec<Description>>(json).unwrap_or_default() {
        let _ = remote::check_description(&description);
    }
    let _ = remote::check_graphs(&read::<Vec<GraphInfo>>(json).unwrap_or_default());
    let _ = (read::<TrainReport>(json), read::<Opened>(json));
    let tensor = |shape: &[usize]| Array::f32(shape.to_vec(), vec![0.5; shape.iter().product()]);
    let tensors = [tensor(&[2, 3]), tensor(&[1]), tensor(&[])];
    // Graphs with none to three tensors.
    for count in 0..=tensors.len() {
        let named = tensors[..count].iter().flatten().cloned().enumerate();
        let answer = Answer {
            json: json.to_owned(),
            tensors: named.map(|(i, t)| (i.to_string(), t)).collect(),
        };
        if let Ok(graph) = decode_graph(answer) {
            assert!(graph.validate().is_ok());
        }
    }
}

/// A call-back: the operation, the tensors' names in a line, JSON.
pub fn call_backs(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let Some((names, json)) = text.split_once('\n') else {
        return;
    };
    let image = Array::f32([1, 1, 2, 2], vec![0.5; 4]);
    let named: Tensors = names
        .split(' ')
        .filter_map(|name| Some((name.to_owned(), image.clone().ok()?)))
        .collect();
    for op in [op::PROGRESS, op::CHECKPOINT, op::IMAGES, 0] {
        let call = Caller {
            op,
            session: 0,
            json,
            tensors: named.iter().map(|(n, t)| TensorRef::of(n, t)).collect(),
            host: None,
        };
        let answer = remote::call_back(&call, &mut Silent);
        if let (true, Ok(event)) = (op == op::PROGRESS, read::<Event>(json)) {
            assert!(answer.is_ok() || !named.is_empty(), "{event:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::TARGETS;

    #[test]
    fn inputs_that_were_searched_for_are_taken_or_refused() {
        let inputs = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/inputs");
        for (name, target) in TARGETS {
            let files = fs::read_dir(inputs.join(name)).unwrap();
            let count = files
                .map(|file| target(&fs::read(file.unwrap().path()).unwrap()))
                .count();
            assert!(count > 0, "there are no inputs for {name}");
        }
    }
}
