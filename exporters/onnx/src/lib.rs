//! Turns graphs into checked ONNX files and bundles
