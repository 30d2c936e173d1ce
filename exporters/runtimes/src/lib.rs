//! Runs ONNX files with tract, ONNX Runtime and candle-onnx behind one trait
