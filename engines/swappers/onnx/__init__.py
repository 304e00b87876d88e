"""A person's own swapper as an ONNX file: recognised by what it takes and gives, drawn with by a frozen contract."""
