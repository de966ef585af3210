"""What runs graphs: onnxruntime, the cores, processes for further devices."""
