"""Models as ONNX files: written, checked, quantised and run. Needs the extra `onnx`."""
